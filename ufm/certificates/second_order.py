r"""Second-order tests at critical points: a way down, or none.

At a critical point with ‖G‖₂ > μ and rank W < d the direction

    Δ_W = −(λ_H/λ_W)^{1/4} u aᵀ,  Δ_H = (λ_W/λ_H)^{1/4} a vᵀ,  a ⟂ row(W),  (u, v) top pair of G

has ΔᵀHΔ = −2(‖G‖₂ − μ) (Zhou et al., 2022). Here it is a candidate: a Hessian product decides, and
the curvature −κ must be too large to be an artefact of the remaining gradient: κ² > 16 ‖∇f‖ L, L a
bound on the third derivative, so that the exact critical point nearby is a strict saddle too (the
Newton–Kantorovich condition along the direction). That none exists is decided by exact counts of
all eigenvalues, with the zeros that rotations force set apart. Both are numerical statements.
"""

import threading

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.pytree import pytree
from ufm._support.quick_jit import quick_jit
from ufm._support.shown import Shown
from ufm.certificates.dual_bounds import DualState
from ufm.hessian import (
    COLLAPSED,
    Spectrum,
    class_symmetric_spectrum,
    collapse_deviation,
    hessian_lipschitz,
    inertia,
    nearest_means,
    rank_of,
    rotation_dimension,
    spectrum_of_means,
)
from ufm.model.hessian_product import hessian_product, linearise_at
from ufm.model.params import Params, dot, finite_or_zero, norm
from ufm.model.problem import Problem, matmul


@pytree()
class Escape(Shown):
    """A unit direction, the curvature along it from a Hessian product, and the theory's value.

    `predicted` is −2(‖G‖₂−μ)μ/(λ_W+λ_H), which holds at critical points with rank W < d.
    """

    direction: Params
    curvature: Float[Array, "*batch"]
    predicted: Float[Array, "*batch"]


@quick_jit
def escape_direction(problem: Problem, state: DualState) -> tuple[Escape, Params]:
    """The theory's direction of descent with its true curvature, and the Hessian product along it.

    A candidate, not a claim.
    """
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
    """Does the theory name a direction of descent: ‖G‖₂ > μ beyond rounding, and rank < d?"""
    above = float(state.dual_norm) > float(state.mu) * (1 + 1e-9)
    return above and rank_of(state.at.params) < problem.dim


def _outside_row_space(W: Float[Array, "K d"]) -> Float[Array, " d"]:
    """A unit vector orthogonal to the rows of W, or as nearly so as there is."""
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
    """Is the curvature negative beyond rounding and beyond what the gradient leaves open?

    `image` is the Hessian product along the direction.
    """
    dtype = state.value.dtype
    eps = float(jnp.finfo(dtype).eps)
    # ∇²f applied to a unit vector adds up terms no larger than this.
    size = norm(image) + state.dual_norm
    size += jnp.asarray(problem.lam_w, dtype) + jnp.asarray(problem.lam_h, dtype)
    rounding = 64 * eps * max(problem.num_columns, problem.dim) ** 0.5 * size
    kappa = -escape.curvature
    lipschitz = hessian_lipschitz(problem, state.at.params)
    return (kappa > rounding) & (kappa**2 > 16.0 * state.grad_norm * lipschitz)


#: Largest border Kd + K, and largest N (Kd + K)², for which all curvatures are counted unasked.
_LARGEST_BORDER, _LARGEST_WORK = 2_000, 4e9
#: Counts factor batches of matrices, which must not be done in two threads
#: (`ufm._support.threads`): the cells of a sweep are certified in several.
_ONE_AT_A_TIME = threading.Lock()
#: Largest Hessian of class means, 2Kr + K rows, that LAPACK gets unasked: a second.
_LARGEST_MEANS = 1_500


def is_local_minimum(problem: Problem, params: Params, grad_norm: float) -> bool:
    """Are all eigenvalues but the rotation zeros positive, beyond what the gradient leaves open?

    Where features are equal within classes by `means_spectrum`, elsewhere by exact counts. False
    where that is too large: nothing is claimed then.
    """
    with _ONE_AT_A_TIME:
        return _is_local_minimum(problem, params, grad_norm)


def _is_local_minimum(problem: Problem, params: Params, grad_norm: float) -> bool:
    margin = curvature_margin(problem, params, grad_norm)
    if collapse_deviation(problem, params) <= COLLAPSED:
        means, shift = nearest_means(problem, params)
        found = means_spectrum(problem, means)
        if found is not None:
            return all_positive(found, margin + shift)
    border = problem.num_classes * (problem.dim + 1)
    work = float(problem.num_columns) * border**2
    if border > _LARGEST_BORDER or work > _LARGEST_WORK:
        return False
    counts = inertia(problem, params, 0.0, margin)
    forced = rotation_dimension(problem, params)
    return counts.reliable and counts.negative == 0 and counts.zero == forced


def curvature_margin(problem: Problem, params: Params, grad_norm: float) -> float:
    """How positive a curvature has to be for one of the exact critical point nearby to be so."""
    lipschitz = float(hessian_lipschitz(problem, params))
    decays = (float(problem.lam_w), float(problem.lam_h))
    return max(1e-4 * min(decays), 4.0 * (lipschitz * grad_norm) ** 0.5)


def means_spectrum(problem: Problem, means: Params) -> Spectrum | None:
    """All eigenvalues from W, b and √n_k h̄_k (d×K), None where that would take more than seconds.

    By the symmetry of classes where there is one (the origin, frames of all classes or of some: any
    K), else from a matrix of 2Kr + K rows.
    """
    found = class_symmetric_spectrum(problem, means)
    classes = problem.num_classes
    if found is None and classes * (2 * max(rank_of(means), 1) + 1) <= _LARGEST_MEANS:
        found = spectrum_of_means(problem, means)
    return found


def all_positive(spectrum: Spectrum, margin: float) -> bool:
    """Do all eigenvalues but as many as symmetry forces to zero exceed the margin?"""
    lowest = spectrum.eigenvalues - spectrum.residuals
    within = int(np.sum(spectrum.multiplicities[lowest <= margin]))
    negative = bool(np.any(spectrum.eigenvalues + spectrum.residuals < -margin))
    return spectrum.complete and not negative and within == spectrum.gauge_dimension
