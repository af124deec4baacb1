r"""The Hessian of a deep linear model as a matrix, its index, and the zeros that rotations force.

At a critical point of rank r every inner width d_l may be reduced to r: directions into the d_l − r
dimensions that no factor uses see the decays alone, apart from rotations (M ≥ 3). With features
equal within classes, the rest is the Hessian of the K-column problem and λ_H I + W̃ᵀS_kW̃ on the
deviations of class k, n_k − 1 times. f does not change under F_l ↦ F_l Q, F_{l−1} ↦ Qᵀ F_{l−1},
which gives r(d_l − r) + r(r−1)/2 zeros for each inner width.
"""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from ufm._support.quick_jit import quick_jit
from ufm._support.rank import matrix_rank
from ufm._support.threads import one_blas_thread
from ufm.hessian.products.columns import check_point, loss_derivatives
from ufm.hessian.products.dense import check_entries
from ufm.hessian.structured.collapsed import COLLAPSED, collapse_deviation
from ufm.hessian.symmetry_zeros import shift_is_free
from ufm.model.class_means import deviations, to_class_means
from ufm.model.objective import logits
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.derivatives import Swept, product, value_gradient_state
from ufm.variants.deep.factors import (
    end_to_end,
    factors_of,
    inner_widths,
    of_class_means,
    with_factors,
    without_hidden,
)

#: Largest dimension of a dense Hessian here: a minute of LAPACK.
LARGEST = 4_000
#: Directions in one call of the program of products.
_CHUNK = 64


def flat(params: Params) -> Float[np.ndarray, " P"]:
    """W, F_1, …, F_L, H row by row, then b."""
    parts = (*factors_of(params), *(() if params.b is None else (params.b,)))
    return np.concatenate([np.asarray(x).ravel() for x in parts])


def unflat(like: Params, vector: Any) -> Params:
    """The point or direction with these numbers; leading axes of `vector` are kept."""
    shapes = [F.shape for F in factors_of(like)] + ([] if like.b is None else [like.b.shape])
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    parts = np.split(vector, ends, axis=-1)
    lead = vector.shape[:-1]
    arrays = [x.reshape(lead + shape) for x, shape in zip(parts, shapes, strict=True)]
    b = None if like.b is None else arrays.pop()
    return with_factors(arrays, b)


@quick_jit
def _products(problem: Problem, params: Params, at: Swept, directions: Params) -> Params:
    return jax.vmap(lambda x: product(problem, params, at, x))(directions)


def dense(problem: Problem, params: Params) -> Float[np.ndarray, "P P"]:
    """∇²f in the order of `flat`. Raises `ValueError` if it is too large or not finite."""
    check_point(problem, params)
    size = problem.num_parameters
    if size > LARGEST:
        raise ValueError(
            f"the Hessian has {size:,} dimensions, more than {LARGEST:,}: take a point whose "
            "features are equal within classes, or smaller widths"
        )
    at = value_gradient_state(problem, params)[2]
    rows = []
    for i in range(0, size, _CHUNK):
        chunk = np.eye(_CHUNK, size, i, dtype=params.W.dtype)
        images = _products(problem, params, at, unflat(params, chunk))
        parts = (*factors_of(images), *(() if images.b is None else (images.b,)))
        flat_rows = [np.asarray(x).reshape(_CHUNK, -1) for x in parts]
        rows.append(np.concatenate(flat_rows, axis=1)[: size - i])
    H = np.concatenate(rows)
    check_entries(H)
    return 0.5 * (H + H.T)


class Reduced(NamedTuple):
    """The nearest point of exact rank r with features equal within classes, of K columns."""

    problem: Problem
    params: Params
    rank: int
    #: Orthonormal bases of the inner spaces, (d_l, r) each, from W on.
    bases: tuple[Float[np.ndarray, "_ _"], ...]
    #: ‖x − x̃‖ for the given point x.
    moved: float


def rank_of_factors(factors: Any) -> int:
    """The least numerical rank of the factors."""
    return min(matrix_rank(np.asarray(F)) for F in factors)


def reduced(problem: Problem, params: Params) -> Reduced:
    """Average features over classes and drop the dimensions of inner spaces that nothing uses."""
    means = np.asarray(to_class_means(problem, params.H))
    factors = [np.asarray(x) for x in (params.W, *params.hidden)] + [means]
    rank = rank_of_factors(factors)
    width = max(rank, 1)
    bases = []
    for left, right in itertools.pairwise(factors):
        _, _, rows = np.linalg.svd(np.concatenate([left, right.T]), full_matrices=False)
        bases.append(rows[:width].T)
    # Identities at the two ends, whose spaces are those of classes and columns.
    sides = [np.eye(len(factors[0])), *bases, np.eye(means.shape[1])]
    inside, lost = [], float(np.sum(np.asarray(deviations(problem, params.H)) ** 2))
    for F, x, y in zip(factors, sides[:-1], sides[1:], strict=True):
        inside.append(x.T @ F @ y)
        lost += float(np.sum((F - x @ inside[-1] @ y.T) ** 2))
    point = with_factors(inside, params.b)
    found = of_class_means(problem, width)
    return Reduced(found, point, rank, tuple(bases), lost**0.5)


def forced_zeros(problem: Problem, rank: int) -> int:
    """The number of zero eigenvalues that symmetry forces at a critical point of rank r."""
    turns = sum(rank * (d - rank) + rank * (rank - 1) // 2 for d in inner_widths(problem))
    return turns + int(shift_is_free(problem))


def deviation_eigenvalues(problem: Problem, params: Params) -> Float[np.ndarray, "K d"]:
    """Of λ_H I + W̃ᵀS_kW̃ for the classes, at a point of the K-column problem."""
    two = end_to_end(params)
    V = np.asarray(logits(without_hidden(problem), two)).T
    found = loss_derivatives(problem.loss, V, problem.labels)
    weights = np.asarray(problem.samples(V.dtype))
    W = np.asarray(two.W)
    # The columns are those of single samples: ω_i/c_i = 1/N whatever the weights.
    blocks = W.T @ (found.hessians / np.sum(weights)) @ W
    return np.linalg.eigvalsh(blocks) + float(problem.lam_h)


@one_blas_thread()
def eigenvalues(matrix: Float[np.ndarray, "P P"]) -> Float[np.ndarray, " P"]:
    return np.linalg.eigvalsh(matrix)


def all_eigenvalues(
    problem: Problem, params: Params
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """All eigenvalues of ∇²f with multiplicities, from class means if features have collapsed."""
    collapsed = collapse_deviation(problem, params) <= COLLAPSED
    if problem.num_parameters <= LARGEST // 4 or not collapsed:
        values = eigenvalues(dense(problem, params))
        return values, np.ones(len(values), np.int64)
    small = of_class_means(problem)
    point = with_factors((params.W, *params.hidden, to_class_means(problem, params.H)), params.b)
    means = eigenvalues(dense(small, point))
    apart = deviation_eigenvalues(small, point)
    # Column weights of the problem itself keep one deviation for every column but one of a class.
    copies = np.asarray(problem.class_counts, np.int64) - 1
    counts = np.repeat(copies[:, None], apart.shape[1], axis=1)
    every = np.concatenate([means, apart.ravel()])
    times = np.concatenate([np.ones(len(means), np.int64), counts.ravel()])
    return every, times
