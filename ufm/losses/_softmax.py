"""Losses of the label's probability alone, L = F(p_k), and cross-entropy, label smoothing, focal.

All formulas use the log-odds t = log Σ_{j≠k} exp(z_j − z_k) against the label and the distribution
q over the other classes: 1 − p_k = σ(t) and p_j = σ(t) q_j. Values are therefore finite and
relatively accurate for |z| up to 1e4 and for p_k or 1 − p_k down to 1e-300, where the textbook
forms round to 0, 1 or NaN.

All have the form L = ℓ(t) + a Σ_j (z_k − z_j), with a = 0 except for label smoothing, and

    ∇L = ℓ'(t) (q − e_k) − a (1 − K e_k),
    ∇²L = ℓ'(t) (diag q − qqᵀ) + ℓ''(t) (q − e_k)(q − e_k)ᵀ.

A loss defines ℓ, ℓ', ℓ'' and a, which accept NumPy's numbers on the host and tracers in a program.
Since ℓ' ≥ 0, L is convex exactly where ℓ''(t) ≥ 0. At equal rivals t = log(K−1) − s, so that the
profile, the loss at equal margins s, is convex at the same t.
"""

import abc
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from ufm._support.bisection import bracket
from ufm._support.namespace import log_sigmoid, namespace, sigmoid, softplus
from ufm._support.pytree import pytree, set_hyperparameter
from ufm.losses._base import Hyper, Label, Logits, Loss, Scalar, label_mask, show, total


def log_odds(z: Logits, label: Label) -> tuple[Scalar, Logits]:
    """t = log Σ_{j≠k} exp(z_j − z_k) and q = softmax of the other logits (0 on the label)."""
    on_label = label_mask(z, label)
    # t and q do not depend on the shift before exp, so neither may their derivatives.
    top = jax.lax.stop_gradient(jnp.max(jnp.where(on_label, -jnp.inf, z)))
    # Keep the label's entry out of exp: exp(-inf) has a value but the derivative NaN.
    weights = jnp.where(on_label, 0.0, jnp.exp(jnp.where(on_label, 0.0, z - top)))
    size = jnp.sum(weights)
    z_label = jnp.sum(jnp.where(on_label, z, 0.0))
    return (top - z_label) + jnp.log(size), weights / size


def largest_entry(p: Logits) -> Logits:
    """The indicator of the largest entry."""
    largest = jnp.arange(p.shape[0], dtype=jnp.int32) == jnp.argmax(p).astype(jnp.int32)
    return largest.astype(p.dtype)


def softmax_product(p: Logits, largest: Logits, x: Logits) -> Logits:
    """(diag p − p pᵀ) x, accurate relative to its own size, even for p close to a corner.

    The matrix annihilates constants, so x may be shifted by its entry at the largest
    probability. The large terms of x_j − pᵀx then do not cancel. There the shifted entry is 0 by a
    factor: of x = D ⊙ y a compiler may subtract a rounded product from one that it did not round.
    """
    shifted = (1.0 - largest) * (x - total(largest * x))
    return p * (shifted - total(p * shifted))


def negative_entropy(dual: Logits, target: Logits) -> Scalar:
    p = dual + target
    outside = jnp.any(p < -16 * float(jnp.finfo(p.dtype).eps))
    p = jnp.maximum(p, 0.0)  # rounding at the boundary of the simplex
    return jnp.where(outside, jnp.inf, jnp.sum(xlogy(p, p)))


def entropy_slope(dual: Logits, target: Logits, error: Logits) -> Scalar:
    """max_j |1 + log p_j| over all p within `error` of γ + target, ∞ if one may be negative."""
    least = dual + target - error
    inside = jnp.min(least) > 0
    return jnp.where(inside, 1.0 - jnp.log(jnp.where(inside, jnp.min(least), 1.0)), jnp.inf)


def entropy_rounding(dual: Logits, target: Logits) -> Scalar:
    smallest = float(jnp.finfo(dual.dtype).tiny)
    log_p = jnp.log(jnp.maximum(dual + target, smallest))
    return jnp.sum((jnp.abs(dual) + target) * (1.0 + jnp.abs(log_p)))


class SoftmaxLoss(Loss):
    """A loss that is nondecreasing in the log-odds, except for a tilt.

    Its profile is concave up to one margin and convex beyond it.
    """

    shift_invariant = True
    contrastive = True

    @abc.abstractmethod
    def of_log_odds(self, t: Any) -> Any:
        """ℓ(t), elementwise."""

    @abc.abstractmethod
    def log_odds_slope(self, t: Any) -> Any:
        """ℓ'(t) ≥ 0, elementwise."""

    @abc.abstractmethod
    def log_odds_curvature(self, t: Any) -> Any:
        """ℓ''(t), elementwise."""

    def tilt(self, num_classes: int) -> Any:
        """a; None if it is 0 by definition."""
        return None

    def is_convex(self) -> bool:
        return False  # except where p_k ≥ convex_above()

    def profile(self, s: Any, num_classes: int) -> Any:
        value, a = self.of_log_odds(math.log(num_classes - 1) - s), self.tilt(num_classes)
        return value if a is None else value + a * ((num_classes - 1) * s)

    def profile_slope(self, s: Any, num_classes: int) -> Any:
        slope, a = -self.log_odds_slope(math.log(num_classes - 1) - s), self.tilt(num_classes)
        return slope if a is None else slope + a * (num_classes - 1)

    def profile_convex_above(self, num_classes: int) -> Any:
        return self.convex_above()

    def value(self, z: Logits, label: Label) -> Scalar:
        t, _ = log_odds(z, label)
        value, a = self.of_log_odds(t), self.tilt(z.shape[0])
        if a is None:
            return value
        z_label = jnp.sum(jnp.where(label_mask(z, label), z, 0.0))
        return value + jnp.asarray(a, z.dtype) * jnp.sum(z_label - z)

    def gradient(self, z: Logits, label: Label) -> Logits:
        t, q = log_odds(z, label)
        on_label = label_mask(z, label).astype(z.dtype)
        gradient, a = self.log_odds_slope(t) * (q - on_label), self.tilt(z.shape[0])
        if a is None:
            return gradient
        return gradient - jnp.asarray(a, z.dtype) * (1.0 - z.shape[0] * on_label)

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        # ℓ'(t)(q − e_k) is relatively accurate, except for the error of the logits.
        return (1.0 + jnp.linalg.norm(size)) * jnp.linalg.norm(self.gradient(z, label))

    def curvature(self, z: Logits, label: Label) -> Any:
        t, q = log_odds(z, label)
        away = q - label_mask(z, label).astype(z.dtype)
        return q, largest_entry(q), self.log_odds_slope(t), self.log_odds_curvature(t), away

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        q, largest, first, second, away = curvature
        return first * softmax_product(q, largest, x) + second * away * total(away * x)

    def rounding(self, z: Logits, label: Label) -> Scalar:
        t, _ = log_odds(z, label)
        # dL/dt is the largest |∂L/∂z_j|, and t a difference of logits plus the logarithm of a sum.
        return jnp.abs(self.value(z, label)) + self.log_odds_slope(t) * (
            2.0 * jnp.max(jnp.abs(z)) + jnp.abs(t) + 1.0
        )


class _SmoothedCrossEntropy(SoftmaxLoss):
    """Cross-entropy against the targets ŷ = e_k − a (K e_k − 1)."""

    has_conjugate: ClassVar[bool] = True

    def is_convex(self) -> bool:
        return True

    def of_log_odds(self, t: Any) -> Any:
        return softplus(t)

    def log_odds_slope(self, t: Any) -> Any:
        return sigmoid(t)

    def log_odds_curvature(self, t: Any) -> Any:
        return sigmoid(t) * sigmoid(-t)

    def curvature(self, z: Logits, label: Label) -> Any:
        # ∇²L = diag p − ppᵀ takes half the arithmetic of the general form.
        t, q = log_odds(z, label)
        p = jnp.where(label_mask(z, label), sigmoid(-t), sigmoid(t) * q)
        return p, largest_entry(p)

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        p, largest = curvature
        return softmax_product(p, largest, x)

    def conjugate(self, dual: Logits, label: Label) -> Scalar:
        """L*(γ) = Σ_j p_j log p_j with p = γ + ŷ on the simplex."""
        return negative_entropy(dual, self._target(dual, label))

    def conjugate_rounding(self, dual: Logits, label: Label) -> Scalar:
        return entropy_rounding(dual, self._target(dual, label))

    def conjugate_slope(self, dual: Logits, label: Label, error: Logits) -> Scalar:
        return entropy_slope(dual, self._target(dual, label), error)

    def _target(self, z: Logits, label: Label) -> Logits:
        on_label, a = label_mask(z, label).astype(z.dtype), self.tilt(z.shape[0])
        if a is None:
            return on_label
        a = jnp.asarray(a, z.dtype)
        return a * (1.0 - on_label) + (1.0 - (z.shape[0] - 1) * a) * on_label


@pytree(eq=True)
class CrossEntropy(_SmoothedCrossEntropy):
    """Cross-entropy: L = −log p_k."""

    name: ClassVar[str] = "CE"

    def margin_slope(self) -> float:
        return 1.0


@pytree(eq=True)
class LabelSmoothing(_SmoothedCrossEntropy):
    """Cross-entropy against smoothed labels: L = −Σ_j ŷ_j log p_j, ŷ = (1−α) e_k + (α/K) 1.

    Raises `ValueError` unless 0 ≤ alpha < 1.
    """

    alpha: Hyper
    name: ClassVar[str] = "LS"

    def __post_init__(self) -> None:
        set_hyperparameter(self, "alpha", lambda a: (a >= 0) & (a < 1), "in [0, 1)")

    def tilt(self, num_classes: int) -> Any:
        return self.alpha / num_classes

    def rounding(self, z: Logits, label: Label) -> Scalar:
        # Probability and target cancel in the gradient, but their rounding errors do not.
        t, _ = log_odds(z, label)
        size = 2.0 * jnp.max(jnp.abs(z)) + jnp.abs(t) + 1.0
        weight = jnp.asarray(self.alpha, z.dtype)
        return softplus(t) + (sigmoid(t) + weight) * size

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        # Probabilities minus targets: a small difference of larger numbers.
        t, _ = log_odds(z, label)
        weight = jnp.asarray(self.alpha, z.dtype)
        return 2.0 * (1.0 + jnp.linalg.norm(size)) * sigmoid(t) + weight

    def margin_slope(self) -> Scalar | float:
        return 1.0 - self.alpha

    def label(self) -> str:
        return f"LS(α={show(self.alpha)})"


@pytree(eq=True)
class Focal(SoftmaxLoss):
    """Focal loss (Lin et al., 2017): L = ψ(ℓ) = (1 − p_k)^γ ℓ.

    With u = 1 − p_k and r = ℓ/u, in the log-odds t:  dL/dt = u^(γ+1) (1 + γ p_k r) and
    d²L/dt² = p_k u^(γ+1) (1 + 2γ − γℓ + γ² p_k r).
    All limits at p_k → 1 are finite for every γ ≥ 0. Raises `ValueError` for gamma < 0.
    """

    gamma: Hyper
    name: ClassVar[str] = "FL"

    def __post_init__(self) -> None:
        set_hyperparameter(self, "gamma", lambda g: g >= 0, "non-negative and finite")

    def of_log_odds(self, t: Any) -> Any:
        gamma = namespace(t).asarray(self.gamma, t.dtype)
        return namespace(t).exp(gamma * log_sigmoid(t)) * softplus(t)

    def log_odds_slope(self, t: Any) -> Any:
        gamma = namespace(t).asarray(self.gamma, t.dtype)
        power = namespace(t).exp((gamma + 1.0) * log_sigmoid(t))
        return power * (1.0 + gamma * sigmoid(-t) * self._ratio(t))

    def log_odds_curvature(self, t: Any) -> Any:
        gamma, p_label = namespace(t).asarray(self.gamma, t.dtype), sigmoid(-t)
        power = namespace(t).exp((gamma + 1.0) * log_sigmoid(t))
        bracket = 1.0 + 2.0 * gamma - gamma * softplus(t) + gamma**2 * p_label * self._ratio(t)
        return p_label * power * bracket

    def _ratio(self, t: Any) -> Any:
        """ℓ/u → 1 as u → 0; below t = −30 its expansion 1 + u/2 is exact to the last bit."""
        xp, tiny = namespace(t), t < -30.0
        ratio = softplus(t) / sigmoid(xp.where(tiny, 0.0, t))
        return xp.where(tiny, 1.0 + 0.5 * xp.exp(xp.minimum(t, 0.0)), ratio)

    def far_slope(self) -> float:
        return 1.0

    def gradient_rounding(self, z: Logits, label: Label, size: Logits) -> Scalar:
        # (1 − p)^γ has its own condition number.
        return (1.0 + jnp.asarray(self.gamma, z.dtype)) * super().gradient_rounding(z, label, size)

    def rounding(self, z: Logits, label: Label) -> Scalar:
        t, _ = log_odds(z, label)
        power = 1.0 + jnp.asarray(self.gamma, z.dtype) * jnp.abs(log_sigmoid(t))
        return super().rounding(z, label) * power

    def smoothness(self) -> tuple[Scalar | float, Scalar | float]:
        # ψ' ≤ 1 + γ, and ψ'' ‖p − e_k‖² ≤ 2γ p u^(γ+1) (2 + ℓ + |γ−1|) ≤ 1 + γ; one more derivative
        # adds at most another factor 1 + γ.
        return 1.5 * (1.0 + self.gamma), (1.0 + self.gamma) ** 2

    def convex_above(self) -> Any:
        """p*(γ): L is convex exactly on {p_k ≥ p*}, for every K.

        p* is the root of 1 + 2γ − γℓ + γ² pℓ/(1−p), ℓ = −log p, which increases in p, so the
        root is unique for every γ > 0, and ℓ* lies in [0, 1/γ + 2 + γ]. Zero for γ = 0.
        """
        xp = namespace(self.gamma)
        gamma = xp.asarray(self.gamma, jnp.result_type(float) if xp is jnp else float)
        safe = xp.where(gamma > 0, gamma, 1.0)

        def bent(loss: Any) -> Any:
            odds = 1.0 / xp.expm1(loss)  # p / (1 − p)
            return 1.0 + 2.0 * safe - safe * loss + safe**2 * odds * loss < 0.0

        # The convex end of the bracket, so that the claimed region is convex.
        loss, _ = bracket(bent, xp.zeros_like(safe), 1.0 / safe + 2.0 + safe)
        return xp.where(gamma > 0, xp.exp(-loss), 0.0)

    def label(self) -> str:
        return f"FL(γ={show(self.gamma)})"
