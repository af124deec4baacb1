r"""Lower bounds on f* from any point, by convex duality, with their rounding errors.

For all factorisations f(W,H,b) ≥ g(Z + b1ᵀ) + μ‖Z‖_* + λ_b/2 ‖b‖², which is convex in (Z, b) if g
is convex. Every dual point Γ (K×N) with ‖G‖₂ ≤ μ, G = Γ diag(1/√c), therefore bounds f from below:

    f ≥ −g*(Γ) − ‖r‖²/(2λ_b),   r = Γ1,   g*(Γ) = Σ_i ω_i L*(Γ_i/ω_i).

The dual point used is θ∇g(V), θ = min(1, μ/‖G‖₂). At a global minimum it is optimal. Other cases:

- no conjugate known, g convex, L ≥ ℓ₀:
  f ≥ g(V) − ⟨Γ,V⟩ − ‖r‖²/(2λ_b) − (‖G‖₂−μ)₊ (f−ℓ₀)/μ;
- free bias (λ_b = 0), CE and LS: −‖r‖²/(2λ_b) becomes −θ ½‖r‖₁ B with B a bound on the range of an
  optimal bias, B = f/(ω_min (1−α)) + (f/μ) √(2/n_min);
- Γ − r ωᵀ has row sums 0, so that its bias term vanishes for every λ_b ≥ 0. It is always feasible
  for MSE, and for CE and LS unless a probability becomes negative. The better of the two bounds is
  used;
- the focal loss on {p_y ≥ p*}, where it is convex: the bound without a conjugate holds for all
  points of that region (`region_lower_bound`).

Every number has a bound on its own rounding error (`ufm.model.rounding`), which covers versions of
Γ that a compiler computes with different digits. The dual norm is rounded up before it is used.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.losses import CrossEntropy
from ufm.model.evaluation import Evaluated, evaluated
from ufm.model.problem import (
    Params,
    Problem,
    data_loss,
    feature_gradient,
    gradient_at,
    matmul,
    norm,
    penalty,
    per_column,
    scale_by_weights,
    weighted_sum,
)
from ufm.model.rounding import (
    GradientVersions,
    bounded_spectral_norm,
    column_sums,
    gradient_versions,
    machine_epsilon,
    row_sums,
    value_rounding,
)

Scalar = Float[Array, ""]


class DualState(NamedTuple):
    """A point of the problem with the quantities of its dual."""

    at: Evaluated
    value: Scalar
    #: Bound on the rounding error of `value`.
    value_rounding: Scalar
    #: Bounds on the distance between two versions of Γ.
    versions: GradientVersions
    grad_norm: Scalar
    mu: Scalar
    #: ‖G‖₂ as computed, and a rigorous upper bound on it.
    dual_norm: Scalar
    dual_norm_bound: Scalar
    #: Top left and right singular vectors of G.
    top_left: Float[Array, " K"]
    top_right: Float[Array, " N"]


class Bound(NamedTuple):
    """A lower bound on f, and a bound on the rounding error of f minus it.

    `lower` is rigorous: its rounding error has been subtracted.
    """

    lower: Scalar
    rounding: Scalar


def no_bound(state: DualState) -> Bound:
    """The bound −∞, if no lower bound is known."""
    return Bound(jnp.full_like(state.value, -jnp.inf), state.value_rounding)


@quick_jit
def dual_state(problem: Problem, params: Params) -> DualState:
    """Evaluate once the quantities that the bounds share."""
    at = evaluated(problem, params)
    sums = column_sums(problem, at)
    versions = gradient_versions(sums)
    sigma, bound, left = bounded_spectral_norm(at.G)
    right = matmul(left, at.G)
    size = jnp.linalg.norm(right)
    return DualState(
        at=at,
        value=sums.value + penalty(problem, params),
        value_rounding=value_rounding(problem, params, sums),
        versions=versions,
        grad_norm=norm(gradient_at(problem, params, at.gamma)),
        mu=problem.mu(at.V.dtype),
        dual_norm=sigma,
        dual_norm_bound=bound + versions.norm,
        top_left=left,
        top_right=right / jnp.where(size > 0, size, 1.0),
    )


def duality_lower_bound(problem: Problem, state: DualState) -> Bound:
    """A lower bound on f everywhere; −∞ if no bound is known."""
    if not problem.loss.is_convex():
        return no_bound(state)
    if problem.loss.has_conjugate:
        return _conjugate_bound(problem, state)
    lowest = problem.loss.infimum()
    if lowest is None:
        return no_bound(state)
    return _tangent_bound(problem, state, lowest, free_bias=None)


def region_lower_bound(problem: Problem, state: DualState) -> Bound:
    """A bound on f over {p_y ≥ p* for every sample}, for points inside; −∞ elsewhere.

    This needs a softmax loss with a known region of convexity (the focal loss).
    """
    threshold = problem.loss.convex_above()
    if problem.loss.is_convex() or threshold is None or not problem.loss.contrastive:
        return no_bound(state)
    limit = -jnp.log(jnp.asarray(threshold, state.at.V.dtype))
    worst = jnp.max(per_column(CrossEntropy().value, problem, state.at.V))
    # Inside, with a margin for the rounding of the logits and of p*.
    room = 1e-6 + 1e3 * machine_epsilon(worst) * (1.0 + jnp.max(jnp.abs(state.at.V)))
    # In the region max_j v_j − v_k ≤ ℓ ≤ −log p*, so an optimal bias there has bounded range.
    bias_range = limit + state.value / state.mu * (2.0 / _smallest_class(problem, limit)) ** 0.5
    bound = _tangent_bound(problem, state, 0.0, free_bias=bias_range)
    inside = worst < limit - room
    return Bound(jnp.where(inside, bound.lower, -jnp.inf), bound.rounding)


class _Dual(NamedTuple):
    """A direction Γ of dual points, its dual norm, and an upper bound on that."""

    gamma: Float[Array, "K N"]
    sigma: Scalar
    sigma_bound: Scalar


def _conjugate_bound(problem: Problem, state: DualState) -> Bound:
    duals = [_Dual(state.at.gamma, state.dual_norm, state.dual_norm_bound)]
    if problem.has_bias:
        duals.append(_centred(problem, state))
    feasible = state.mu * (1.0 - 8 * machine_epsilon(state.mu))
    # The largest θ that the upper bound on the dual norm allows.
    thetas = jnp.stack(
        [
            jnp.minimum(1.0, feasible / jnp.where(x.sigma_bound > 0, x.sigma_bound, 1.0))
            for x in duals
        ]
    )
    points = thetas[:, None, None] * jnp.stack([_per_sample(problem, x.gamma) for x in duals])
    sums = jax.vmap(lambda point: _conjugate_sums(problem, point))(points)
    plain, *others = (
        _bound_of(problem, state, dual, thetas[i], points[i] if i else None, sums[i])
        for i, dual in enumerate(duals)
    )
    for other in others:
        better = other.lower > plain.lower
        plain = Bound(*(jnp.where(better, a, b) for a, b in zip(other, plain, strict=True)))
    return plain


def _centred(problem: Problem, state: DualState) -> _Dual:
    """Γ − r ωᵀ, whose row sums are 0, so that the bias term vanishes.

    At λ_b = 0 no other point is feasible for MSE. For the softmax losses this one is better to
    first order, unless a probability p − r becomes negative.
    """
    gamma = state.at.gamma
    share = scale_by_weights(problem, jnp.ones_like(gamma))
    centred = gamma - jnp.sum(gamma, axis=1)[:, None] * share
    # Centring subtracts, which at most doubles the errors of the entries.
    sigma, bound, _ = bounded_spectral_norm(
        feature_gradient(problem, centred), jnp.linalg.norm(state.at.G)
    )
    bound += 2 * state.versions.norm
    # For a free bias row sums must be exactly 0 (`_bias_term`): add the distance to such a point.
    _, error = row_sums(gamma, state.versions)
    way = feature_gradient(problem, error[:, None] * share)
    free = jnp.asarray(problem.lam_b, sigma.dtype) == 0
    return _Dual(centred, sigma, bound + jnp.where(free, jnp.linalg.norm(way), 0.0))


def _conjugate_sums(problem: Problem, point: Float[Array, "K N"]) -> Float[Array, " 2"]:
    """g* at a dual point in units of one sample, and the terms that bound its rounding error."""
    loss = problem.loss
    rows = per_column(
        lambda dual, label: jnp.stack(
            [loss.conjugate(dual, label), loss.conjugate_rounding(dual, label)]
        ),
        problem,
        point,
    )
    return jax.vmap(lambda row: weighted_sum(problem, row))(rows)


def _bound_of(
    problem: Problem,
    state: DualState,
    dual: _Dual,
    theta: Scalar,
    centred: Array | None,
    sums: Float[Array, " 2"],
) -> Bound:
    """The bound from the dual point θΓ; `centred` is that point in units of one sample."""
    conjugate, errors = sums
    terms = problem.num_columns + problem.num_classes + 16
    rounding = machine_epsilon(dual.gamma) * terms * errors + state.value_rounding
    bias, bias_rounding = _bias_term(problem, state, theta, centred)
    lower = -conjugate - bias - rounding
    # The effect of rounding up the dual norm counts as rounding, although it is in the bound.
    inflation = jnp.minimum(1.0, state.mu / jnp.where(dual.sigma > 0, dual.sigma, 1.0)) - theta
    inner = jnp.abs(jnp.sum(dual.gamma * state.at.V)) + jnp.abs(state.value)
    return Bound(lower, rounding + bias_rounding + jnp.maximum(inflation, 0.0) * inner)


def _bias_term(
    problem: Problem, state: DualState, theta: Scalar, centred: Array | None
) -> tuple[Scalar, Scalar]:
    """θ²‖r‖²/(2λ_b), or its replacement for a free bias, and the rounding part of it.

    `centred` is the dual point in units of one sample, if centring made r zero up to the rounding
    of the row sums, which is still charged.
    """
    if not problem.has_bias:
        return jnp.zeros_like(theta), jnp.zeros_like(theta)
    lam_b = jnp.asarray(problem.lam_b, theta.dtype)
    r, error = row_sums(state.at.gamma, state.versions)
    if centred is not None:
        r = jnp.zeros_like(r)
    decayed, decayed_rounding = _decayed_bias(theta * r, theta * error, lam_b)
    # Sum before multiplying, because the range may be infinite and row sums may be 0.
    half_range = 0.5 * theta * _bias_range(problem, state)
    free = jnp.sum(jnp.abs(r) + error) * half_range
    free_rounding = jnp.sum(error) * half_range
    if centred is not None:
        # A dual point with row sums of exactly 0 lies within their error. Moving there costs at
        # most the slope of the conjugate, and needs no bound on the bias.
        errors = jnp.broadcast_to(error[:, None], centred.shape)
        slopes = per_column(problem.loss.conjugate_slope, problem, centred, errors)
        free_rounding = jnp.minimum(free_rounding, theta * jnp.sum(error) * jnp.max(slopes))
        free = free_rounding
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
    smallest = _smallest_class(problem, value)
    total = jnp.sum(problem.samples(value.dtype))
    spread = value * total / (smallest * jnp.asarray(slope, value.dtype))
    return spread + value / state.mu * (2.0 / smallest) ** 0.5


def _decayed_bias(r: Array, error: Array, lam_b: Scalar) -> tuple[Scalar, Scalar]:
    """‖r‖²/(2λ_b) with r known to within `error`: an upper bound, and its rounding part."""
    safe = jnp.where(lam_b > 0, lam_b, 1.0)
    size, slack = jnp.linalg.norm(r), jnp.linalg.norm(error)
    return 0.5 * (size + slack) ** 2 / safe, (size + slack) * slack / safe


def _tangent_bound(
    problem: Problem, state: DualState, lowest: float, free_bias: Scalar | None
) -> Bound:
    """g(V) − ⟨Γ,V⟩ − bias term − (‖G‖₂−μ)₊ (f−ℓ₀)/μ, minus its rounding error."""
    gamma, V, mu = state.at.gamma, state.at.V, state.mu
    products = gamma * V
    tangent = data_loss(problem, V) - jnp.sum(products)
    terms = gamma.shape[0] * gamma.shape[1] + 16
    # ‖Z*‖_* ≤ (f* − ℓ₀)/μ for a minimiser, so errors of Γ are multiplied by this distance.
    radius = (state.value - lowest) / mu
    excess = jnp.maximum(state.dual_norm_bound - mu * (1.0 - 8 * machine_epsilon(mu)), 0.0)
    reach = radius + jnp.linalg.norm(matmul(state.at.params.W, state.at.params.H))
    error = 64 * machine_epsilon(V) * jnp.linalg.norm(state.at.G) + state.versions.norm
    rounding = terms * machine_epsilon(V) * jnp.sum(jnp.abs(products)) + error * reach
    bias = bias_rounding = jnp.zeros_like(mu)
    if problem.has_bias:
        lam_b = jnp.asarray(problem.lam_b, mu.dtype)
        r, error = row_sums(gamma, state.versions)
        decayed, decayed_rounding = _decayed_bias(r, error, lam_b)
        spread = jnp.full_like(mu, jnp.inf) if free_bias is None else free_bias
        free = 0.5 * (jnp.sum(jnp.abs(r)) + jnp.sum(error)) * spread
        bias = jnp.where(lam_b > 0, decayed, free)
        bias_rounding = jnp.where(lam_b > 0, decayed_rounding, 0.5 * jnp.sum(error) * spread)
    rounding += 2 * state.value_rounding
    lower = tangent - bias - excess * radius - rounding
    inflation = state.dual_norm_bound - state.dual_norm + 8 * machine_epsilon(mu) * mu
    return Bound(lower, rounding + bias_rounding + inflation * radius)


def _per_sample(problem: Problem, gamma: Array) -> Array:
    """Γ_i/ω_i."""
    if problem.column_weights is None:
        return gamma * problem.num_columns
    samples = problem.samples(gamma.dtype)
    return gamma * (jnp.sum(samples) / samples)[None, :]


def _smallest_class(problem: Problem, like: Array) -> Scalar:
    samples = problem.samples(like.dtype)
    labels = jnp.asarray(problem.labels)
    return jnp.min(jax.ops.segment_sum(samples, labels, problem.num_classes))
