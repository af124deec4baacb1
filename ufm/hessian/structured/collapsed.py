r"""The whole spectrum at a collapsed point, at a cost that depends on neither n nor d.

Where the columns of each class coincide, the Hessian splits (N columns, n_k of class k, weights
kept; see `ufm.model.class_means`):

1. Deviations from the class means see the block D_k = λ_H I + WᵀS_kW of their own class, S_k the
   Hessian of the loss over the number of samples: its eigenvalues, each ×(n_k − 1).
2. Class means: the Hessian of the K-column problem with features √n_k h̄_k.
3. Dimensions outside the row space and the features: closed form
   (`ufm.hessian.structured.complement`), so that 1 and 2 are taken in r = rank [W; Hᵀ] dimensions.

What is left to a numerical method is a matrix of 2Kr + K rows. No other eigenvalue is computed
twice, and multiplicities are exact: they are dimensions of the parts above.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.hessian.counts.inertia import with_counts
from ufm.hessian.krylov.extremal import extremal_eigenpairs
from ufm.hessian.products.dense import LARGEST, check_entries, check_point, dense_hessian, rounding
from ufm.hessian.products.lipschitz import hessian_lipschitz
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.structured.complement import complement_parts
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.class_means import deviations, reduced_problem, to_class_means
from ufm.model.params import Params
from ufm.model.problem import (
    Problem,
    feature_gradient,
    logit_gradient,
    logits,
    matmul,
    value_and_gradient,
)

#: Features of a class that differ by more than this part of their size are not collapsed.
COLLAPSED = 1e-6
#: Extreme eigenvalues sought at either end where the class means have too many dimensions.
_ENDS, _PRODUCTS = 6, 20_000
#: Singular values of [W; Hᵀ] below this part of the largest are set to zero.
_RANK_CUTOFF = 1e-9


def collapse_deviation(problem: Problem, params: Params) -> float:
    """‖H − class means‖_F / ‖H‖_F, 0 where H = 0."""
    size = float(jnp.linalg.norm(params.H))
    return float(jnp.linalg.norm(deviations(problem, params.H))) / size if size > 0 else 0.0


def collapsed_spectrum(
    problem: Problem, params: Params, cluster_tol: float | None = None
) -> Spectrum:
    """All eigenvalues at a point whose features are equal within classes, to 1e-6 of their size.

    They are those of the nearest point that is exactly collapsed and of exact rank; `residuals`
    include how far the Hessian can move on the way, by a bound on its third derivative. Raises
    `ValueError` for a point that is not collapsed.
    """
    check_point(problem, params)
    deviation = collapse_deviation(problem, params)
    if deviation > COLLAPSED:
        raise ValueError(
            f"the point is not collapsed: features differ from their class means by "
            f"{deviation:.1e} of their size (at most {COLLAPSED:.0e}). Use method='dense' or "
            "'lanczos', or inertia"
        )
    means = Params(params.W, to_class_means(problem, params.H), params.b)
    moved = float(jnp.linalg.norm(deviations(problem, params.H)))
    shift = moved * float(hessian_lipschitz(problem, params)) if moved > 0 else 0.0
    return spectrum_of_means(problem, means, cluster_tol, shift)


def spectrum_of_means(
    problem: Problem,
    means: Params,
    cluster_tol: float | None = None,
    shift: float = 0.0,
    *,
    reduce_rank: bool = True,
) -> Spectrum:
    """The same from W, b and the scaled class means √n_k h̄_k (d×K): nothing of size N is built.

    `shift` is added to the residuals. `means` may have fewer than d dimensions, the others being
    zero. Without `reduce_rank` they are taken in all dimensions that they have: one size, and one
    compilation, for points of any rank.
    """
    small = reduced_problem(problem, means.W.shape[1])
    _, gradient = value_and_gradient(small, means)
    orbit = gauge(problem, means, gradient)
    point, dropped = _in_row_space(means) if reduce_rank else (means, 0.0)
    if dropped > 0:
        shift += dropped * float(hessian_lipschitz(small, means))
    # One dimension too many at the origin costs nothing: no problem has none.
    narrow = reduced_problem(problem, point.W.shape[1])
    blocks, sizes = (np.asarray(x) for x in _blocks_and_sizes(narrow, point))
    check_entries(np.append(blocks, sizes))
    noise = rounding(np.concatenate([blocks.ravel(), sizes]))
    parts = complement_parts(problem, sizes, point.W.shape[1], noise + shift)
    for values, count in zip(blocks, problem.class_counts, strict=True):
        parts.append(Part("deviations from class means", values, count - 1, noise + shift))
    note, ends, converged, small_enough = "", [], True, narrow.num_parameters <= LARGEST
    if small_enough:
        values = np.linalg.eigvalsh(dense_hessian(narrow, point))
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
    """The point in as many dimensions as it has rank, at least one, and the size of the rest."""
    stacked = np.vstack([np.asarray(means.W), np.asarray(means.H).T])
    _, sizes, right = np.linalg.svd(stacked, full_matrices=False)
    rank = max(int(np.sum(sizes > _RANK_CUTOFF * sizes[0])), 1)
    basis = jnp.asarray(right[:rank].T)
    point = Params(matmul(means.W, basis), matmul(basis.T, means.H), means.b)
    return point, float(np.linalg.norm(sizes[rank:]))


def _ends(problem: Problem, point: Params, shift: float) -> tuple[list[Part], bool]:
    """The extreme eigenvalues of a matrix that is too large for LAPACK; did all converge?"""
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


@jax.jit
def _blocks_and_sizes(
    problem: Problem, point: Params
) -> tuple[Float[Array, "K r"], Float[Array, " K"]]:
    """Eigenvalues of D_k for every class, and the singular values of G, in the K-column problem."""
    V = logits(problem, point)
    G = feature_gradient(problem, logit_gradient(problem, V))
    samples = problem.samples(V.dtype)

    def one(column: Any) -> Array:
        label, v = column
        S = problem.loss.hessian(v, label) / jnp.sum(samples)
        block = matmul(point.W.T, matmul(S, point.W))
        return jnp.asarray(problem.lam_h, V.dtype) + jnp.linalg.eigvalsh(0.5 * (block + block.T))

    blocks = jax.lax.map(one, (jnp.asarray(problem.labels), V.T))
    return blocks, jnp.linalg.svd(G, compute_uv=False)
