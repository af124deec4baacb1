"""Features in blocks: the rows and columns of all shards, once each, without their pages."""

import resource

import numpy as np
import pytest

from ufm.last_layer.features import Features

RNG = np.random.default_rng(0)


def shards_of(rows, layout, counts, dtype=np.float64):
    cut = np.split(rows.astype(dtype), np.cumsum(counts)[:-1])
    return tuple(part if layout == "rows" else np.ascontiguousarray(part.T) for part in cut)


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (2, 9), (4, 5), (11, 11)])
def test_blocks_hold_every_feature_once_in_order(layout, size, start, stop):
    rows = RNG.standard_normal((11, 4))
    features = Features(shards_of(rows, layout, (5, 0, 4, 2)), layout)
    assert (len(features), features.dim) == (11, 4)
    blocks = list(features.blocks(size, start, stop))
    wanted = rows[start:stop]
    assert all(1 <= len(block) <= size for _, block in blocks)
    assert sum(len(block) for _, block in blocks) == len(wanted)
    for first, block in blocks:
        np.testing.assert_array_equal(block, rows[first : first + len(block)])
    if blocks:
        np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), wanted)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        (">f4", "float32"),
        ("int16", "float32"),
        ("int32", "float64"),
        ("float64", "float64"),
    ],
)
def test_the_precision_holds_every_entry(stored, read):
    rows = np.arange(-4, 8).reshape(6, 2)
    features = Features(shards_of(rows, "rows", (6,), stored), "rows")
    [(_, block)] = features.blocks(6)
    assert features.dtype == block.dtype == np.dtype(read)
    np.testing.assert_array_equal(block, rows)


def test_pages_of_a_map_are_let_go(tmp_path):
    # 160 MB: the peak of the process grows by a part of it.
    path = tmp_path / "features.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.float32, (40_000, 1000))
    stored[:] = 1.0
    stored.flush()
    del stored
    features = Features((np.load(path, mmap_mode="r"),), "rows")
    before = resident()
    most = 0
    total = 0.0
    for _, block in features.blocks(1000):
        total += float(block.sum())
        most = max(most, resident() - before)
    assert total == 40_000 * 1000
    assert most < 80e6


def test_private_maps_keep_what_was_changed(tmp_path):
    path = tmp_path / "features.npy"
    np.save(path, np.zeros((8, 2)))
    mapped = np.load(path, mmap_mode="c")
    mapped[3] = 7.0
    assert [block.max() for _, block in Features((mapped,), "rows").blocks(4)] == [7.0, 0.0]
    assert mapped[3, 0] == 7.0


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
