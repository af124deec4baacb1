"""What a hunt examines with hidden layers, and the curvatures there."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm.collapse.origin import origin
from ufm.minimum.structures import TableLoss, minimum_of, structures
from ufm.model.class_means import from_class_means
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.solvers import solve
from ufm.variants.deep import curvature
from ufm.variants.deep.derivatives import value_gradient_state
from ufm.variants.deep.factors import (
    decays_of,
    factors_of,
    largest_rank,
    number_of_factors,
    with_factors,
)
from ufm.variants.deep.factors import of_class_means as of_class_means
from ufm.variants.deep.hessian import (
    LARGEST,
    dense,
    deviation_eigenvalues,
    eigenvalues,
    forced_zeros,
    rank_of_factors,
    reduced,
)
from ufm.variants.deep.minimiser import balanced_factors
from ufm.variants.deep.minimum import relative_decay

#: Standard deviations of random starts, and the number of starts of each.
_SCALES, _STARTS = (0.1, 1.0), 2
#: Eigenvalues below this fraction of the sum of the decays are zero.
_ZERO = 1e-6


@dataclasses.dataclass(frozen=True)
class Counted:
    """Negative and zero eigenvalues, the zeros that rotations force, and the smallest other one."""

    index: int
    zeros: int
    gauge_dimension: int
    smallest: float


def value_and_gradient(problem: Problem, point: Params) -> tuple[Any, Params]:
    """f and its gradient."""
    value, gradient, *_ = value_gradient_state(problem, point)
    return value, gradient


def rank_of(point: Params) -> int:
    """The least numerical rank of the factors."""
    return rank_of_factors(factors_of(point))


def candidates(problem: Problem, key: Key[Array, ""]) -> Iterator[tuple[str, Params]]:
    """Points of the K-column problem to examine, and their origins."""
    small, K = of_class_means(problem), problem.num_classes
    yield "origin", origin(small)
    loss, M, decay = TableLoss(problem.loss, K), number_of_factors(problem), relative_decay(problem)
    bias = np.zeros(K) if problem.has_bias else None
    for each in structures(K, largest_rank(problem)):
        found = minimum_of(each, loss, M, decay)
        if found is not None:
            yield each.name, balanced_factors(small, found.table, bias, None, each.rank)
    for i, scale in enumerate(_SCALES * _STARTS):
        start = init_params(small, jax.random.fold_in(key, i), scale)
        yield f"run from scale {scale:g}", solve(small, start).params


def curvatures(
    problem: Problem, means: Params, grad_norm: float, critical: float
) -> tuple[str, Counted | None]:
    """Whether a point of class means is a "minimum", a "saddle", or "undecided".

    Eigenvalues are those over all samples.
    """
    if not grad_norm <= critical:
        return "undecided", None
    *inner, H = factors_of(means)
    point = with_factors((*inner, from_class_means(problem, H)), means.b)
    near = reduced(problem, point)
    if near.problem.num_parameters > LARGEST:
        return "undecided", None
    found = curvature.curvatures(problem, point, grad_norm)
    kind = "minimum" if found.is_minimum else "saddle" if found.descends else "undecided"
    values = eigenvalues(dense(near.problem, near.params))
    if problem.num_columns > problem.num_classes:
        values = np.append(values, deviation_eigenvalues(near.problem, near.params))
    width = _ZERO * sum(float(x) for x in decays_of(problem))
    idle = forced_zeros(problem, near.rank) - curvature.forced_zeros_within(problem, near.rank)
    index, zeros = int(np.sum(values < -width)), int(np.sum(np.abs(values) <= width)) + idle
    others = values[np.abs(values) > width]
    smallest = float(others[np.argmin(np.abs(others))])
    return kind, Counted(index, zeros, forced_zeros(problem, near.rank), smallest)
