r"""The complete spectrum at a collapsed point, at a cost that depends on neither n nor d.

If the columns of each class coincide, the Hessian splits (N columns, n_k of class k, possibly
weighted; see `ufm.model.class_means`):

1. Deviations from the class means: the eigenvalues of D_k = λ_H I + WᵀS_kW for each class, with
   S_k the Hessian of the loss over the number of samples, each ×(n_k − 1).
2. Class means: the Hessian of the K-column problem with features √n_k h̄_k.
3. Dimensions outside the row space and the features: closed form
   (`ufm.hessian.structured.complement`), so that 1 and 2 have only r = rank [W; Hᵀ] dimensions.

The numerical method sees only a matrix of 2Kr + K rows. Multiplicities are exact, because they are
the dimensions of the parts above.
"""

import dataclasses

import jax
import numpy as np

from ufm.hessian.counts.arrow import block_eigenvalues
from ufm.hessian.counts.inertia import with_counts
from ufm.hessian.krylov.extremal import extremal_eigenpairs
from ufm.hessian.products.columns import check_point, host_point
from ufm.hessian.products.dense import LARGEST, check_entries, hessian_at, rounding
from ufm.hessian.products.lipschitz import hessian_lipschitz
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.structured.complement import complement_parts
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.class_means import deviations, reduced_problem, to_class_means
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Features of a class that differ by more than this fraction of their norm are not collapsed.
COLLAPSED = 1e-6
#: Number of eigenvalues at each end if the class means have too many dimensions for LAPACK.
_ENDS, _PRODUCTS = 6, 20_000
#: Singular values of [W; Hᵀ] below this fraction of the largest are set to zero. No rule for the
#: rank: what is left out adds to the residuals, which must stay below the width of a cluster.
_LEFT_OUT = 1e-9


@np.errstate(over="ignore", invalid="ignore")
def collapse_deviation(problem: Problem, params: Params) -> float:
    """‖H − class means‖_F / ‖H‖_F; 0 if H = 0."""
    size = float(np.linalg.norm(params.H))
    return float(np.linalg.norm(deviations(problem, params.H))) / size if size > 0 else 0.0


def collapsed_spectrum(
    problem: Problem, params: Params, cluster_tol: float | None = None
) -> Spectrum:
    """All eigenvalues at a point whose features are equal within classes, to 1e-6 of their norm.

    They are those of the nearest point that is exactly collapsed and of exact rank. `residuals`
    include a bound on the change of the Hessian between the two points, by its third derivative.
    Raises `ValueError` for a point that is not collapsed.
    """
    check_point(problem, params)
    deviation = collapse_deviation(problem, params)
    if deviation > COLLAPSED:
        raise ValueError(
            f"the point is not collapsed: features differ from their class means by "
            f"{deviation:.1e} of their norm (at most {COLLAPSED:.0e}). Use method='dense' or "
            "'lanczos', or inertia"
        )
    means, shift = nearest_means(problem, params)
    return spectrum_of_means(problem, means, cluster_tol, shift)


@np.errstate(over="ignore", invalid="ignore")
def nearest_means(problem: Problem, params: Params) -> tuple[Params, float]:
    """W, √n_k h̄_k (d×K) and b, and a bound on the change of the Hessian from the given point."""
    moved = float(np.linalg.norm(deviations(problem, params.H)))
    shift = moved * float(hessian_lipschitz(problem, params)) if moved > 0 else 0.0
    return Params(params.W, to_class_means(problem, params.H), params.b), shift


def spectrum_of_means(
    problem: Problem,
    means: Params,
    cluster_tol: float | None = None,
    shift: float = 0.0,
    *,
    reduce_rank: bool = True,
) -> Spectrum:
    """Do the same from W, b and the scaled class means √n_k h̄_k (d×K), without arrays of size N.

    `shift` is added to the residuals. `means` may have fewer than d dimensions; the others are
    zero. Without `reduce_rank` all dimensions of `means` are kept, so that points of any rank have
    one size and one compilation.
    """
    small = reduced_problem(problem, means.W.shape[1])
    orbit = gauge(problem, means, host_point(small, means).gradient())
    point, dropped = _in_row_space(means) if reduce_rank else (means, 0.0)
    if dropped > 0:
        shift += dropped * float(hessian_lipschitz(small, means))
    # At least one dimension, even at the origin, because a problem needs one.
    narrow = reduced_problem(problem, point.W.shape[1])
    at = host_point(narrow, point)
    G = at.feature_gradient()
    check_entries(G)
    blocks, sizes = np.concatenate(block_eigenvalues(at, at.W)), np.linalg.svd(G, compute_uv=False)
    noise = rounding(np.concatenate([blocks.ravel(), sizes]))
    parts = complement_parts(problem, sizes, point.W.shape[1], noise + shift)
    for values, count in zip(blocks, problem.class_counts, strict=True):
        parts.append(Part("deviations from class means", values, count - 1, noise + shift))
    note, ends, converged, small_enough = "", [], True, narrow.num_parameters <= LARGEST
    if small_enough:
        values = np.linalg.eigvalsh(hessian_at(at))
        parts.append(Part("class means", values, 1, rounding(values) + shift))
    else:
        ends, converged = _ends(narrow, point, shift)
        note = (
            ("" if converged else "NOT CONVERGED, see the residuals; ")
            + f"the Hessian of the class means has {narrow.num_parameters:,} dimensions, more than "
            f"{LARGEST:,}: of its eigenvalues only the extreme ones are listed"
        )
    found = assemble(
        [*parts, *ends],
        problem=problem,
        gauge=orbit,
        method="collapsed",
        cluster_tol=cluster_tol,
        note=note,
    )
    if small_enough:
        return found
    return with_counts(dataclasses.replace(found, converged=converged), narrow, point, parts, shift)


def _in_row_space(means: Params) -> tuple[Params, float]:
    """The point in rank many dimensions, at least one, and the norm of the rest."""
    stacked = np.vstack([np.asarray(means.W), np.asarray(means.H).T])
    _, sizes, right = np.linalg.svd(stacked, full_matrices=False)
    rank = max(int(np.sum(sizes > _LEFT_OUT * sizes[0])), 1)
    W, H = stacked[: len(means.W)], stacked[len(means.W) :].T
    basis = right[:rank].T
    point = Params(jax.device_put(W @ basis), jax.device_put(basis.T @ H), means.b)
    return point, float(np.linalg.norm(sizes[rank:]))


def _ends(problem: Problem, point: Params, shift: float) -> tuple[list[Part], bool]:
    """Extreme eigenvalues of a matrix too large for LAPACK, and whether all converged."""
    parts, converged = [], True
    for end in ("smallest", "largest"):
        pairs = extremal_eigenpairs(
            problem, point, jax.random.key(0), count=_ENDS, end=end, max_products=_PRODUCTS
        )
        converged &= pairs.converged
        parts += [
            Part("class means", np.array([value]), 1, float(residual) + shift)
            for value, residual in zip(pairs.values, pairs.residuals, strict=True)
        ]
    return parts, converged
