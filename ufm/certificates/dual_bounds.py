r"""Lower bounds on f* from any point, by convex duality, with their rounding errors.

For all factorisations f(W,H,b) ≥ g(Z + b1ᵀ) + μ‖Z‖_* + λ_b/2 ‖b‖², which is convex in (Z, b) if g
is convex. Every dual point Γ (K×N) with ‖G‖₂ ≤ μ, G = Γ diag(1/√c), therefore bounds f from below:

    f ≥ −g*(Γ) − ‖r‖²/(2λ_b),   r = Γ1,   g*(Γ) = Σ_i ω_i L*(Γ_i/ω_i).

Averaging the columns of a class is a projection, which raises neither g* (by Jensen's inequality)
nor ‖G‖₂. The dual point used is θΓ̄: the class averages of ∇g(V), as columns of the K-column problem
(`ufm.model.class_means`), times the θ ≤ μ/‖G‖₂ with the highest bound. At a global minimum it is
optimal. Other cases:

- L not convex but with a conjugate (Poly-1, SCE): the bound holds as it stands, since
  L(z) ≥ γᵀz − L*(γ), and is exact where L equals its convex envelope at the minimum;
- no conjugate known, g convex, L ≥ ℓ₀:
  f ≥ g(V) − ⟨Γ,V⟩ − ‖r‖²/(2λ_b) − (‖G‖₂−μ)₊ (f−ℓ₀)/μ;
- free bias (λ_b = 0), L ≥ σ (max_j z_j − z_k) with σ = 1 − α for LS: −‖r‖²/(2λ_b) becomes
  −θ ½‖r‖₁ B with B a bound on the range of an optimal bias, B = f/(ω_min σ) + (f/μ) √(2/n_min);
- Γ − r ωᵀ has row sums 0, so that its bias term vanishes for every λ_b ≥ 0. It is always feasible
  for MSE, and for CE and LS unless a probability becomes negative. The better of the two bounds is
  used;
- the focal loss on {p_y ≥ p*}, where it is convex: the bound without a conjugate holds for all
  points of that region (`region_lower_bound`).

Every number has a bound on its own rounding error (`ufm.model.rounding`), which covers versions of
Γ that a compiler computes with different digits. The dual norm is rounded up before it is used.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.certificates.conjugate_bound import (
    DualNorm,
    conjugate_bound,
    decayed_bias,
    smallest_class,
)
from ufm.certificates.dual_state import Bound, DualState, no_bound
from ufm.losses import CrossEntropy, Loss
from ufm.model.objective import data_loss, matmul, per_column
from ufm.model.problem import Problem
from ufm.model.rounding import bounded_spectral_norm, machine_epsilon, row_sums

Scalar = Float[Array, ""]


def duality_lower_bound(
    problem: Problem, state: DualState, dual_norm: DualNorm = bounded_spectral_norm
) -> Bound:
    """A lower bound on f everywhere; −∞ if no bound is known.

    `dual_norm` is that of the state, as a function.
    """
    if problem.loss.has_conjugate:  # L(z) ≥ ⟨γ, z⟩ − L*(γ) for losses that are not convex, too
        return conjugate_bound(problem, state, dual_norm)
    lowest = problem.loss.infimum()
    if lowest is None or not problem.loss.is_convex():
        return no_bound(state)
    return _tangent_bound(problem, state, lowest, free_bias=None)


def has_convex_region(loss: Loss) -> bool:
    """Whether L is a softmax loss with a known region of convexity (the focal loss)."""
    return not loss.is_convex() and loss.convex_above() is not None and loss.contrastive


def region_lower_bound(
    problem: Problem,
    state: DualState,
    worst: Scalar | None = None,
    threshold: Scalar | None = None,
) -> Bound:
    """A bound on f over {p_y ≥ p* for every sample}, for points inside; −∞ elsewhere.

    `worst` is the largest −log p_y of the point if the state is that of its class means, which are
    inside, too; None: of the state itself. `threshold` is p* if it is known. This needs
    `has_convex_region`.
    """
    if not has_convex_region(problem.loss):
        return no_bound(state)
    threshold = problem.loss.convex_above() if threshold is None else threshold
    limit = -jnp.log(jnp.asarray(threshold, state.at.V.dtype))
    if worst is None:
        worst = jnp.max(per_column(CrossEntropy().value, problem, state.at.V))
    # Inside, with a margin for the rounding of the logits and of p*.
    room = 1e-6 + 1e3 * machine_epsilon(worst) * (1.0 + jnp.max(jnp.abs(state.at.V)))
    # In the region max_j v_j − v_k ≤ ℓ ≤ −log p*, so an optimal bias there has bounded range.
    bias_range = limit + state.value / state.mu * (2.0 / smallest_class(problem, limit)) ** 0.5
    bound = _tangent_bound(problem, state, 0.0, free_bias=bias_range)
    inside = worst < limit - room
    return Bound(jnp.where(inside, bound.lower, -jnp.inf), bound.rounding)


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
        decayed, decayed_rounding = decayed_bias(r, error, lam_b)
        spread = jnp.full_like(mu, jnp.inf) if free_bias is None else free_bias
        free = 0.5 * (jnp.sum(jnp.abs(r)) + jnp.sum(error)) * spread
        bias = jnp.where(lam_b > 0, decayed, free)
        bias_rounding = jnp.where(lam_b > 0, decayed_rounding, 0.5 * jnp.sum(error) * spread)
    rounding += 2 * state.value_rounding
    lower = tangent - bias - excess * radius - rounding
    inflation = state.dual_norm_bound - state.dual_norm + 8 * machine_epsilon(mu) * mu
    return Bound(lower, rounding + bias_rounding + inflation * radius)
