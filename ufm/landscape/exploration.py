"""The census: critical points from independent searches, classified, and the descents between them.

| search | finds |
|---|---|
| origin | W = H = 0 with its best bias |
| ladder | minima in 1, 2, … dimensions, from many starts each |
| partition | minima of every rank among points symmetric under a partition of the classes |
| noise, truncation, perturbation | roots of ∇f of any index (`ufm.landscape.starts`) |
| flow | saddles at which gradient flow from a small start lingers |
| descent | ends of descents from saddles, until no new point is found |

The root finder polishes every candidate to ‖∇f‖ ≤ 1e-10; candidates that do not reach this are
counted separately. Points are the same if f and the singular values of Z and of G agree to 1e-6.

    >>> census = explore(problem, key, starts_per_rank=2, root_starts=0, flows=0)
    >>> for point in (census.points[0], census.points[-1]):
    ...     print(round(point.value, 6), point.index, point.rank, point.verdict.name)
    0.183692 0 3 GLOBAL_MINIMUM
    1.386294 18 0 STRICT_SADDLE
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm._support.pytree import entry, stacked
from ufm._support.threads import one_blas_thread
from ufm.collapse.origin import origin
from ufm.landscape.census import Census, Descent, Search, Tally, search_record
from ufm.landscape.flow import gradient_flow, small_start
from ufm.landscape.listed import listed_census
from ufm.landscape.point import CriticalPoint, describe, signature
from ufm.landscape.point_space import PointSpace, search_space
from ufm.landscape.root_finding import CRITICAL, Roots, RootStatus, find_roots
from ufm.landscape.starts import minimum_in, search_starts, typical_sizes
from ufm.landscape.structured import ladder, partition_cases, partition_points
from ufm.minimum.global_minimum import global_minimum
from ufm.model.params import Params, along, norm
from ufm.model.problem import Problem
from ufm.model.variant import by_variant
from ufm.solvers import solve_many

#: Length of the first step of a descent, relative to the point and to 1.
_FIRST_STEP = 1e-2
#: σ_max of the root finder, in units of λ_W + λ_H, is drawn between these for every start.
_LEAST_SHIFT, _MOST_SHIFT = 0.5, 32.0


#: Called as a stage advances, with its name, the number of finished items, and their total.
Progress = Callable[[str, int, int], None]


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


@dataclasses.dataclass(frozen=True)
class _Effort:
    """The number of searches of each kind; see `explore`."""

    starts_per_rank: int
    max_partitions: int
    starts_per_partition: int
    root_starts: int
    flows: int
    descend: bool

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(
                    f"{field.name} must not be negative, got {getattr(self, field.name)}"
                )


@by_variant
def explore(
    problem: Problem,
    key: Key[Array, ""],
    *,
    starts_per_rank: int = 10,
    max_partitions: int = 1_000,
    starts_per_partition: int = 6,
    root_starts: int = 240,
    flows: int = 4,
    descend: bool = True,
    on_progress: Progress = _silent,
) -> Census:
    """Search for the critical points of a problem, classify them, and descend from the saddles.

    This takes seconds for K = 4, and a minute for K = 10. With hidden layers nothing is searched:
    the points are the complete list for squared error (`ufm.critical_points`).

    Args:
        problem: The problem, with decays.
        key: Random key of all starts.
        starts_per_rank: Random starts for each rung of the rank ladder.
        max_partitions: Largest number of partitions of the classes to search; if there are more, a
            random sample.
        starts_per_partition: Starts for each rank of each partition.
        root_starts: Starts of the root finder, which makes no assumption on the structure.
        flows: Number of gradient flows from small starts.
        descend: Whether to descend along ± the direction of least curvature from every saddle.
        on_progress: Called with the stage's name, the number of finished items, and their total.

    Returns:
        The points by ascending f, with verdict, index and hits, and which saddle descends to which
        point.

    Raises:
        ValueError: A decay is 0, the class means have more than 4,000 dimensions, or a number of
            starts is negative; with hidden layers, as `ufm.critical_points`.
    """
    effort = _Effort(
        starts_per_rank, max_partitions, starts_per_partition, root_starts, flows, descend
    )
    with one_blas_thread():
        if problem.lam_hidden:
            return listed_census(problem, key, descend, on_progress)
        return _explore(_Explorer(problem, search_space(problem), on_progress), key, effort)


def _explore(explorer: "_Explorer", key: Key[Array, ""], effort: _Effort) -> Census:
    keys = iter(jax.random.split(key, 8))
    space, minimum = explorer.space, global_minimum(explorer.problem)
    means = minimum_in(space, minimum, next(keys))
    sizes = typical_sizes(space.means, means)

    explorer.add_all([origin(space.means)], "origin")
    if effort.starts_per_rank:
        on_done = explorer.stage("rank ladder", effort.starts_per_rank * space.max_rank)
        found = ladder(space, sizes, next(keys), effort.starts_per_rank, on_done)
        explorer.add_all(found, "ladder")
    cases, searched, total = partition_cases(space, next(keys), effort.max_partitions)
    cases = cases * effort.starts_per_partition
    if cases:
        on_done = explorer.stage("partitions", len(cases))
        explorer.add_all(partition_points(space, cases, sizes, next(keys), on_done), "partition")
    if effort.root_starts:
        explorer.find_roots(space.from_means(means), next(keys), effort.root_starts)
    if effort.flows:
        explorer.follow_flows(next(keys), effort.flows)
    descents = explorer.descend() if effort.descend else []
    return explorer.census(minimum, descents, searched, total)


class _Explorer:
    """Collects points in the order in which they are found."""

    def __init__(self, problem: Problem, space: PointSpace, on_progress: Progress) -> None:
        self.problem, self.space, self._on_progress = problem, space, on_progress
        self.tally = Tally()
        self.points: list[Params] = []
        self.described: list[CriticalPoint] = []
        self.ends: dict[str, list[int | None]] = {}
        self.flat: Counter[str] = Counter()

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Announce a stage; call the returned function with the number of each finished item."""
        done = iter(range(1, total + 1))
        self._on_progress(name, 0, total)
        return lambda _: self._on_progress(name, next(done, total), total)

    def add_all(self, means: list[Params], kind: str) -> None:
        """Polish candidates given as class means and count them."""
        if means:
            starts = stacked([self.space.from_means(point) for point in means])
            self.polish(starts, [kind] * len(means))

    def polish(
        self,
        starts: Params,
        kinds: list[str],
        most: np.ndarray | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[int | None]:
        """Find roots from starts and count them; return the number of each one's point."""
        roots = find_roots(self.space.small, starts, most=most, on_done=on_done)
        return [self._count(entry(roots, i), kind) for i, kind in enumerate(kinds)]

    def _count(self, root: Roots, kind: str) -> int | None:
        """The number of the point at which a search ended; None if it is not critical."""
        number = None
        if int(root.status) == RootStatus.CRITICAL:
            row = np.asarray(signature(self.space.small, root.params))
            number, new = self.tally.add(row, kind)
            if new:
                self.points.append(root.params)
        elif int(root.status) == RootStatus.GRADIENT_FLAT:
            self.flat[kind] += 1
        self.ends.setdefault(kind, []).append(number)
        return number

    def find_roots(self, typical: Params, key: Key[Array, ""], count: int) -> None:
        """Find roots of ∇f from noise, truncated minima and perturbed points."""
        key, own = jax.random.split(key)
        starts, kinds = search_starts(self.space, typical, list(self.points), key, count)
        decays = float(self.problem.lam_w + self.problem.lam_h)
        # Long and short first steps lead to different points.
        exponents = np.asarray(jax.random.uniform(own, (count,)))
        most = decays * _LEAST_SHIFT * (_MOST_SHIFT / _LEAST_SHIFT) ** exponents
        self.polish(starts, kinds, most, self.stage("roots", count))

    def follow_flows(self, key: Key[Array, ""], count: int) -> None:
        """Find plateaus of gradient flows from small starts, every other one with spread scales."""
        advance = self.stage("flows", count)
        lingering = []
        for i in range(count):
            spread = 1.0 if i % 2 == 0 else 1e-6
            start = small_start(self.space.means, jax.random.fold_in(key, i), 1e-2, spread)
            flow = gradient_flow(self.space.means, start)
            lingering += [flow.point(moment) for moment in flow.plateaus]
            advance(i)
        self.add_all(lingering, "flow")

    def describe(self) -> None:
        """Classify the new points."""
        advance = self.stage("classification", len(self.points) - len(self.described))
        for number in range(len(self.described), len(self.points)):
            found = describe(self.space, self.points[number], dict(self.tally.hits[number]))
            self.described.append(found)
            advance(number)

    def descend(self) -> list[Descent]:
        """Descend from every saddle, including those found on the way, until no point is new."""
        descents: list[Descent] = []
        done = 0
        while done < len(self.points):
            self.describe()
            wave = [i for i in range(done, len(self.points)) if self.described[i].index > 0]
            done = len(self.points)
            if wave:
                descents += self._descend_from(wave)
        return descents

    def _descend_from(self, wave: list[int]) -> list[Descent]:
        ways = [(i, sign) for i in wave for sign in self._signs(i)]
        starts = stacked([self._beside(i, sign) for i, sign in ways])
        on_done = self.stage("descents", len(ways))
        ends = solve_many(self.space.small, starts=starts, max_steps=500, on_done=on_done)
        numbers = self.polish(ends.params, ["descent"] * len(ways))
        return [
            Descent(i, number, sign, self._raises_rank(i))
            for (i, sign), number in zip(ways, numbers, strict=True)
            if number is not None
        ]

    def _signs(self, number: int) -> tuple[int, ...]:
        return (1,) if self._raises_rank(number) else (1, -1)

    def _raises_rank(self, number: int) -> bool:
        found = self.described[number]
        return bool(np.any(np.asarray(found.direction.W)[:, found.rank :] != 0))

    def _beside(self, number: int, sign: int) -> Params:
        found = self.described[number]
        length = sign * _FIRST_STEP * max(1.0, float(norm(found.point)))
        return along(length, found.direction, found.point)

    def census(self, minimum, descents: list[Descent], partitions: int, total: int) -> Census:
        """Make the census, with points sorted by f."""
        self.describe()
        accurate = [p.grad_norm <= CRITICAL for p in self.described]
        order = sorted(np.flatnonzero(accurate), key=lambda i: self.described[i].value)
        place = {int(number): i for i, number in enumerate(order)}
        points = tuple(
            dataclasses.replace(self.described[i], hits=dict(self.tally.hits[i])) for i in order
        )
        moved = [
            dataclasses.replace(d, source=place[d.source], target=place[d.target])
            for d in descents
            if d.source in place and d.target in place
        ]
        note = ""
        if not all(accurate):
            note = (
                f"{accurate.count(False)} points lost their accuracy when rotated and are left out"
            )
        return Census(
            problem=self.problem,
            points=points,
            minimum=minimum,
            searches=tuple(self._searches()),
            descents=tuple(dict.fromkeys(moved)),
            partitions=partitions,
            partitions_total=total,
            is_complete_space=self.space.is_complete,
            note=note,
        )

    def _searches(self) -> Iterator[Search]:
        origins = [i for i, found in enumerate(self.described) if found.rank == 0]
        for kind, numbers in self.ends.items():
            yield search_record(kind, numbers, origins[0] if origins else None, self.flat[kind])
