r"""Second-order tests on H ≥ 0: a way down along a coordinate, or none along any free variable.

If a coordinate r is unused (W column and H row 0) and γ° > μ, then

    Δ_W = −(λ_H/λ_W)^¼ u e_rᵀ,   Δ_H = (λ_W/λ_H)^¼ e_r vᵀ,   u = Gv/γ°,  v ≥ 0,

is feasible and has curvature −2(γ° − μ). A Hessian product decides, as in
`ufm.certificates.second_order`, together with the slope along the direction, which is positive if
the coordinate is used: zero entries of H with positive gradients do not grow for nothing. If every
coordinate serves some class, there may be no such way although γ° > μ: a critical point is a local
minimum if

- every zero entry of H has a positive gradient (strict complementarity), and
- the Hessian of the other entries, W and b is positive but for rotations of the coordinates that
  keep the zeros of H, along which f is constant.

Both concern the class means, to which features of a class are equal, and deviations from them have
Hessians λ_H I + WᵀS_iW on the free entries.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ufm._support.rank import numerical_rank
from ufm._support.threads import one_blas_thread
from ufm.certificates.dual_state import DualState
from ufm.certificates.second_order import Escape, curvature_margin
from ufm.hessian import COLLAPSED, collapse_deviation, nearest_means
from ufm.hessian.products.columns import HostPoint, host_point
from ufm.hessian.products.dense import hessian_at
from ufm.hessian.symmetry_zeros import shift_is_free
from ufm.model.class_means import reduced_problem
from ufm.model.hessian_product import hessian_product, linearise_at
from ufm.model.objective import gradient_at
from ufm.model.params import Params, dot, norm
from ufm.model.problem import Problem

#: Entries of class means below this fraction of the largest are zero.
_ZERO = 1e-9
#: Largest Hessian of class means (a second of LAPACK), and most pairs of coordinates.
_LARGEST, _MOST_PAIRS = 1_500, 1_000


def cone_escape(problem: Problem, state: DualState) -> tuple[Escape, Params, Array]:
    """The direction along the least used coordinate, its Hessian product, and the slope of f."""
    params, dtype = state.at.params, state.value.dtype
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))
    positive = state.mu > 0
    balance = jnp.where(positive, lam_h / jnp.where(positive, lam_w, 1.0), 1.0) ** 0.25
    use = jnp.sum(params.W**2, axis=0) + jnp.sum(params.H**2, axis=1)
    a = jax.nn.one_hot(jnp.argmin(use), problem.dim, dtype=dtype)
    raw = Params(
        -balance * jnp.outer(state.top_left, a),
        jnp.outer(a, state.top_right) / balance,
        None if params.b is None else jnp.zeros_like(params.b),
    )
    size = norm(raw)
    direction = jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1.0), raw)
    image = hessian_product(problem, linearise_at(problem, state.at), direction)
    total = jnp.where(lam_w + lam_h > 0, lam_w + lam_h, 1.0)
    predicted = -2.0 * (state.dual_norm - state.mu) * state.mu / total
    slope = dot(gradient_at(problem, params, state.at.gamma), direction)
    return Escape(direction, dot(direction, image), predicted), image, slope


@one_blas_thread()
def is_local_minimum(problem: Problem, params: Params, grad_norm: float) -> bool:
    """Whether the point is a strict local minimum but for rotations, despite its gradient.

    The result is False, without a claim, if features differ within classes or the problem is large.
    """
    small = reduced_problem(problem, problem.dim)
    pairs = problem.dim * (problem.dim - 1) // 2
    large = small.num_parameters > _LARGEST or pairs > _MOST_PAIRS
    if large or collapse_deviation(problem, params) > COLLAPSED:
        return False
    means, shift = nearest_means(problem, params)
    at = host_point(small, means)
    zero = np.asarray(at.H) <= _ZERO * float(np.max(at.H))
    margin = curvature_margin(problem, params, grad_norm) + shift
    found = hessian_at(at)
    kept = np.concatenate(
        [np.full(at.W.size, True), ~zero.ravel(), np.full(0 if at.b is None else len(at.b), True)]
    )
    values = np.linalg.eigvalsh(found[np.ix_(kept, kept)])
    # The exact critical point is within 2 ‖∇f‖/margin, and multipliers change by this at most.
    moved = 2.0 * (grad_norm / margin + float(np.linalg.norm(at.H[zero])))
    multipliers = np.asarray(at.gradient().H)[zero]
    strict = bool(np.all(multipliers > 4.0 * np.linalg.norm(found, 2) * moved))
    flat = int(np.sum(values <= margin))
    bent = values[0] < -margin
    least = min((float(x[0]) for x in deviation_eigenvalues(at, zero) if len(x)), default=np.inf)
    forced = len(orbit_tangents(means, zero)) + int(shift_is_free(small))
    return strict and not bent and flat == forced and least > margin


def deviation_eigenvalues(
    at: HostPoint, zero: Bool[np.ndarray, "d m"]
) -> list[Float[np.ndarray, " f"]]:
    """The curvatures of deviations from each class mean along its free entries."""
    found = []
    for S, _, _, roots in at.columns():
        for each, root in zip(S, roots, strict=True):
            W = at.W[:, ~zero[:, len(found)]]
            found.append(at.decays[1] + np.linalg.eigvalsh(W.T @ (each * root**2) @ W))
    return found


def orbit_tangents(means: Params, zero: Bool[np.ndarray, "d m"]) -> Float[np.ndarray, "t P"]:
    """Orthonormal (WΩ, ΩᵀH), Ωᵀ = −Ω, with (ΩᵀH)_ri = 0 where H_ri = 0: f is constant along them.

    Raises `ValueError` for more than 1,000 pairs of coordinates.
    """
    W, H = np.asarray(means.W), np.asarray(means.H)
    rows, columns = np.triu_indices(len(H), 1)
    if len(rows) > _MOST_PAIRS:
        raise ValueError(f"rotations of {len(H)} coordinates are too many: the most are 45")
    generators = np.zeros((len(rows), len(H), len(H)))
    steps = np.arange(len(rows))
    generators[steps, rows, columns], generators[steps, columns, rows] = 1.0, -1.0
    of_h = np.einsum("pji,jk->pik", generators, H)
    of_w = W @ generators
    if not len(rows):
        return np.zeros((0, W.size + H.size))
    _, sizes, basis = np.linalg.svd(of_h[:, zero].T)
    # In units of H, which may be far smaller than W: what moves its zeros is no tangent.
    free = basis[numerical_rank(sizes / (float(np.linalg.norm(H)) or 1.0)) :]
    tangents = free @ np.hstack([of_w.reshape(len(rows), -1), of_h.reshape(len(rows), -1)])
    _, sizes, basis = np.linalg.svd(tangents, full_matrices=False)
    size = max(float(np.linalg.norm(W)), float(np.linalg.norm(H))) or 1.0
    return basis[: numerical_rank(sizes / size)]
