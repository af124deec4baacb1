"""Measure the collapse of a trained last layer, which needs neither its loss nor its decays.

The features are read in blocks, twice: for the class means and scatter, and for NC4, which compares
with the means.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ufm._support.shown import Shown
from ufm.collapse.streamed_metrics import CollapseMetrics
from ufm.collapse.tracker import CollapseTracker
from ufm.last_layer.features import Features
from ufm.last_layer.stored_layer import StoredLayer
from ufm.last_layer.streaming.passes import OnRows, block_rows


@dataclasses.dataclass(frozen=True, repr=False)
class Measurement(Shown):
    """The metrics of a layer; `nc4` is the share of samples whose nearest mean is not the argmax.

    `notes` say how the layer was read.
    """

    metrics: CollapseMetrics
    nc4: float
    class_counts: tuple[int, ...]
    notes: tuple[str, ...]

    _printed = ("metrics", "nc4", "class_counts", "notes")


def measure_layer(
    stored: StoredLayer,
    outside: Sequence[Shaped[np.ndarray, "_ _"]] = (),
    on_rows: OnRows | None = None,
) -> Measurement:
    """Measure neural collapse of a layer in memory O(Kd + d² + a block).

    Args:
        stored: From `ufm.last_layer.files.read_without_decays` or `read_layer`.
        outside: Shards (M_i, d) of features of other data, for NC5.
        on_rows: Called after each block with the numbers of rows read and of all rows.

    Returns:
        The metrics, NC4, and notes on how the layer was read.

    Raises:
        ValueError: Features are not finite, or those of other data have another dimension.
    """
    features = Features(stored.shards, stored.layout)
    classes, dim = stored.W.shape
    for shard in outside:
        if shard.shape[1:] != (dim,):
            raise ValueError(f"`outside` must be M x {dim}, as the features, got {shard.shape}")
    size = block_rows(classes, dim, len(features))
    tracker = CollapseTracker(classes, dim)
    told = _Told(on_rows, 2 * len(features))
    for rows, labels in told.over(_kept(features, stored.labels, size)):
        tracker.update(rows, labels)
    for shard in outside:
        for start in range(0, len(shard), size):
            tracker.update_out_of_distribution(shard[start : start + size])
    second = tracker.nearest_mean(stored.W, stored.b)
    for rows, _ in told.over(_kept(features, stored.labels, size)):
        second.update(rows)
    metrics = tracker.compute(stored.W, stored.b)
    return Measurement(metrics, second.nc4, stored.class_counts, stored.notes)


def _kept(
    features: Features, labels: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of the samples that count, with their labels."""
    for start, block in features.blocks(size):
        y = labels[start : start + len(block)]
        yield (block, y) if np.all(y >= 0) else (block[y >= 0], y[y >= 0])


class _Told:
    """Report rows while blocks pass."""

    def __init__(self, on_rows: OnRows | None, total: int) -> None:
        self._on_rows, self._total, self._done = on_rows, total, 0

    def over(self, blocks: Iterator[Any]) -> Iterator[Any]:
        for block in blocks:
            yield block
            self._done += len(block[0])
            if self._on_rows is not None:
                self._on_rows(self._done, self._total)
