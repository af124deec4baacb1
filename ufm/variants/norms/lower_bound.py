r"""The lower bound on f at a point, from the class means, with its rounding error.

The bound of `ufm.variants.norms.dual` at the logits of the class means. A free bias (λ_b = 0) needs
a bound on the bias at any point that is not above this one, since −⟨Γ1, b⟩ replaces the term of a
decayed one. With |Z| ≤ ρ at such points:

- L ≥ σ (max_j v_j − v_k): max b − min b ≤ f/(ω_min σ) + √2 ρ/(τ √n_min), and 1ᵀΓ1 = 0;
- MSE: ‖b‖ ≤ √(2f/min(κ, 1)) + M + ρ/(τ √N).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.certificates.conjugate_bound import decayed_bias, smallest_class
from ufm.certificates.dual_bounds import has_convex_region
from ufm.certificates.dual_state import Bound
from ufm.losses import MSE, CrossEntropy
from ufm.model.evaluation import Evaluated, evaluated
from ufm.model.objective import matmul, per_column
from ufm.model.problem import Params, Problem
from ufm.model.rounding import (
    column_sums,
    gradient_versions,
    machine_epsilon,
    row_sums,
    value_rounding,
)
from ufm.variants.norms.dual import support
from ufm.variants.norms.sets import Bounded, Given, sets

Scalar = Float[Array, ""]


def lower_bound(small: Problem, means: Params, value: Scalar) -> tuple[Bound, Evaluated]:
    """A lower bound on f over the hull, for points not above `value`; the point's evaluation.

    `small` is the problem of the class means (`ufm.variants.norms.means`), `means` the point. For a
    loss that is convex on a convex region only, the bound holds for points of that region.
    """
    at, loss = evaluated(small, means), small.loss
    if not (loss.is_convex() or has_convex_region(loss)) or loss.infimum() is None:
        return Bound(jnp.full_like(value, -jnp.inf), jnp.zeros_like(value)), at
    sums = column_sums(small, at)
    versions = gradient_versions(sums)
    cost, rounding = support(small, means, at.G)
    products = at.gamma * at.V
    eps, terms = machine_epsilon(value), products.size + 16
    rounding += value_rounding(small, means, sums) + terms * eps * jnp.sum(jnp.abs(products))
    # The exact ∇g(V) differs from Γ, which costs its distance times that of Z to other points.
    largest = _largest_logits(small, value)
    distance = largest + jnp.linalg.norm(matmul(means.W, means.H))
    rounding += (64 * eps * jnp.linalg.norm(at.G) + versions.norm) * distance
    bias = jnp.zeros_like(value)
    if means.b is not None:
        lam_b = jnp.asarray(small.lam_b, value.dtype)
        r, error = row_sums(at.gamma, versions)
        decayed, slack = decayed_bias(r, error, lam_b)
        span = _bias_span(small, value, largest)
        free = 0.5 * (jnp.sum(jnp.abs(r)) + jnp.sum(error)) * span
        bias = jnp.where(lam_b > 0, decayed, free)
        rounding += jnp.where(lam_b > 0, slack, 0.5 * jnp.sum(error) * span)
        rounding += jnp.linalg.norm(error) * jnp.linalg.norm(means.b)
    lower = sums.value - jnp.sum(products) - cost - bias - rounding
    return Bound(jnp.where(jnp.isnan(lower), -jnp.inf, lower), rounding), at


def is_inside(problem: Problem, at: Evaluated) -> Array:
    """Whether every sample is in the region of convexity, with a margin for rounding."""
    if not has_convex_region(problem.loss):
        return jnp.asarray(False)
    worst = jnp.max(per_column(CrossEntropy().value, problem, at.V))
    limit = -jnp.log(jnp.asarray(problem.loss.convex_above(), worst.dtype))
    return worst < limit - (1e-6 + 1e3 * machine_epsilon(worst) * (1.0 + jnp.max(jnp.abs(at.V))))


def _largest_logits(problem: Problem, value: Scalar) -> Scalar:
    """ρ ≥ ‖W‖ ‖H‖ at points of the sets that are not above `value`."""
    decays = problem.decays(value.dtype)
    excess = jnp.maximum(value - (problem.loss.infimum() or 0.0), 0.0)

    def largest(set_: Any, decay: Scalar) -> Scalar:
        if isinstance(set_, Bounded):
            return jnp.sqrt(jnp.sum(set_.radius**2))
        if isinstance(set_, Given):
            return jnp.linalg.norm(set_.matrix)
        return jnp.sqrt(2.0 * excess / decay)

    of_w, of_h = sets(problem, value.dtype)
    return largest(of_w, decays[0]) * largest(of_h, decays[1])


def _bias_span(problem: Problem, value: Scalar, largest: Scalar) -> Scalar:
    """A bound on max b − min b, or on 2‖b‖ for MSE, at λ_b = 0; ∞ if none is known."""
    dtype, loss = value.dtype, problem.loss
    total = jnp.sum(problem.samples(dtype))
    cooled = largest
    if problem.temperature is not None:
        cooled = largest / jnp.asarray(problem.temperature, dtype)
    if isinstance(loss, MSE) and not problem.has_targets:
        least = jnp.minimum(jnp.asarray(loss.scale, dtype), 1.0)
        size = jnp.sqrt(2.0 * value / least) + jnp.asarray(loss.target, dtype)
        return 2.0 * (size + cooled / jnp.sqrt(total))
    slope = loss.margin_slope()
    if slope is None or not loss.shift_invariant:
        return jnp.full_like(value, jnp.inf)
    smallest = smallest_class(problem, value)
    span = value * total / (smallest * jnp.asarray(slope, dtype))
    return span + (2.0 / smallest) ** 0.5 * cooled
