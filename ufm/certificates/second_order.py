r"""Second-order tests at critical points: find a descent direction, or exclude one.

At a critical point with ‖G‖₂ > μ and rank W < d the direction

    Δ_W = −(λ_H/λ_W)^{1/4} u aᵀ,  Δ_H = (λ_W/λ_H)^{1/4} a vᵀ,  a ⟂ row(W),  (u, v) top pair of G

has ΔᵀHΔ = −2(‖G‖₂ − μ) (Zhou et al., 2022). It is only a candidate: a Hessian product decides. The
curvature −κ must satisfy κ² > 16 ‖∇f‖ L, with L a bound on the third derivative. Then the remaining
gradient cannot be its cause, and the exact critical point nearby is a strict saddle too (the
Newton–Kantorovich condition along the direction). To exclude descent directions, all eigenvalues
are counted by sign, except the zeros that rotations force. Both are numerical statements.
"""

import threading

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm import hessian
from ufm._support.pytree import pytree
from ufm._support.quick_jit import quick_jit
from ufm._support.shown import Shown
from ufm.certificates.dual_state import DualState
from ufm.hessian import Spectrum, hessian_lipschitz, rank_of, rotation_dimension
from ufm.model.hessian_product import hessian_product, linearise_at
from ufm.model.objective import matmul
from ufm.model.params import Params, dot, finite_or_zero, norm
from ufm.model.problem import Problem


@pytree()
class Escape(Shown):
    """A unit direction, its curvature from a Hessian product, and the theory's curvature.

    `predicted` is −2(‖G‖₂−μ)μ/(λ_W+λ_H), which holds at critical points with rank W < d.
    """

    direction: Params
    curvature: Float[Array, "*batch"]
    predicted: Float[Array, "*batch"]


@quick_jit
def escape_direction(problem: Problem, state: DualState) -> tuple[Escape, Params]:
    """The theory's candidate for a descent direction, its curvature, and its Hessian product."""
    dtype = state.value.dtype
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))
    positive = state.mu > 0
    balance = jnp.where(positive, lam_h / jnp.where(positive, lam_w, 1.0), 1.0) ** 0.25
    a = _outside_row_space(finite_or_zero(state.at.params).W)
    raw = Params(
        -balance * jnp.outer(state.top_left, a),
        jnp.outer(a, state.top_right) / balance,
        None if state.at.params.b is None else jnp.zeros_like(state.at.params.b),
    )
    size = norm(raw)
    direction = jax.tree.map(lambda x: x / jnp.where(size > 0, size, 1.0), raw)
    image = hessian_product(problem, linearise_at(problem, state.at), direction)
    total = lam_w + lam_h
    predicted = -2.0 * (state.dual_norm - state.mu) * state.mu / jnp.where(total > 0, total, 1.0)
    return Escape(direction, dot(direction, image), predicted), image


def has_escape(problem: Problem, state: DualState) -> bool:
    """Whether the theory has a descent direction: ‖G‖₂ > μ beyond rounding, and rank < d."""
    above = float(state.dual_norm) > float(state.mu) * (1 + 1e-9)
    return above and rank_of(state.at.params) < problem.dim


def _outside_row_space(W: Float[Array, "K d"]) -> Float[Array, " d"]:
    """A unit vector orthogonal to the rows of W, or as orthogonal as possible."""
    classes, dim = W.shape
    _, sizes, rows = jnp.linalg.svd(W, full_matrices=False)
    if dim <= classes:
        return rows[-1]
    # Start from the coordinate axis farthest from the row space, and project it twice.
    present = sizes > sizes[0] * (float(jnp.finfo(W.dtype).eps) * dim)
    basis = jnp.where(present[:, None], rows, 0.0)
    a = jax.nn.one_hot(jnp.argmin(jnp.sum(basis**2, axis=0)), dim, dtype=W.dtype)
    for _ in range(2):
        a = a - matmul(matmul(basis, a), basis)
    return a / jnp.linalg.norm(a)


def is_descent(problem: Problem, state: DualState, escape: Escape, image: Params) -> Array:
    """Whether the curvature is negative, beyond rounding and the effect of the gradient.

    `image` is the Hessian product along the direction.
    """
    dtype = state.value.dtype
    eps = float(jnp.finfo(dtype).eps)
    # The terms of ∇²f applied to a unit vector are at most this large.
    size = norm(image) + state.dual_norm
    size += jnp.asarray(problem.lam_w, dtype) + jnp.asarray(problem.lam_h, dtype)
    rounding = 64 * eps * max(problem.num_columns, problem.dim) ** 0.5 * size
    kappa = -escape.curvature
    lipschitz = hessian_lipschitz(problem, state.at.params)
    return (kappa > rounding) & (kappa**2 > 16.0 * state.grad_norm * lipschitz)


#: Largest border Kd + K, and largest N (Kd + K)², for which `certify` counts all curvatures.
_LARGEST_BORDER, _LARGEST_WORK = 2_000, 4e9
#: Counts factor batches of matrices, which two threads must not do at once
#: (`ufm._support.threads`): the cells of a sweep are certified in several.
_ONE_AT_A_TIME = threading.Lock()
#: Largest Hessian of class means, 2Kr + K rows, for which LAPACK is used: a second.
_LARGEST_MEANS = 1_500


def is_local_minimum(problem: Problem, params: Params, grad_norm: float) -> bool:
    """Whether all eigenvalues except the zeros from rotations are positive, despite the gradient.

    If features are equal within classes, `means_spectrum` decides, otherwise exact counts. The
    result is False, without a claim, if the problem is too large for them.
    """
    with _ONE_AT_A_TIME:
        return _is_local_minimum(problem, params, grad_norm)


def _is_local_minimum(problem: Problem, params: Params, grad_norm: float) -> bool:
    margin = curvature_margin(problem, params, grad_norm)
    if hessian.collapse_deviation(problem, params) <= hessian.COLLAPSED:
        means, shift = hessian.nearest_means(problem, params)
        found = means_spectrum(problem, means)
        if found is not None:
            return all_positive(found, margin + shift)
    border = problem.num_outputs * (problem.dim + 1)
    work = float(problem.num_columns) * border**2
    if border > _LARGEST_BORDER or work > _LARGEST_WORK:
        return False
    counts = hessian.inertia(problem, params, 0.0, margin)
    forced = rotation_dimension(problem, params)
    return counts.reliable and counts.negative == 0 and counts.zero == forced


def curvature_margin(problem: Problem, params: Params, grad_norm: float) -> float:
    """The curvature above which that of the exact critical point nearby is positive too."""
    lipschitz = float(hessian_lipschitz(problem, params))
    decays = (float(problem.lam_w), float(problem.lam_h))
    return max(1e-4 * min(decays), 4.0 * (lipschitz * grad_norm) ** 0.5)


def means_spectrum(problem: Problem, means: Params) -> Spectrum | None:
    """All eigenvalues from W, b and √n_k h̄_k (d×K); None if that would take more than seconds.

    They use the symmetry of classes if there is one (the origin, frames of all or some classes, any
    K), otherwise a matrix of 2Kr + K rows.
    """
    found = hessian.class_symmetric_spectrum(problem, means)
    outputs, rank = problem.num_outputs, max(rank_of(means), 1)
    if found is None and (outputs + problem.num_classes) * rank + outputs <= _LARGEST_MEANS:
        found = hessian.spectrum_of_means(problem, means)
    return found


def all_positive(spectrum: Spectrum, margin: float) -> bool:
    """Whether all eigenvalues exceed the margin, except as many as symmetry forces to zero."""
    lowest = spectrum.eigenvalues - spectrum.residuals
    within = int(np.sum(spectrum.multiplicities[lowest <= margin]))
    negative = bool(np.any(spectrum.eigenvalues + spectrum.residuals < -margin))
    return spectrum.complete and not negative and within == spectrum.gauge_dimension
