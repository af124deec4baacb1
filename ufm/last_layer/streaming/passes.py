"""A pass over the features: sums of terms of their blocks, computed on all cores.

Every core reads one part of the samples, block by block, and the parts are added at the end. A
block has about 2²⁰ numbers: enough for matrix products to run at full speed, few enough for what is
computed from it to stay in the cache, which halves the time of sums in double precision.
"""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ufm._support.threads import cores, in_this_precision, one_blas_thread
from ufm.last_layer.features import Features

#: Called with the number of rows that a pass has read, and the number of all rows.
OnRows = Callable[[int, int], None]

_NUMBERS, _FEWEST_ROWS = 2**20, 64
#: Logits of a tile: with all that is computed from them they stay in the cache of a core.
_TILE = 2**14


class Samples(NamedTuple):
    """The features with labels and weights, in any order.

    Weights have mean 1 over the samples that count; those of ignored samples are 0, with any label.
    """

    features: Features
    labels: Int[np.ndarray, " N"]
    #: None stands for 1.
    weights: Float[np.ndarray, " N"] | None

    def of(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and weights of a block."""
        labels = self.labels[start:stop].astype(np.int32)
        if self.weights is None:
            weights = (labels >= 0).astype(float)
        else:
            weights = np.where(labels >= 0, self.weights[start:stop], 0.0)
        return np.maximum(labels, 0), weights


def block_rows(classes: int, dim: int, samples: int) -> int:
    """The number of rows of a block: some tiles."""
    rows = max(_NUMBERS // max(2 * classes, dim), _FEWEST_ROWS)
    return min(rows - rows % tile_rows(classes, rows), samples)


def tile_rows(classes: int, rows: int) -> int:
    """The number of rows, a power of two, of which a compiled program makes one turn."""
    return min(2 ** max((_TILE // classes).bit_length() - 1, 0), rows)


def buffer(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros where XLA reads it in place: it copies what is not aligned to 64 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


class Total(NamedTuple):
    """What is added over blocks, and what is maximised over them."""

    sums: tuple[Any, ...]
    peaks: tuple[Any, ...]

    def and_(self, other: "Total") -> "Total":
        """Both; the arrays of this one take the sums."""
        return Total(
            tuple(map(_add, self.sums, other.sums)),
            tuple(map(np.maximum, self.peaks, other.peaks)),
        )


def _add(total: Any, term: Any) -> Any:
    if isinstance(total, np.ndarray) and total.flags.writeable:
        return np.add(total, term, out=total)
    return np.add(total, term)


def summed(
    samples: Samples,
    size: int,
    begin: Callable[[], Callable[..., Total]],
    on_rows: OnRows | None = None,
) -> Total:
    """Combine the totals of all blocks.

    `begin` makes the function that computes the total of a block from the position of its first
    row, its rows, labels and weights. It is called once for each core, so that the function may
    keep buffers. `on_rows` is told the numbers of rows that were read, and of all.
    """
    count = len(samples.features)
    parts = max(min(cores(), count // size), 1)
    edges = [i * count // parts for i in range(parts + 1)]

    lock, read = threading.Lock(), 0

    def said(rows: int) -> None:
        nonlocal read
        with lock:
            read += rows
            if on_rows is not None:
                on_rows(read, count)

    def part(i: int) -> Total:
        terms, total = begin(), None
        for start, rows in samples.features.blocks(size, edges[i], edges[i + 1]):
            found = terms(start, rows, *samples.of(start, start + len(rows)))
            total = found if total is None else total.and_(found)
            said(len(rows))
        assert total is not None
        return total

    # One thread of BLAS for each part: with more they wait while others do the arithmetic between.
    with one_blas_thread(), ThreadPoolExecutor(max_workers=parts) as pool:
        first, *others = pool.map(in_this_precision(part), range(parts))
    for other in others:
        first = first.and_(other)
    return first
