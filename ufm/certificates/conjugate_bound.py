r"""The lower bound from a conjugate: the best multiple of the class averages of a dual point.

    f ≥ −g*(θΓ) − θ²‖Γ1‖²/(2λ_b),   θ ≤ μ/‖G‖₂,   g*(Γ) = Σ_i ω_i L*(Γ_i/ω_i),

with the columns of the problem of class means (`ufm.certificates.dual_bounds`). If factors are
confined, the polar of their penalty takes the place of ‖·‖₂, as `DualNorm`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ufm._support.convex_search import least_points
from ufm.certificates.dual_state import Bound, DualState
from ufm.model.class_means import class_sizes, reduced_problem, to_class_means
from ufm.model.objective import feature_gradient, scale_by_weights
from ufm.model.problem import Problem
from ufm.model.rounding import bounded_spectral_norm, machine_epsilon, row_sums

Scalar = Float[Array, ""]
#: Of G, given ‖·‖_F of the numbers that G was computed from: the dual norm as computed, an upper
#: bound that allows for rounding and for errors of G relative to that norm, and a vector.
DualNorm = Callable[[Float[Array, "K n"], Scalar], tuple[Scalar, Scalar, Any]]

#: Multiples of a dual point are searched for up to this number.
_LARGEST_MULTIPLE = 1e6


class _Duals(NamedTuple):
    """Directions Γ of dual points θΓ of the K-column problem, and what their bounds depend on."""

    gamma: Float[Array, "m K n"]
    #: Their dual norms, and upper bounds on those.
    sigma: Float[Array, " m"]
    sigma_bound: Float[Array, " m"]
    #: r = Γ1, exactly 0 where Γ is centred, and a bound on its error.
    row_sums: Float[Array, "m K"]
    row_errors: Float[Array, "m K"]
    centred: Bool[Array, " m"]


def conjugate_bound(
    problem: Problem, state: DualState, dual_norm: DualNorm = bounded_spectral_norm
) -> Bound:
    """The best bound from multiples of the class averages of Γ, and of those after centring."""
    # By Jensen's inequality averages bound at least as well, and their dual norm is not larger.
    small = reduced_problem(problem)
    roots = jnp.sqrt(small.samples(state.value.dtype))
    gamma = to_class_means(problem, state.at.G) * roots[None, :]
    duals = _duals(small, state, gamma, dual_norm)
    feasible = state.mu * (1.0 - 8 * machine_epsilon(state.mu))
    # The largest θ that the upper bounds on the dual norms allow.
    limits = feasible / jnp.where(duals.sigma_bound > 0, duals.sigma_bound, feasible)
    limits = jnp.minimum(limits, _LARGEST_MULTIPLE)
    bias_range = _bias_range(problem, state) if problem.has_bias else None
    best = least_points(lambda thetas: _costs(small, duals, thetas, bias_range), limits)
    # θ = min(1, limit) is exact at a minimum.
    thetas = jnp.stack([jnp.minimum(1.0, limits), best], axis=1).reshape(-1)
    both = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), duals)
    bounds = _bounds(small, state, both, thetas, jnp.repeat(limits, 2), bias_range)
    highest = jnp.argmax(jnp.where(jnp.isnan(bounds.lower), -jnp.inf, bounds.lower))
    return Bound(bounds.lower[highest], bounds.rounding[highest])


def _duals(
    problem: Problem, state: DualState, gamma: Float[Array, "K n"], dual_norm: DualNorm
) -> _Duals:
    """Γ, and with a bias also Γ − r ωᵀ, whose row sums are 0, so that the bias term vanishes.

    At λ_b = 0 no other point is feasible for MSE. For the softmax losses this one is better to
    first order, unless a probability p − r becomes negative.
    """
    entries, noise = jnp.linalg.norm(state.at.G), state.versions.norm
    sums, errors = row_sums(gamma, state.versions)
    sigma, bound, _ = dual_norm(feature_gradient(problem, gamma), entries)
    plain = _Duals(gamma, sigma, bound + noise, sums, errors, jnp.asarray(False))
    if not problem.has_bias:
        return jax.tree.map(lambda x: x[None], plain)
    share = scale_by_weights(problem, jnp.ones_like(gamma))
    moved = gamma - sums[:, None] * share
    sigma, bound, _ = dual_norm(feature_gradient(problem, moved), entries)
    # For a free bias row sums must be exactly 0 (`_bias_terms`): add the distance to such a point.
    way = jnp.linalg.norm(feature_gradient(problem, errors[:, None] * share))
    bound += jnp.where(jnp.asarray(problem.lam_b, bound.dtype) == 0, way, 0.0)
    # Centring subtracts, which at most doubles the errors of the entries.
    bound += 2 * noise
    centred = _Duals(moved, sigma, bound, jnp.zeros_like(sums), errors, jnp.asarray(True))
    return jax.tree.map(lambda *x: jnp.stack(x), plain, centred)


def _costs(
    problem: Problem, duals: _Duals, thetas: Float[Array, " m"], bias_range: Scalar | None
) -> Float[Array, " m"]:
    """What the bounds from θΓ subtract, but for rounding: convex functions of θ."""
    points = thetas[:, None, None] * duals.gamma
    conjugate = _sums(problem, problem.loss.conjugate, points)
    if bias_range is None:
        return conjugate
    lam_b = jnp.asarray(problem.lam_b, thetas.dtype)
    squares, sizes = jnp.sum(duals.row_sums**2, axis=1), jnp.sum(jnp.abs(duals.row_sums), axis=1)
    decayed = thetas**2 * (0.5 * squares / jnp.where(lam_b > 0, lam_b, 1.0))
    # Without row sums the bias costs nothing, even if its range is infinite.
    free = thetas * jnp.where(sizes > 0, 0.5 * sizes * bias_range, 0.0)
    return conjugate + jnp.where(lam_b > 0, decayed, free)


def _bounds(
    problem: Problem,
    state: DualState,
    duals: _Duals,
    thetas: Float[Array, " m"],
    limits: Float[Array, " m"],
    bias_range: Scalar | None,
) -> Bound:
    """The bounds from the dual points θΓ."""
    points = thetas[:, None, None] * duals.gamma
    conjugate = _sums(problem, problem.loss.conjugate, points)
    errors = _sums(problem, problem.loss.conjugate_rounding, points)
    terms = problem.num_columns + problem.num_outputs + 16
    rounding = machine_epsilon(thetas) * terms * errors + state.value_rounding
    bias, bias_rounding = _bias_terms(problem, duals, thetas, points, bias_range)
    lower = -conjugate - bias - rounding
    # The effect of rounding up the dual norm counts as rounding, although it is in the bound.
    exact = jnp.minimum(1.0, state.mu / jnp.where(duals.sigma > 0, duals.sigma, 1.0))
    inflation = jnp.where(thetas < limits, 0.0, jnp.maximum(exact - thetas, 0.0))
    inner = jnp.abs(jnp.sum(state.at.gamma * state.at.V)) + jnp.abs(state.value)
    return Bound(lower, rounding + bias_rounding + inflation * inner)


def _sums(problem: Problem, method: Any, points: Float[Array, "*m K n"]) -> Float[Array, "*m"]:
    """Σ_i ω_i method(Γ_i/ω_i, i) at many dual points Γ."""
    samples = problem.samples(points.dtype)
    shares = samples / jnp.sum(samples)
    found = _per_class(problem, method, points)
    return jnp.sum(found * jnp.broadcast_to(shares, found.shape), axis=-1)


def _per_class(
    problem: Problem, method: Any, points: Float[Array, "*m K n"], *rest: Float[Array, "*m K n"]
) -> Float[Array, "*m n"]:
    """Map a method of the loss over the columns Γ_i/ω_i of many dual points Γ."""
    samples, outputs = problem.samples(points.dtype), problem.num_outputs
    units = points * jnp.broadcast_to(jnp.sum(samples) / samples, points.shape)
    # One axis of columns, which takes a fraction of the time that nested maps take to trace.
    columns = [jnp.swapaxes(x, -1, -2).reshape(-1, outputs) for x in (units, *rest)]
    labels = np.resize(problem.labels, len(columns[0]))
    found = jax.vmap(method)(columns[0], jnp.asarray(labels), *columns[1:])
    return found.reshape(*points.shape[:-2], points.shape[-1])


def _bias_terms(
    problem: Problem,
    duals: _Duals,
    thetas: Float[Array, " m"],
    points: Float[Array, "m K n"],
    bias_range: Scalar | None,
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """θ²‖r‖²/(2λ_b), or its replacement for a free bias, and the rounding parts of both."""
    if bias_range is None:
        return jnp.zeros_like(thetas), jnp.zeros_like(thetas)
    lam_b = jnp.asarray(problem.lam_b, thetas.dtype)
    r, error = thetas[:, None] * duals.row_sums, thetas[:, None] * duals.row_errors
    decayed, decayed_rounding = decayed_bias(r, error, lam_b)
    # Sum before multiplying, because the range may be infinite and row sums may be 0.
    free = 0.5 * jnp.sum(jnp.abs(r) + error, axis=-1) * bias_range
    free_rounding = 0.5 * jnp.sum(error, axis=-1) * bias_range
    # A dual point with row sums of exactly 0 lies within the error of a centred one. Moving there
    # costs at most the slope of the conjugate, and needs no bound on the bias.
    moves = jnp.broadcast_to(error[:, :, None], points.shape)
    slopes = jnp.max(_per_class(problem, problem.loss.conjugate_slope, points, moves), axis=-1)
    by_slope = jnp.minimum(free_rounding, jnp.sum(error, axis=-1) * slopes)
    free, free_rounding = (jnp.where(duals.centred, by_slope, x) for x in (free, free_rounding))
    return (
        jnp.where(lam_b > 0, decayed, free),
        jnp.where(lam_b > 0, decayed_rounding, free_rounding),
    )


def _bias_range(problem: Problem, state: DualState) -> Scalar:
    """B, a bound on max b* − min b* at λ_b = 0 for points with at most this value."""
    slope = problem.loss.margin_slope()
    if slope is None:
        return jnp.full_like(state.value, jnp.inf)
    value = state.value + state.value_rounding
    smallest = smallest_class(problem, value)
    total = jnp.sum(problem.samples(value.dtype))
    spread = value * total / (smallest * jnp.asarray(slope, value.dtype))
    return spread + value / state.mu * (2.0 / smallest) ** 0.5


def decayed_bias(r: Array, error: Array, lam_b: Scalar) -> tuple[Array, Array]:
    """‖r‖²/(2λ_b) with r known to within `error`: an upper bound, and its rounding part."""
    safe = jnp.where(lam_b > 0, lam_b, 1.0)
    size, slack = jnp.linalg.norm(r, axis=-1), jnp.linalg.norm(error, axis=-1)
    return 0.5 * (size + slack) ** 2 / safe, (size + slack) * slack / safe


def smallest_class(problem: Problem, like: Array) -> Scalar:
    """n_min, counting column weights."""
    return jnp.min(class_sizes(problem, like.dtype))
