"""One run of a sweep over networks: choose the rate, train, measure the last layer.

On a CPU a run has the same bits alone, beside others and in any process, on one type of processor,
one version and one number of threads: as in every sweep.

    >>> record = Training().run([load_network_sweep("networks.toml").cells[0]])[0]
    >>> record.row["test_accuracy"], record.arrays["history_nc1"]
"""

import dataclasses
import functools
import math
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ufm.networks.columns import COLUMNS, VIEW
from ufm.networks.config import TrainConfig
from ufm.networks.data import ImageData, load_data
from ufm.networks.evaluation import LastLayer
from ufm.networks.grid import DataTable, NetworkCell
from ufm.networks.last_layer import measure_last_layer
from ufm.networks.learning_rate import choose_learning_rate
from ufm.networks.run import Run
from ufm.networks.training import TrainResult, train
from ufm.results import Clock
from ufm.sweep.record import Record

_LAST = (
    "train_loss",
    "test_loss",
    "train_accuracy",
    "test_accuracy",
    "nc1",
    "nc2",
    "nc3",
    "nc4",
    "weight_norm",
    "feature_norm",
    *VIEW,
)


@dataclasses.dataclass(frozen=True)
class Training:
    """What a sweep over networks does with its cells."""

    @property
    def lanes(self) -> int:
        """One network at a time."""
        return 1

    def prepare(self, cell: NetworkCell) -> None:
        """Choose the rate, and compile, by an epoch of training."""
        config = rated(cell)
        train(msgspec.structs.replace(config, epochs=1), images(cell.data), measure=view)

    def seconds(self, cell: NetworkCell) -> float:
        """An epoch's time times epochs, without measuring."""
        run = Run(rated(cell), images(cell.data))
        run.advance()
        clock = Clock()
        run.advance()
        return clock.seconds() * cell.config.epochs

    def run(self, cells: Sequence[NetworkCell]) -> list[Record]:
        """The runs, one after another."""
        return [_run(cell) for cell in cells]


def view(layer: LastLayer) -> dict[str, float]:
    """The last layer beside the model's minimiser (`ufm.networks.last_layer`), for a history."""
    counts = tuple(np.bincount(layer.labels).tolist())
    found = measure_last_layer(
        layer.W, layer.H, layer.b, counts, layer.loss, layer.factor, layer.weight_decay
    )
    return {name: value for name, value in found.row().items() if name not in _KNOWN}


#: What training measures itself.
_KNOWN = ("nc1", "nc2", "nc3", "nc4", "norm_w", "norm_h")
