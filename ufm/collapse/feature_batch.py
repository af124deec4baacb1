"""A batch of features and labels, checked, and read in blocks of float64 rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ufm._support.host_arrays import host, real

#: Numbers of a block, 8 MB in float64: a batch may be a memory-mapped file.
_BLOCK = 1 << 20


class Batch:
    """Features (m, d) of any library, and labels (m,) in 0..K−1 if they have any.

    Raises `ValueError` for other shapes, for entries that are not finite real numbers, and for
    labels that are not whole numbers in 0..K−1.
    """

    def __init__(
        self, features: Any, dim: int, labels: Any = None, num_classes: int | None = None
    ) -> None:
        self.features = host(features)
        shape = self.features.shape
        if len(shape) != 2 or shape[1] != dim:
            remedy = ": transpose it" if len(shape) == 2 and shape[0] == dim else ""
            raise ValueError(
                f"features must have shape (m, {dim}), one row for each sample, got {shape}{remedy}"
            )
        real("features", self.features[:0])
        self.labels = np.zeros(len(self), np.int64)
        if num_classes is not None:
            self.labels = _labels(host(labels), len(self), num_classes)
        for rows, start in self._slices():
            if not np.all(np.isfinite(rows)):
                i = start + int(np.argwhere(~np.isfinite(rows))[0, 0])
                raise ValueError(
                    f"features has NaN or infinity in row {i} of {len(self)}: leave these samples "
                    "out, or find where the network produces them"
                )

    def __len__(self) -> int:
        return len(self.features)

    def _slices(self) -> Iterator[tuple[np.ndarray, int]]:
        step = max(1, _BLOCK // self.features.shape[1])
        for start in range(0, len(self), step):
            yield self.features[start : start + step], start

    def blocks(self) -> Iterator[tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]]:
        """Blocks of rows, copied to float64, with their labels."""
        for rows, start in self._slices():
            yield real("features", rows), self.labels[start : start + len(rows)]


def _labels(labels: np.ndarray, samples: int, classes: int) -> Int[np.ndarray, " m"]:
    if labels.shape != (samples,):
        remedy = ""
        if labels.ndim == 2 and len(labels) == samples:
            remedy = ": flatten it" if labels.shape[1] == 1 else ": labels.argmax(1) if one-hot"
        raise ValueError(
            f"labels must have shape ({samples},), one class for each row of features, "
            f"got {labels.shape}{remedy}"
        )
    if labels.dtype.kind not in "iu" and samples:
        raise ValueError(f"labels must be whole numbers of an integer type, got {labels.dtype}")
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        i = outside[0]
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, got {labels[i]} in row {i}: leave out samples "
            "that the loss ignores"
        )
    return labels.astype(np.int64)
