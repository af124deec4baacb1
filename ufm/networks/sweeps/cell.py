"""Run one cell of a sweep over networks: choose the rate, train, measure the last layer.

As in every sweep, a run on a CPU has the same bits alone, beside others and in any process, for one
type of processor, version and number of threads.

    record = Training().run([load_network_sweep("networks.toml").cells[0]])[0]
    record.row["test_accuracy"], record.arrays["history_nc1"]
"""

import dataclasses
import functools
import math
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import msgspec

from ufm.networks.data.images import ImageData, load_data
from ufm.networks.measures.last_layer import beside_model
from ufm.networks.sweeps.columns import COLUMNS, VIEW
from ufm.networks.sweeps.grid import DataTable, NetworkCell
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.learning_rate import choose_learning_rate
from ufm.networks.training.run import Run
from ufm.networks.training.training import TrainResult, train
from ufm.runs.run_folder import Clock
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
    """The work of a sweep over networks on its cells."""

    @property
    def lanes(self) -> int:
        """One network at a time."""
        return 1

    def prepare(self, cell: NetworkCell) -> None:
        """Choose the rate, and compile by training for one epoch."""
        config = rated(cell)
        train(msgspec.structs.replace(config, epochs=1), images(cell.data), measure=beside_model)

    def seconds(self, cell: NetworkCell) -> float:
        """An epoch's time times epochs, without measuring."""
        run = Run(rated(cell), images(cell.data))
        run.advance()
        clock = Clock()
        run.advance()
        return clock.seconds() * cell.config.epochs

    def run(self, cells: Sequence[NetworkCell]) -> list[Record]:
        """Run the cells one after another."""
        return [_run(cell) for cell in cells]


def _run(cell: NetworkCell) -> Record:
    data, config = images(cell.data), rated(cell)
    result = train(config, data, measure=beside_model)
    row = _settings(cell, config, data) | _end(result)
    arrays = {f"history_{name}": column for name, column in result.history.items()}
    return Record(row, arrays)


def _settings(cell: NetworkCell, config: TrainConfig, data: ImageData) -> dict[str, Any]:
    given = {name: value for name, value in config.builtins().items() if name in COLUMNS}
    return given | {
        "cell": cell.index,
        "family": cell.program.family,
        "data": cell.data.source,
        "num_classes": data.num_classes,
        "per_class": data.per_class,
        "batch_size": config.batch(len(data.labels)),
    }


def _end(result: TrainResult) -> dict[str, Any]:
    """The last measurement, and NC1–NC3 of the first; NaN if there is none."""
    history = result.history

    def at(name: str, position: int) -> float:
        return float(history[name][position]) if name in history else math.nan

    return {
        "status": str(result.status),
        "epochs_done": result.epochs_done,
        "seconds": result.seconds,
        **{f"first_{name}": at(name, 0) for name in ("nc1", "nc2", "nc3")},
        **{name: at(name, -1) for name in _LAST},
    }


_reading = threading.Lock()
#: A lock for each rate, so that runs with a known rate continue while another is chosen.
_choosing: dict[tuple[DataTable, TrainConfig], threading.Lock] = {}


@functools.lru_cache(maxsize=4)
def _images(data: DataTable) -> ImageData:
    found = load_data(data.source, data.per_class, data.seed)
    for note in found.notes:
        warnings.warn(f"{data.source}: {note}", stacklevel=2)
    if data.sha256 is not None and data.sha256 != found.fingerprint():
        raise ValueError(f"{data.source} has other images than those of sha256 {data.sha256}")
    return found


def images(data: DataTable) -> ImageData:
    """The images, read once per process."""
    with _reading:
        return _images(data)


@functools.lru_cache(maxsize=1024)
def _rate(data: DataTable, trial: TrainConfig) -> float:
    choice = choose_learning_rate(trial, images(data))
    assert choice is not None  # it cannot be stopped
    return choice.learning_rate


def rated(cell: NetworkCell) -> TrainConfig:
    """The cell's configuration; the rule chooses a missing rate, once for all seeds."""
    if cell.trial is None:
        return cell.config
    lock = _choosing.setdefault((cell.data, cell.trial), threading.Lock())
    with lock:  # so that threads do not choose the same rate at once
        rate = _rate(cell.data, cell.trial)
    return msgspec.structs.replace(cell.config, learning_rate=rate)
