"""Structured searches: the rank ladder, and all partitions of the classes.

A minimum of the problem in r < d dimensions is a critical point in d dimensions: a rung of the
ladder. Minima of every rank among points that share w, h̄ and b within blocks of classes are
critical points too (`ufm.landscape.merged`). Both are found by minimising over class means, in one
compiled program each: a run whose start is zero beyond r dimensions stays there.
"""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm._support.pytree import entry, stacked
from ufm.landscape.merged import Blocks, expand, merged_problem
from ufm.landscape.partitions import block_structures
from ufm.landscape.point_space import PointSpace, in_first_axes
from ufm.landscape.starts import Sizes, random_points
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.solvers import solve_many

#: Steps of one minimisation; if it needs more, the root finder completes it.
_MOST_STEPS = 500


def ladder(
    space: PointSpace,
    sizes: Sizes,
    key: Key[Array, ""],
    per_rank: int,
    on_done: Callable[[int], None] | None = None,
) -> list[Params]:
    """Find minima in 1, 2, … dimensions from `per_rank` random starts each."""
    ranks = [r for r in range(1, space.max_rank + 1) for _ in range(per_rank)]
    starts = _in_axes(random_points(space.means, sizes, key, len(ranks)), ranks)
    found = solve_many(space.means, starts=starts, max_steps=_MOST_STEPS, on_done=on_done)
    return [entry(found.params, i) for i in range(len(ranks))]


def partition_cases(
    space: PointSpace, key: Key[Array, ""], limit: int
) -> tuple[list[tuple[Blocks, int]], int, int]:
    """(blocks, rank) for every partition and rank; the numbers of partitions searched and in total.

    If there are more than `limit` partitions, that many are drawn at random. The rank is at most
    the number of blocks, less one for shift-invariant losses; a single block gives the origin. With
    targets there are none.
    """
    if space.problem.has_targets:  # rows of W are not those of groups, which could merge
        return [], 0, 0
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    sizes = np.asarray(class_sizes(space.problem)).tolist()
    if not space.problem.loss.equivariant:  # no two classes are alike
        sizes = list(range(1, len(sizes) + 1))
    structures, total = block_structures(sizes, limit, rng)
    lost = 1 if space.problem.loss.shift_invariant else 0
    cases = [
        (blocks, rank)
        for blocks in structures
        for rank in range(1, min(len(blocks) - lost, space.small.dim) + 1)
    ]
    return cases, len(structures), total


def partition_points(
    space: PointSpace,
    cases: list[tuple[Blocks, int]],
    sizes: Sizes,
    key: Key[Array, ""],
    on_done: Callable[[int], None] | None = None,
) -> list[Params]:
    """Find minima among the points of every case, from one random start each."""
    means, K = space.means, space.problem.num_classes
    entries = [merged_problem(means, blocks) for blocks, _ in cases]
    batch = stacked(entries)
    unit = random_points(means, sizes, key, len(cases))
    present = np.array([np.arange(K) < len(blocks) for blocks, _ in cases], float)
    starts = Params(
        unit.W * present[:, :, None],
        unit.H * present[:, None, :],
        None if unit.b is None else unit.b * present,
    )
    starts = _in_axes(starts, [rank for _, rank in cases])
    found = solve_many(batch, starts=starts, max_steps=_MOST_STEPS, on_done=on_done)
    return [expand(merged, entry(found.params, i)) for i, merged in enumerate(entries)]


def _in_axes(starts: Params, ranks: list[int]) -> Params:
    return jax.vmap(in_first_axes)(starts, jax.device_put(np.asarray(ranks)))
