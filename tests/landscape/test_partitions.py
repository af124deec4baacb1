"""Integer partitions: how many, which, and drawn evenly."""

import collections

import numpy as np
import pytest

from ufm.landscape.partitions import (
    block_structures,
    integer_partitions,
    partition_counts,
    random_partition,
)


def test_there_are_as_many_as_euler_says():
    counts = partition_counts(100)
    assert [counts[n] for n in (0, 1, 4, 10, 20, 100)] == [1, 1, 5, 42, 627, 190_569_292]


@pytest.mark.parametrize("total", [1, 4, 7])
def test_all_are_listed_once(total):
    listed = list(integer_partitions(total))
    assert len(set(listed)) == len(listed) == partition_counts(total)[total]
    assert all(sum(parts) == total and parts == tuple(sorted(parts)[::-1]) for parts in listed)


def test_random_ones_are_equally_likely():
    rng, draws = np.random.default_rng(0), 6_000
    seen = collections.Counter(random_partition(7, rng) for _ in range(draws))
    assert len(seen) == 15
    expected = draws / 15
    chi_squared = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_squared < 36.1  # 0.1 % of the chi-squared distribution with 14 degrees of freedom


def test_only_equal_classes_are_merged():
    structures, total = block_structures([5.0, 2.0, 5.0, 5.0], 100, np.random.default_rng(0))
    assert total == len(structures) == 3  # p(3) p(1)
    for blocks in structures:
        assert sorted(j for block in blocks for j in block) == [0, 1, 2, 3]
        assert (1,) in blocks


def test_above_the_limit_they_are_sampled_without_repetition():
    structures, total = block_structures([1.0] * 20, 50, np.random.default_rng(0))
    assert total == 627
    assert len({tuple(map(len, blocks)) for blocks in structures}) == 50
