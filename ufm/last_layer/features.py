"""Read features in blocks, so that no more than a block of them is in memory.

>>> shards = tuple(np.arange(12.0).reshape(2, 3, 2))
>>> features = Features(shards, "rows")
>>> len(features), features.dim
(6, 2)
>>> [(start, block.shape) for start, block in features.blocks(2)]
[(0, (2, 2)), (2, (1, 2)), (3, (2, 2)), (5, (1, 2))]
"""

import dataclasses
import itertools
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from ufm.last_layer.arrays import Layout

#: Bytes that are read before the pages of a memory-mapped shard are let go.
_LET_GO = 2**25


@dataclasses.dataclass(frozen=True)
class Features:
    """N features of dimension d: the rows of all shards, one after another, or their columns.

    `shards` are (N_i, d) by rows or (d, N_i) by columns, and may be memory-mapped.
    """

    shards: tuple[Shaped[np.ndarray, "_ _"], ...]
    layout: Layout

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._rows())

    @property
    def dim(self) -> int:
        """d."""
        return self._rows()[0].shape[1]

    @property
    def dtype(self) -> Any:
        """float32 if that holds every entry, else float64."""
        single = all(np.can_cast(shard.dtype, np.float32) for shard in self.shards)
        return np.dtype(np.float32 if single else np.float64)

    def blocks(
        self, size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, Float[np.ndarray, "m d"]]]:
        """Yield at most `size` features at a time, as rows, with the position of the first.

        No block goes beyond a shard. Blocks have the precision `dtype`, and may be views of a
        shard, valid until the next one is read.

        Args:
            size: Most rows of a block.
            start: Position of the first feature.
            stop: Position after the last feature; None is N.
        """
        stop = len(self) if stop is None else stop
        counts = [len(rows) for rows in self._rows()]
        firsts = itertools.accumulate(counts, initial=0)
        for first, rows, shard in zip(firsts, self._rows(), self.shards, strict=False):
            begin, end = max(start - first, 0), min(stop - first, len(rows))
            read = 0
            for place in range(begin, end, size):
                block = rows[place : min(place + size, end)]
                yield first + place, block.astype(self.dtype, copy=False)
                read += block.nbytes
                if read > _LET_GO:
                    _let_go(shard)
                    read = 0
            _let_go(shard)

    def _rows(self) -> list[np.ndarray]:
        return [shard if self.layout == "rows" else shard.T for shard in self.shards]


def _let_go(array: np.ndarray) -> None:
    """Drop the pages of a read-only memory map from this process; they stay in the file's cache.

    Otherwise they count as memory of the process until the system runs out of it.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return  # pages of a private map may differ from the file
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
