r"""Lower bounds on f with H ≥ 0, at any point, with their rounding errors.

The polar γ° of class averages (`ufm.variants.nonnegative.polar`) takes the place of ‖G‖₂:

    f ≥ −g*(θΓ̄) − θ²‖Γ̄1‖²/(2λ_b),   θ ≤ μ/γ°(Ḡ),

and likewise in the bounds without a conjugate (`ufm.certificates.dual_bounds`). For contrastive
losses with a profile φ that does not increase up to 0, convex or not, mean margins σ_i of z_i have

    γ(Z) ≥ Σ_i √((K−1)/(K n_{y_i})) (σ_i)₊.

So without a bias classes decouple, and for any class counts

    f ≥ Σ_k (n_k/N) min_{s≥0} [φ(s) + c_k s],   c_k = N μ √((K−1)/(K n_k)),

which is attained. With a bias and balanced classes, c_k = c₊ = μ√n √(K(K−1)), the bound is
`ufm.collapse.margin_loss.margin_bound`: where its multiplier term differs from that of H ≥ 0 both
decrease with φ, so that their minima agree.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.namespace import namespace, settled
from ufm.certificates.dual_bounds import duality_lower_bound
from ufm.certificates.dual_state import Bound, DualState, dual_state
from ufm.collapse.margin_loss import MarginLoss, margin_bound
from ufm.losses import Loss
from ufm.model.class_means import class_sizes, from_class_means, to_class_means
from ufm.model.objective import data_loss, gradient_at
from ufm.model.params import Params, norm
from ufm.model.problem import Problem
from ufm.variants.nonnegative.polar import bounded_polar, polar
from ufm.variants.nonnegative.projected_newton import projected

Scalar = Float[Array, ""]


def cone_state(problem: Problem, params: Params) -> DualState:
    """A point with γ° of its class averages as dual norm, and the norm of the projected gradient.

    `top_right` is the maximiser v ≥ 0 over samples, and `top_left` Gv/γ°.
    """
    state = dual_state(problem, params)
    means = to_class_means(problem, state.at.G)
    found = polar(means, jnp.linalg.norm(state.at.G))
    image = means @ found.vector
    size = jnp.linalg.norm(image)
    gradient = projected(params, gradient_at(problem, params, state.at.gamma))
    return state._replace(
        grad_norm=norm(gradient),
        dual_norm=found.value,
        dual_norm_bound=found.bound + state.versions.norm,
        top_left=image / jnp.where(size > 0, size, 1.0),
        top_right=from_class_means(problem, found.vector[None, :])[0],
    )


def proven_bound(problem: Problem, state: DualState) -> Bound:
    """The best proven bound: by duality, or from margins where that may be better."""
    bound = duality_lower_bound(problem, state, bounded_polar)
    if has_margin_bound(problem) and not has_dual(problem.loss):
        dtype = state.value.dtype
        margin = jnp.asarray(margin_lower_bound(problem), dtype)
        slack = 64 * float(jnp.finfo(dtype).eps) * jnp.asarray(problem.loss.smoothness()[0], dtype)
        logits = jnp.zeros((problem.num_outputs, problem.num_columns), dtype)
        slack = slack * (jnp.abs(margin) + data_loss(problem, logits)) + state.value_rounding
        best = ~(bound.lower >= margin - slack)
        pairs = zip((margin - slack, slack), bound, strict=True)
        bound = Bound(*(jnp.where(best, x, y) for x, y in pairs))
    known = (state.mu > 0) & ~jnp.isnan(bound.lower)
    return Bound(jnp.where(known, bound.lower, -jnp.inf), bound.rounding)


def has_dual(loss: Loss) -> bool:
    """Whether the dual bound is exact at a minimum."""
    return bool(loss.is_convex()) and loss.has_conjugate


def has_margin_bound(problem: Problem) -> bool:
    """Whether `margin_lower_bound` is known."""
    countable = problem.per_class is not None or not problem.has_bias
    return problem.loss.contrastive and not problem.has_targets and countable


class Margins(NamedTuple):
    """φ, the price c_k of a margin of each class, and its share n_k/N of the samples."""

    phi: MarginLoss
    prices: Float[Array | np.ndarray, " K"]
    shares: Float[Array | np.ndarray, " K"]


def margins(problem: Problem) -> Margins:
    """On the host if the problem is not traced, in double precision if there is one."""
    problem = settled(problem)
    xp, classes = namespace(problem.lam_w), problem.num_classes
    sizes = xp.asarray(class_sizes(problem))
    total, mu = xp.sum(sizes), problem.mu(sizes.dtype)
    prices = total * mu * xp.sqrt((classes - 1) / (classes * sizes))
    return Margins(MarginLoss(problem.loss, classes), prices, sizes / total)


def margin_lower_bound(problem: Problem) -> Float[Array | np.ndarray, ""]:
    """The bound from margins, but for rounding; −∞ if φ rises before 0."""
    phi, c, shares = margins(problem)
    lam_b = settled(problem).lam_b
    bound = (shares * margin_bound(phi, c if lam_b is None else c[0], lam_b)).sum()
    return namespace(c).where(phi.slope(0.0 * c[0]) <= 0.0, bound, -np.inf)
