r"""Train a network, and measure how its last layer collapses on the way.

    minimise  (1/N) Σ_i L_net(W h_θ(x_i) + b, y_i) + λ/2 ‖(θ, W, b)‖²

by stochastic gradients with momentum (`ufm.networks.optimiser`), an epoch at a time
(`ufm.networks.epoch`). Measured after chosen epochs are accuracies and losses on all training and
test images, and NC1–NC4 of the features of all training images.

    >>> result = train(TrainConfig(loss="mse", learning_rate=0.03), load_data("digits"))
    >>> result.status, result.history["nc1"]
"""

import dataclasses
import enum
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ufm.networks import checkpoint as storage
from ufm.networks.checkpoint import Checkpoint, History
from ufm.networks.config import TrainConfig
from ufm.networks.data import ImageData
from ufm.networks.epoch import Numbers, State, epoch_order, initial_state, run_epoch
from ufm.networks.evaluation import LastLayer, collapse, last_layer, loss_and_accuracy, outputs
from ufm.networks.model import Network, Stats
from ufm.networks.optimiser import rate_at

#: Measures the last layer in some further way; the same names every time.
Measure = Callable[[LastLayer], Mapping[str, float]]


class TrainStatus(enum.StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    #: Before its last epoch, as asked.
    STOPPED = "stopped"
    #: The loss became infinite or NaN.
    DIVERGED = "diverged"


@dataclasses.dataclass(frozen=True)
class EpochReport:
    """What `on_epoch` is told: epochs done, the mean loss of the last, and the last measurement."""

    epoch: int
    epochs: int
    loss: float
    measured: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A run that has ended.

    `history` has an array for every name, an entry for each measured epoch:

        epoch           epochs done, counted from 1
        learning_rate   of that epoch
        running_loss    mean over the epoch's steps, while training
        train_loss, test_loss            mean of L_net, without decay, after the epoch
        train_accuracy, test_accuracy    shares of right answers
        nc1, nc2, nc3, nc4               `ufm.geometry`, over all training images
        weight_norm, feature_norm        ‖W‖_F, ‖H‖_F
        and what `measure` added.

    `layer` is the last layer over all training images, None where training diverged. `network` and
    `stats` are what it ended as; `seconds` is the time of all its
    sessions, with compilation.
    """

    config: TrainConfig
    status: TrainStatus
    epochs_done: int
    history: History
    layer: LastLayer | None
    network: Network
    stats: Stats
    seconds: float


class Run:
    """The state of a run on the device, advanced by whole epochs.

    `rows` are the training images that it sees, all of them by default: a run on some of them uses
    the program of a run on all.
    """

    def __init__(self, config: TrainConfig, data: ImageData, rows: Any = None) -> None:
        samples = len(data.labels)
        self.config = config
        self.objective = config.objective(data.num_classes)
        self.state = initial_state(config, data.image_shape, data.num_classes)
        self.epochs_done = 0
        self._batch = config.batch(samples if rows is None else len(rows))
        self._program_rows = samples // self._batch
        self._rows = jnp.arange(samples, dtype=jnp.int32) if rows is None else jnp.asarray(rows)
        self._images, self._labels = jnp.asarray(data.images), jnp.asarray(data.labels)
        self._orders = jax.random.key(config.seed)

    def learning_rate(self) -> float:
        """The rate of the next epoch."""
        return rate_at(self.config.learning_rate, self.epochs_done, self.config.epochs)

    def advance(self) -> float:
        """One epoch; the mean loss of its steps."""
        order = epoch_order(
            self._orders,
            jnp.asarray(self.epochs_done, jnp.int32),
            self._rows,
            self._program_rows,
            self._batch,
        )
        self.state, loss = run_epoch(
            self.state,
            self._images,
            self._labels,
            order,
            jnp.asarray(len(self._rows) // self._batch, jnp.int32),
            self._numbers(),
        )
        self.epochs_done += 1
        return float(loss)

    def _numbers(self) -> Numbers:
        config = self.config
        return Numbers(
            self.objective.loss,
            *(
                jnp.asarray(x, jnp.float32)
                for x in (
                    self.objective.factor,
                    self.learning_rate(),
                    config.momentum,
                    config.weight_decay,
                )
            ),
        )


def train(
    config: TrainConfig,
    data: ImageData,
    *,
    measure: Measure | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 10.0,
) -> TrainResult:
    """Train from the start, or from the checkpoint if the file is there.

    The checkpoint is written every so many seconds, and when training ends or is to stop, which
    `should_stop` says between epochs; going on from it gives the same bits as never having stopped.
    A run that has ended is not computed again. Raises `ValueError`, in one line, for a checkpoint
    of another run or one that cannot be written, and for a batch larger than the data.
    """
    run = Run(config, data)
    keeper = _Keeper(checkpoint, config, data, checkpoint_seconds)
    status, history = keeper.restore(run)
    measured_at = set(config.measured())
    latest: dict[str, float] = {name: float(column[-1]) for name, column in history.items()}
    while status is TrainStatus.STOPPED and run.epochs_done < config.epochs:
        if should_stop():
            break
        rate = run.learning_rate()
        loss = run.advance()
        if not math.isfinite(loss):
            status = TrainStatus.DIVERGED
        elif run.epochs_done in measured_at:
            latest = {"epoch": run.epochs_done, "learning_rate": rate, "running_loss": loss}
            latest |= _measured(run, data, measure)
            if not math.isfinite(latest["train_loss"]):
                status = TrainStatus.DIVERGED
            else:
                history = _appended(history, latest)
        if status is TrainStatus.STOPPED and run.epochs_done == config.epochs:
            status = TrainStatus.COMPLETED
        on_epoch(EpochReport(run.epochs_done, config.epochs, loss, latest))
        keeper.keep_if_due(run, status, history)
    keeper.keep(run, status, history)
    return _result(run, data, status, history, keeper.seconds())


def _layer(run: Run, data: ImageData) -> tuple[LastLayer, np.ndarray]:
    """The last layer, and the logits of all training images."""
    features, logits = outputs(run.state, data.images)
    objective, decay = run.objective, run.config.weight_decay
    return last_layer(run.state, features, data.labels, objective, decay), logits


def _measured(run: Run, data: ImageData, measure: Measure | None) -> dict[str, float]:
    layer, logits = _layer(run, data)
    found: dict[str, float] = {}
    test_logits = outputs(run.state, data.test_images)[1]
    for name, z, labels in (
        ("train", logits, data.labels),
        ("test", test_logits, data.test_labels),
    ):
        loss, accuracy = loss_and_accuracy(run.objective, z, labels)
        found |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
    if not math.isfinite(found["train_loss"]):
        return found
    return found | dict(collapse(layer)) | ({} if measure is None else dict(measure(layer)))


def _appended(history: History, row: Mapping[str, float]) -> History:
    """The history with one more entry. Raises `ValueError` where names have changed."""
    if history and history.keys() != row.keys():
        changed = ", ".join(sorted(history.keys() ^ row.keys()))
        raise ValueError(f"measure must return the same names every time: {changed} changed")
    columns = {
        name: np.append(history.get(name, np.zeros(0)), value) for name, value in row.items()
    }
    return columns | {"epoch": columns["epoch"].astype(np.int64)}


def _result(
    run: Run, data: ImageData, status: TrainStatus, history: History, seconds: float
) -> TrainResult:
    diverged = status is TrainStatus.DIVERGED
    return TrainResult(
        config=run.config,
        status=status,
        epochs_done=run.epochs_done,
        history=history,
        layer=None if diverged else _layer(run, data)[0],
        network=run.state.network,
        stats=run.state.stats,
        seconds=seconds,
    )


class _Keeper:
    """Writes the checkpoint of a run, if it has one, and keeps its time."""

    def __init__(
        self, path: Path | None, config: TrainConfig, data: ImageData, every: float
    ) -> None:
        self._path, self._config, self._every = path, config, every
        self._hash = "" if path is None else data.fingerprint()
        self._before, self._begun = 0.0, time.monotonic()
        self._kept_at, self._kept_epochs = self._begun, -1

    def seconds(self) -> float:
        """The time of this session and those before."""
        return self._before + time.monotonic() - self._begun

    def restore(self, run: Run) -> tuple[TrainStatus, History]:
        """Put the run where the checkpoint is."""
        if self._path is None:
            return TrainStatus.STOPPED, {}
        found = storage.load(self._path, run.state, self._config, self._hash)
        if found is None:
            return TrainStatus.STOPPED, {}
        run.state, run.epochs_done = found.state, found.epochs_done
        self._before, self._kept_epochs = found.seconds, found.epochs_done
        return TrainStatus(found.status), found.history

    def keep_if_due(self, run: Run, status: TrainStatus, history: History) -> None:
        if time.monotonic() - self._kept_at >= self._every:
            self.keep(run, status, history)

    def keep(self, run: Run, status: TrainStatus, history: History) -> None:
        """Write the checkpoint, unless it is there already."""
        if self._path is None or self._kept_epochs == run.epochs_done:
            return
        state: State = jax.device_get(run.state)
        found = Checkpoint(state, run.epochs_done, str(status), self.seconds(), history)
        storage.save(self._path, found, self._config, self._hash)
        self._kept_at, self._kept_epochs = time.monotonic(), run.epochs_done
