"""An array in a file, with its shape, before it is read."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array called `name` in the file or folder `source`.

    `shapes` are those of its shards, which follow each other along the samples: a single one unless
    they are several .npy files, and none if the file does not tell. `read` returns the shards,
    memory-mapped where the format allows it. It raises `ValueError`, in one line, if the array is
    damaged or has anything but numbers or texts.
    """

    name: str
    source: str
    shapes: tuple[tuple[int, ...], ...]
    read: Callable[[], tuple[np.ndarray, ...]]

    def whole(self) -> np.ndarray:
        """The array in one piece; shards are joined along their first axis."""
        shards = self.read()
        return shards[0] if len(shards) == 1 else np.concatenate(shards)
