"""Integer partitions of the classes into blocks: all of them, or a uniform sample.

Only classes of equal size can be merged, and any choice among them is equivalent. A group of g
equal classes therefore has one case for each integer partition of g, and the cases of several
groups multiply. K = 10 balanced classes have 42 cases, K = 20 have 627.

    >>> partition_counts(4)             # p(0), …, p(4)
    [1, 1, 2, 3, 5]
    >>> list(integer_partitions(4))
    [(4,), (3, 1), (2, 2), (2, 1, 1), (1, 1, 1, 1)]
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ufm.landscape.merged import Blocks

Parts = tuple[int, ...]


def integer_partitions(total: int, largest: int | None = None) -> Iterator[Parts]:
    """Partitions of `total` into parts of at most `largest`, each in descending order."""
    if total == 0:
        yield ()
        return
    for first in range(min(total, largest or total), 0, -1):
        for rest in integer_partitions(total - first, first):
            yield (first, *rest)


def partition_counts(total: int) -> list[int]:
    """p(0), …, p(total), the numbers of partitions (Euler's recursion, exact)."""
    return [_restricted(n, n) for n in range(total + 1)]


@functools.cache
def _restricted(total: int, largest: int) -> int:
    """The number of partitions of `total` into parts of at most `largest`."""
    if total == 0:
        return 1
    if total < 0 or largest == 0:
        return 0
    return _restricted(total, min(largest, total) - 1) + _restricted(
        total - min(largest, total), min(largest, total)
    )


def random_partition(total: int, rng: np.random.Generator) -> Parts:
    """Draw one of the p(total) partitions, all equally likely."""
    parts, largest = [], total
    while total > 0:
        # Draw the largest part in proportion to the number of partitions that contain it.
        choices = list(range(min(total, largest), 0, -1))
        weights = np.cumsum([_restricted(total - k, k) for k in choices], dtype=float)
        largest = choices[int(np.searchsorted(weights, rng.random() * weights[-1], "right"))]
        parts.append(largest)
        total -= largest
    return tuple(parts)


def block_structures(
    class_sizes: Sequence[float], limit: int, rng: np.random.Generator
) -> tuple[list[Blocks], int]:
    """Blocks for every case, or for `limit` different random cases; and the number of cases.

    Classes are grouped by size; blocks are ordered by size, largest first.
    """
    groups: dict[float, list[int]] = {}
    for j, size in enumerate(class_sizes):
        groups.setdefault(float(size), []).append(j)
    members = list(groups.values())
    total = 1
    for group in members:
        total *= _restricted(len(group), len(group))
    if total <= limit:
        cases = itertools.product(*(integer_partitions(len(group)) for group in members))
        return [_blocks(members, case) for case in cases], total
    drawn: dict[Blocks, None] = {}
    while len(drawn) < limit:
        case = tuple(random_partition(len(group), rng) for group in members)
        drawn[_blocks(members, case)] = None
    return list(drawn), total


def _blocks(members: list[list[int]], case: tuple[Parts, ...]) -> Blocks:
    blocks = []
    for group, parts in zip(members, case, strict=True):
        ends = np.cumsum(parts)
        blocks += [tuple(group[end - size : end]) for size, end in zip(parts, ends, strict=True)]
    return tuple(sorted(blocks, key=lambda block: (-len(block), block)))
