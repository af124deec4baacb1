r"""The conjugate of a loss of the log-odds t = log Σ_{j≠k} exp(z_j − z_k), from ℓ alone.

At fixed t the best logits of the rivals are z_j = z_k + t + log(γ_j/w), w = Σ_{j≠k} γ_j = −γ_k, so
that one variable is left:

    L*(γ) = sup_z γᵀz − ℓ(t) = Σ_{j≠k} γ_j log(γ_j/w) + sup_t [w t − ℓ(t)],   γ_j ≥ 0 for j ≠ k.

The supremum over t is infinite for w > ℓ'(∞). Else it is where ℓ' = w on the convex part of ℓ, as
w t − ℓ(t) decreases on the concave part, where ℓ' ≥ ℓ'(∞). Convexity of ℓ is not needed, nor is it
for L(z) ≥ γᵀz − L*(γ); but only where ℓ is convex is there a dual point with equality.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array

from ufm._support.bisection import bisect
from ufm._support.quick_jit import is_traced
from ufm.losses._base import Label, Logits, Scalar, label_mask
from ufm.losses._softmax import SoftmaxLoss

#: Log-odds beyond which ℓ' differs from its limits by less than the smallest numbers.
_LOWEST, _HIGHEST = -745.0, 80.0


class OddsConjugate(SoftmaxLoss):
    """A loss ℓ(t) without tilt and with ℓ'(∞) > 0, which is convex for some hyperparameters."""

    has_conjugate: ClassVar[bool] = True

    def is_convex(self) -> bool:
        """Whether L is convex; False in a program, which does not know the hyperparameters."""
        return not is_traced(self) and bool(np.all(np.asarray(self.convex_above()) == 0.0))

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ), see the module; γ sums to 0."""
        room = 16 * float(jnp.finfo(dual.dtype).eps)
        rivals = jnp.where(label_mask(dual, label), 0.0, dual)
        weight, steepest = jnp.sum(jnp.maximum(rivals, 0.0)), self._far_slope(dual)
        outside = jnp.any(rivals < -room) | (weight > steepest * (1.0 + room))
        weight = jnp.minimum(weight, steepest)
        t, shares = self._odds_of_slope(weight), jnp.maximum(rivals, 0.0)
        entropy = jnp.sum(xlogy(shares, shares / jnp.where(weight > 0, weight, 1.0)))
        return jnp.where(outside, jnp.inf, entropy + (weight * t - self.of_log_odds(t)))

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        # An error ε of ℓ' moves the supremum by at most ε times the distance from the exact t,
        # which is large only where t itself is.
        shares = jnp.maximum(jnp.where(label_mask(dual, label), 0.0, dual), 0.0)
        weight = jnp.sum(shares)
        t = self._odds_of_slope(jnp.minimum(weight, self._far_slope(dual)))
        logs = xlogy(shares, jnp.where(shares > 0, shares / weight, 1.0))
        return jnp.sum(shares + jnp.abs(logs)) + weight * (2.0 + jnp.abs(t)) + self.of_log_odds(t)

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        # ∂L*/∂γ_j = t + log(γ_j/w), up to a constant.
        on_label = label_mask(dual, label)
        least = jnp.min(jnp.where(on_label, jnp.inf, dual - error))
        weight, far = jnp.sum(jnp.where(on_label, 0.0, dual)), jnp.sum(error)
        ends = jnp.stack([jnp.maximum(weight - far, 0.0), weight + far])
        inside = (least > 0) & (ends[1] < self._far_slope(dual))
        logs = jnp.log(ends[1]) - jnp.log(jnp.where(inside, least, 1.0))
        t = jax.vmap(self._odds_of_slope)(ends)
        return jnp.where(inside, jnp.max(jnp.abs(t)) + logs, jnp.inf)

    def _far_slope(self, like: Array) -> Scalar:
        return jnp.asarray(self.far_slope(), like.dtype)

    def _odds_of_slope(self, weight: Scalar) -> Scalar:
        """The t on the convex part of ℓ with ℓ'(t) = w, for w ≤ ℓ'(∞)."""
        edge = jnp.asarray(self.convex_above(), weight.dtype)
        safe = jnp.where(edge > 0, edge, 0.5)
        bend = jnp.where(edge > 0, jnp.log1p(-safe) - jnp.log(safe), _HIGHEST)
        low = jnp.full_like(weight, _LOWEST)
        high = jnp.minimum(bend, jnp.full_like(weight, _HIGHEST))
        return bisect(lambda t: self.log_odds_slope(t) >= weight, low, high)
