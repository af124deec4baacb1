r"""The theory's curve in a phase diagram: the collapse threshold, or the reach of bounded norms.

The origin W = H = 0 is the global minimum at and above the threshold, but not below it. For convex
losses this holds in every dimension d ≥ 1: the threshold is ‖∇g(0)‖₂, above it the convex bound
f ≥ g + μ‖Z‖_* is attained at the origin, and below it a direction of negative curvature needs one
dimension. For the focal loss it also holds in every dimension (the margin bound) if the transition
is continuous. If the minimum jumps, the frame that ties with the origin needs d ≥ K−1. With a bias
the bound is exact for (K−1)√n μ ≤ 1. Only proven parts of the curve are drawn.

With features H ≥ 0 the threshold is γ°(∇g(0)) for convex losses, any class counts and any d ≥ 1;
for others it is proven without a bias, where classes decouple. If both norms are bounded, the
origin is no minimum. There the curve is where the largest margin that the norms allow is the best
one: with larger norms, or at a lower temperature, minimisers are not unique.

    threshold_curve(table, axis(table, "gamma"), None)     # one row for each crossing
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from ufm.collapse.symmetric_solution import known_threshold as threshold_of
from ufm.model.problem import Problem
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.report.phase.axis import DECAYS, Axis, Table, Values, at_place

Curve = Float[np.ndarray, "_ 2"]
Row = dict[str, Any]

#: Numbers of points along a field, to draw the curve and to search for a crossing.
_ALONG, _SCAN = 61, 33


def known_threshold(row: Row) -> float:
    """The decay at which the minimum leaves the origin, NaN if none is proven (see the module).

    `row` has the columns of a sweep's table that define the problem.
    """
    return _threshold(ProblemSpec.from_row(row | {x: 1.0 for x in DECAYS if row[x] == row[x]}))


@functools.lru_cache(maxsize=65536)
def _threshold(spec: ProblemSpec) -> float:
    problem = spec.problem()
    # That of hidden layers is for another mean of the decays.
    known = None if problem.lam_hidden else threshold_of(problem)
    if known is None:
        return math.nan
    mu = float(known.mu)
    return mu if _is_proven(problem, mu, bool(known.jumps)) else math.nan


@functools.lru_cache(maxsize=65536)
def _reach(spec: ProblemSpec) -> float:
    """The largest margin over the best one where both norms are bounded; NaN if none is known."""
    problem = spec.problem()
    closed_form = getattr(problem.variant, "closed_form", None)
    found = None if closed_form is None else closed_form(problem)
    # In fewer dimensions the rest of the norms may have no place.
    return math.nan if found is None or problem.dim < problem.num_classes else found.reach


def excess(row: Row) -> float:
    """How far a problem is beyond its threshold, which is at 0; NaN without one.

    It is μ over the threshold, minus one, or the reach of bounded norms, minus one.
    """
    threshold = known_threshold(row)
    if math.isfinite(threshold):
        return math.sqrt(row["lam_w"]) * math.sqrt(row["lam_h"]) / threshold - 1.0
    return _reach(ProblemSpec.from_row(row)) - 1.0


def is_reach(table: Table) -> bool:
    """Whether the curve of a table is that of bounded norms."""
    return bool(np.isinf(table["threshold"]).any())


def _is_proven(problem: Problem, mu: float, jumps: bool) -> bool:
    if problem.loss.is_convex():
        return True
    if problem.variant is not None:  # non-negative features
        return not problem.has_bias
    rank = problem.num_classes - 1
    c, far = rank * math.sqrt(problem.per_class or 0) * mu, float(problem.loss.far_slope())
    exact = not problem.has_bias or c <= far
    return exact and (problem.dim >= rank or not jumps)


def threshold_curve(table: Table, x: Axis, y: Axis | None, ratio: float | None = None) -> Curve:
    """Points (x, y) on the threshold, (x, 0) if `y` is None; rows of NaN separate branches.

    `ratio` is λ_H/λ_W if it is the same in all rows. Across cells of a discrete field the curve is
    a step, and a crossing between two levels is at the edge. The result is empty if no curve is
    proven, or if the curve depends on a field that is not an axis.
    """
    if np.isnan(table["threshold"]).all():
        return np.zeros((0, 2))
    model = _Model(table, x, y, ratio)
    if not model.agrees():
        return np.zeros((0, 2))
    if y is None:
        places = list(model.crossings(None))
        return np.column_stack([places, np.zeros(len(places))])
    return _joined([(place, list(model.crossings(at))) for place, at in _lines(y)], x.low)


def _lines(y: Axis) -> Iterator[tuple[float, float]]:
    """Ordinates of the curve, and the level of the problem at each."""
    if y.discrete:
        for i, level in enumerate(y.levels.tolist()):
            yield float(y.edges[i]), level
            yield float(y.edges[i + 1]), level
        return
    inner = y.numbers
    low, high = (y.low, float(y.edges[-1])) if y.name in DECAYS else (inner[0], inner[-1])
    if y.log or (y.name in DECAYS and low > 0):
        places = np.geomspace(low, high, _ALONG)
    else:
        places = np.linspace(low, high, _ALONG)
    places[[0, -1]] = low, high
    for place in places.tolist():
        if place > 0 or y.name not in DECAYS:
            yield place, place


def _joined(lines: Iterable[tuple[float, list[float]]], low: float) -> Curve:
    """Join crossings: branch j has the j-th crossing from the left of every line."""
    found = [(place, [x for x in crossings if x >= low]) for place, crossings in lines]
    most = max((len(crossings) for _, crossings in found), default=0)
    rows: list[tuple[float, float]] = []
    for j in range(most):
        branch = [(c[j] if j < len(c) else math.nan, place) for place, c in found]
        rows += [*branch, (math.nan, math.nan)]
    # Omit breaks at the ends and repeated ones.
    kept = [
        row
        for i, row in enumerate(rows)
        if not math.isnan(row[0]) or (i > 0 and not math.isnan(rows[i - 1][0]))
    ]
    while kept and math.isnan(kept[-1][0]):
        kept.pop()
    return np.array(kept, float).reshape(-1, 2)


class _Model:
    """The problem at any point of the plane: a row of the same levels with changed numbers."""

    def __init__(self, table: Table, x: Axis, y: Axis | None, ratio: float | None) -> None:
        self._table, self._x, self._y, self._ratio = table, x, y, ratio
        self._apart = [axis for axis in (x, y) if axis is not None and axis.discrete]
        places = zip(*(axis.at.tolist() for axis in self._apart), strict=True)
        #: The first row at every combination of discrete levels.
        self._first: dict[tuple[float, ...], int] = {} if self._apart else {(): 0}
        for i, key in enumerate(places):
            self._first.setdefault(key, i)

    def agrees(self) -> bool:
        """Whether decay and threshold of every row follow from its position."""
        for i in self._distinct_rows():
            row, place = self._row(i), self._place(i)
            if place is None:
                continue  # a decay of 0 is not on the scale
            model = self._at(*place)
            assert model is not None  # a row has these levels
            pairs = [(row["lam_w"], model["lam_w"]), (row["lam_h"], model["lam_h"])]
            pairs.append((excess(row), excess(model)))
            for own, other in pairs:
                if not np.isclose(own, other, rtol=1e-9, atol=1e-12, equal_nan=True):
                    return False
        return True

    def crossings(self, at: float | None) -> Iterator[float]:
        """The abscissae at which the decay crosses the threshold, ascending, at one ordinate."""
        x = self._x
        if x.name in DECAYS:
            yield from self._decay_at(at)
            return
        places = x.levels if x.discrete else np.linspace(x.numbers[0], x.numbers[-1], _SCAN)
        excess = [self._excess(place, at) for place in places.tolist()]
        for i in range(len(places) - 1):
            left, right = excess[i : i + 2]
            if math.isnan(left + right) or (left >= 0) == (right >= 0):
                continue
            if x.discrete:
                yield float(x.edges[i + 1])
            else:
                ends = float(places[i]), float(places[i + 1])
                root: Any = brentq(lambda place: self._excess(place, at), *ends)
                if abs(self._excess(root, at)) < 1e-6:  # otherwise a discontinuity
                    yield float(root)

    def _decay_at(self, at: float | None) -> Iterator[float]:
        row = self._at(float(self._x.numbers[0]), at)
        if row is None:
            return
        mu, other = known_threshold(row), row["lam_h" if self._x.name == "lam_w" else "lam_w"]
        if self._ratio is not None:
            yield from (x for x in [mu / math.sqrt(self._ratio)] if not math.isnan(x))
        elif other > 0 and not math.isnan(mu):
            yield mu**2 / float(other)

    def _excess(self, x: float, y: float | None) -> float:
        """`excess`; NaN without a problem."""
        row = self._at(x, y)
        return math.nan if row is None else excess(row)

    def _at(self, x: float, y: float | None) -> Row | None:
        given = [(self._x, x)]
        if self._y is not None and y is not None:
            given.append((self._y, y))
        first = self._first.get(tuple(at for axis, at in given if axis.discrete))
        if first is None:
            return None
        changed: Row = {axis.name: at for axis, at in given if not axis.discrete}
        if self._ratio is not None and "lam_w" in changed:
            changed["lam_h"] = self._ratio * changed["lam_w"]
        return at_place(self._row(first), changed)

    def _row(self, i: int) -> Row:
        return {name: self._table[name][i].item() for name in decisive(self._table)}

    def _place(self, i: int) -> tuple[float, float | None] | None:
        axes = [axis for axis in (self._x, self._y) if axis is not None]
        if any(not axis.discrete and axis.at[i] < axis.low for axis in axes):
            return None
        return float(self._x.at[i]), None if self._y is None else float(self._y.at[i])

    def _distinct_rows(self) -> list[int]:
        codes = [
            np.unique(self._table[name], return_inverse=True)[1] for name in decisive(self._table)
        ]
        places = [np.unique(axis.at, return_inverse=True)[1] for axis in (self._x, self._y) if axis]
        columns = np.column_stack([*codes, *places])
        return np.unique(columns, axis=0, return_index=True)[1].tolist()


def common_ratio(values: Values) -> float | None:
    """The common value of ratios; None if they differ or none is a number."""
    known = np.isfinite(values) & (values > 0)
    same = known.all() and np.ptp(values) <= 1e-9 * values[0]
    return float(values[0]) if same else None
