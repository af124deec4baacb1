"""Distinguish and count critical points: which were found, how often, and how many are missing."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ufm._support.shown import Shown
from ufm.certificates.certificate import Verdict
from ufm.landscape.point import CriticalPoint
from ufm.landscape.starts import KINDS
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Problem

#: Points are the same if f and the singular values of G/μ differ by less than this, relative to
#: their size or to 1, and those of Z by less than this fraction of the largest, or almost nothing
#: (close to the collapse threshold all points are small).
SAME, _NOTHING = 1e-6, 1e-9


@dataclasses.dataclass(frozen=True, repr=False)
class Search(Shown):
    """The results of one kind of search.

    Of the `starts`, `critical` ended at a critical point, `at_origin` of these at W = H = 0;
    `gradient_flat` ended where H∇f = 0 but ∇f ≠ 0, and `unfinished` did not converge. `distinct`
    points were found, `singletons` of them by one start only.
    """

    kind: str
    starts: int
    critical: int
    at_origin: int
    gradient_flat: int
    unfinished: int
    distinct: int
    singletons: int

    @property
    def hit_rate(self) -> float:
        """The fraction of critical points among starts that did not end at the origin."""
        others = self.starts - self.at_origin
        return (self.critical - self.at_origin) / others if others else float("nan")

    @property
    def unseen(self) -> float:
        """The Good–Turing estimate of the probability that one more search finds a new point.

        It is singletons over hits (Good, 1953), and concerns points that this kind of search can
        find, weighted by how often it finds them.
        """
        return self.singletons / self.critical if self.critical else float("nan")


@dataclasses.dataclass(frozen=True)
class Descent:
    """A descent from saddle `source` along ± its direction of least curvature to point `target`.

    It uses the trust-region method of `ufm.solve`, in which f falls at every step. Another descent
    method may end elsewhere. `raises_rank` says that the direction leaves the row space; both signs
    are then equivalent.
    """

    source: int
    target: int
    sign: int
    raises_rank: bool


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Census(Shown):
    """The critical points found, by ascending f, and how they were found.

    `descents` refer to points by number. `partitions` of `partitions_total` integer partitions were
    searched. `is_complete_space` says that no critical point lies outside the search space. `note`
    describes omissions.
    """

    problem: Problem
    points: tuple[CriticalPoint, ...]
    minimum: GlobalMinimum
    searches: tuple[Search, ...]
    descents: tuple[Descent, ...]
    partitions: int
    partitions_total: int
    is_complete_space: bool
    note: str = ""

    _printed = ("problem", "verdicts", "minimum", "counterexamples", "descents", "searches", "note")

    @property
    def verdicts(self) -> dict[str, int]:
        """The number of points with each verdict."""
        return dict(Counter(point.verdict.name for point in self.points))

    def count(self, verdict: Verdict) -> int:
        """The number of points with that verdict."""
        return sum(point.verdict is verdict for point in self.points)

    def together(self, kinds: Sequence[str]) -> Search:
        """Searches of several kinds as one; singletons are points that a single start found."""
        parts = [each for each in self.searches if each.kind in kinds]
        hits = [sum(point.hits.get(kind, 0) for kind in kinds) for point in self.points]
        return Search(
            kind=", ".join(each.kind for each in parts),
            starts=sum(each.starts for each in parts),
            critical=sum(each.critical for each in parts),
            at_origin=sum(each.at_origin for each in parts),
            gradient_flat=sum(each.gradient_flat for each in parts),
            unfinished=sum(each.unfinished for each in parts),
            distinct=sum(count > 0 for count in hits),
            singletons=sum(count == 1 for count in hits),
        )

    @property
    def root_finder(self) -> Search:
        """The searches for roots of ∇f from starts without structure."""
        return self.together(KINDS)

    @property
    def ladder(self) -> dict[int, float]:
        """The lowest f found for each rank: the rungs of the rank ladder."""
        best: dict[int, float] = {}
        for point in self.points:
            best[point.rank] = min(point.value, best.get(point.rank, np.inf))
        return dict(sorted(best.items()))

    @property
    def counterexamples(self) -> tuple[CriticalPoint, ...]:
        """Local minima above the lowest known value. By the theory CE, LS and MSE have none.

        These are numerical statements, like the verdict LOCAL_MINIMUM.
        """
        lowest = min([point.value for point in self.points] + [self.minimum.value])
        tol = 1e-8 * abs(lowest)
        minima = (Verdict.LOCAL_MINIMUM, Verdict.MINIMUM_ON_CONVEX_REGION)
        return tuple(p for p in self.points if p.verdict in minima and p.value > lowest + tol)


class Tally:
    """Signatures so far, each with the number of its point and its hits by kind of search."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self.hits: list[Counter[str]] = []

    def add(self, signature: Float[np.ndarray, " s"], kind: str) -> tuple[int, bool]:
        """Count a hit of the point with that signature; return its number and whether it is new."""
        number = self.find(signature)
        if number is None:
            number = len(self._rows)
            self._rows.append(signature)
            self.hits.append(Counter())
            self.hits[number][kind] += 1
            return number, True
        self.hits[number][kind] += 1
        return number, False

    def find(self, signature: Float[np.ndarray, " s"]) -> int | None:
        """The number of the point with that signature."""
        if not self._rows:
            return None
        rows = np.asarray(self._rows)
        tol = np.tile(SAME * (1.0 + np.abs(signature)), (len(rows), 1))
        sizes = slice(1, 1 + (len(signature) - 1) // 2)
        largest = np.maximum(rows[:, 1], signature[1])
        tol[:, sizes] = (SAME * largest + _NOTHING)[:, None]
        found = np.flatnonzero(np.all(np.abs(rows - signature) <= tol, axis=1))
        return int(found[0]) if found.size else None


def search_record(
    kind: str, numbers: Sequence[int | None], origin: int | None, flat: int
) -> Search:
    """Make the record from the point at which each start of a kind ended, None if at none."""
    counts = Counter(number for number in numbers if number is not None)
    critical = sum(counts.values())
    return Search(
        kind=kind,
        starts=len(numbers),
        critical=critical,
        at_origin=0 if origin is None else counts[origin],
        gradient_flat=flat,
        unfinished=len(numbers) - critical - flat,
        distinct=len(counts),
        singletons=sum(count == 1 for count in counts.values()),
    )
