"""The census of squared error with hidden layers: the list of the theory, and descents.

All critical points are known (`ufm.variants.deep.critical_list`), with indices and zeros, so that
nothing is searched. The smallest eigenvalue and its direction are computed at one point of each
entry, in the problem of class means.
"""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm._support.pytree import entry, stacked
from ufm.certificates.certificate import Reason, Verdict
from ufm.landscape.census import Census, Descent
from ufm.landscape.point import CriticalPoint
from ufm.landscape.point_space import PointSpace, search_space
from ufm.minimum.global_minimum import global_minimum
from ufm.model.params import Params, along, norm
from ufm.model.problem import Problem
from ufm.solvers import solve_many
from ufm.variants.deep.critical_list import ListedPoint, critical_points
from ufm.variants.deep.curvature import curvatures
from ufm.variants.deep.derivatives import products, value_gradient_state
from ufm.variants.deep.factors import end_to_end, mean_decay
from ufm.variants.deep.minimiser import balanced_factors

#: Length of the first step of a descent, relative to the point and to 1.
_FIRST_STEP = 1e-2
#: A descent ended at an entry if f and the singular values of Z agree to this, relative to f(0)
#: and to the largest one.
_SAME = 1e-5

_REASONS = {
    Verdict.GLOBAL_MINIMUM: Reason.GAP_CLOSED,
    Verdict.LOCAL_MINIMUM: Reason.ALL_CURVATURES_POSITIVE,
    Verdict.STRICT_SADDLE: Reason.NEGATIVE_CURVATURE,
}

Progress = Callable[[str, int, int], None]


def listed_census(
    problem: Problem, key: Key[Array, ""], descend: bool, on_progress: Progress
) -> Census:
    """The list as a census. Raises `ValueError` as `ufm.critical_points`."""
    found, space = critical_points(problem), search_space(problem)
    lowest = global_minimum(problem)
    points = []
    for i, each in enumerate(found):
        on_progress("classification", i, len(found))
        points.append(_described(space, each, float(lowest.lower_bound), key))
    on_progress("classification", len(found), len(found))
    return Census(
        problem=problem,
        points=tuple(points),
        minimum=lowest,
        searches=(),
        descents=tuple(_descents(space, points, on_progress)) if descend else (),
        partitions=0,
        partitions_total=0,
        is_complete_space=True,
        note="the list is complete by theory: squared error has no other critical point",
    )


def _described(
    space: PointSpace, each: ListedPoint, bound: float, key: Key[Array, ""]
) -> CriticalPoint:
    small = space.small
    # The logits of a class times √n_k are those of its one weighted column.
    point = balanced_factors(small, each.logits, each.bias, key, each.rank)
    value, gradient, at, _ = value_gradient_state(small, point)
    size = float(norm(gradient))
    escape = curvatures(small, point, size).escape
    smallest, direction = float(escape.curvature), escape.direction
    image = products(small, point, at, direction)
    rest = jax.tree.map(lambda y, x: y - smallest * x, image, direction)
    return CriticalPoint(
        space=space,
        point=point,
        value=float(value),
        grad_norm=size,
        rank=each.rank,
        singular_values=_sizes(point),
        dual_norm=each.dual_norm,
        dual_ratio=each.dual_norm / float(mean_decay(small)),
        index=each.index,
        zero_modes=each.zero_modes,
        gauge_modes=each.gauge_modes,
        smallest=smallest,
        residual=float(norm(rest)),
        direction=direction,
        escape=None,
        curvature=None,
        verdict=each.verdict,
        reason=_REASONS[each.verdict],
        gap=each.value - bound,
        hits={"list": 1},
    )


def _sizes(point: Params) -> np.ndarray:
    two = end_to_end(point)
    return np.linalg.svd(np.asarray(two.W) @ np.asarray(two.H), compute_uv=False)


def _descents(
    space: PointSpace, points: list[CriticalPoint], on_progress: Progress
) -> list[Descent]:
    """Where runs along ± the direction of least curvature end, if at an entry of the list."""
    ways = [(i, sign) for i, point in enumerate(points) if point.index for sign in (1, -1)]
    if not ways:
        return []
    starts = []
    for i, sign in ways:
        length = sign * _FIRST_STEP * max(1.0, float(norm(points[i].point)))
        starts.append(along(length, points[i].direction, points[i].point))
    done = iter(range(1, len(ways) + 1))
    on_progress("descents", 0, len(ways))
    ends = solve_many(
        space.small,
        starts=stacked(starts),
        max_steps=500,
        on_done=lambda _: on_progress("descents", next(done), len(ways)),
    )
    moved = []
    for number, (i, sign) in enumerate(ways):
        target = _entry_at(points, float(ends.value[number]), _sizes(entry(ends.params, number)))
        if target is not None:  # for M ≥ 3 no direction of descent leaves the row space
            moved.append(Descent(i, target, sign, raises_rank=False))
    return list(dict.fromkeys(moved))


def _entry_at(points: list[CriticalPoint], value: float, sizes: np.ndarray) -> int | None:
    origin = max(point.value for point in points)
    for i, point in enumerate(points):
        apart = float(np.max(np.abs(point.singular_values - sizes)))
        largest = max(float(sizes[0]), float(point.singular_values[0]), _SAME)
        if abs(point.value - value) <= _SAME * origin and apart <= _SAME * largest:
            return i
    return None
