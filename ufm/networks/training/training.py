r"""Train a network, and measure how its last layer collapses during training.

    minimise  (1/N) Σ_i L_net(W h_θ(x_i) + b, y_i) + λ/2 ‖(θ, W, b)‖²

by stochastic gradients with momentum (`ufm.networks.training.optimiser`), one epoch at a time
(`ufm.networks.training.epoch`). After chosen epochs it measures accuracies and losses on all
training and test images, and NC1–NC4 of the features of all training images.

    result = train(TrainConfig(loss="mse:1,15", learning_rate=0.03), load_data("digits"))
    result.status, result.history["nc1"]
"""

import dataclasses
import enum
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from ufm.networks.data.images import ImageData
from ufm.networks.measures.evaluation import LastLayer, collapse, loss_and_accuracy, outputs
from ufm.networks.models.model import Network, Stats
from ufm.networks.training import checkpoint as storage
from ufm.networks.training.checkpoint import Checkpoint, History
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.epoch import State
from ufm.networks.training.run import Run

#: An additional measurement of the last layer, with the same names every time.
Measure = Callable[[LastLayer], Mapping[str, float]]


class TrainStatus(enum.StrEnum):
    """The end of a run."""

    COMPLETED = "completed"
    #: It stopped before its last epoch, as requested.
    STOPPED = "stopped"
    #: The loss became infinite or NaN, or ten thousand times that of the logits 0.
    DIVERGED = "diverged"
    #: The features became equal for all images, as when no ReLU is active any more.
    DEAD = "dead"


@dataclasses.dataclass(frozen=True)
class EpochReport:
    """The argument of `on_epoch`: finished epochs, the last mean loss, and the last measurement."""

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
        train_accuracy, test_accuracy    shares of correct answers
        nc1, nc2, nc3, nc4               `ufm.collapse.metrics`, over all training images
        weight_norm, feature_norm        ‖W‖_F, ‖H‖_F
        and the results of `measure`.

    `layer` is the last layer over all training images, None if training diverged or the network
    died; earlier measurements are in the history. `network` and `stats` are the final network;
    `seconds` is the time of the run without interruptions, including compilation.
    """

    config: TrainConfig
    status: TrainStatus
    epochs_done: int
    history: History
    layer: LastLayer | None
    network: Network
    stats: Stats
    seconds: float


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
    """Train from the start, or from the checkpoint if the file exists.

    The checkpoint is written periodically, at the end of training, and when `should_stop`, called
    between epochs, returns True. Continuing from it gives the same bits as an uninterrupted run. A
    finished run is not computed again. Raises `ValueError`, in one line, for a checkpoint of
    another run or one that cannot be written, and for a batch larger than the data.
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
        if run.blown_up(loss):
            status = TrainStatus.DIVERGED
        elif run.epochs_done in measured_at:
            found = _measured(run, data, measure)
            if isinstance(found, TrainStatus):
                status = found
            else:
                done = float(run.epochs_done)
                latest = {"epoch": done, "learning_rate": rate, "running_loss": loss, **found}
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
    classifier, decay = run.state.network.classifier, run.objective.decay(run.config.weight_decay)
    layer = LastLayer(
        W=np.asarray(classifier.weight),
        H=np.ascontiguousarray(features.T),
        b=np.asarray(classifier.bias),
        labels=data.labels,
        loss=run.objective.loss,
        lam_w=decay,
        lam_b=decay,
    )
    return layer, logits


def _measured(run: Run, data: ImageData, measure: Measure | None) -> dict[str, float] | TrainStatus:
    """The measurements after an epoch, or the end of the run if nothing can be measured."""
    layer, logits = _layer(run, data)
    test_logits = outputs(run.state, data.test_images)[1]
    found: dict[str, float] = {}
    for name, z, labels in (
        ("train", logits, data.labels),
        ("test", test_logits, data.test_labels),
    ):
        loss, accuracy = loss_and_accuracy(run.objective, z, labels)
        found |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
    if run.blown_up(found["train_loss"]):
        return TrainStatus.DIVERGED
    found |= collapse(layer)
    if math.isnan(found["nc1"]):  # all class means are equal
        return TrainStatus.DEAD
    further = {} if measure is None else measure(layer)
    return found | {name: float(x) for name, x in further.items()}


def _appended(history: History, row: Mapping[str, float]) -> History:
    """Add an entry to the history. Raises `ValueError` if names have changed."""
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
    lost = status in (TrainStatus.DIVERGED, TrainStatus.DEAD)
    return TrainResult(
        config=run.config,
        status=status,
        epochs_done=run.epochs_done,
        history=history,
        layer=None if lost else _layer(run, data)[0],
        network=run.state.network,
        stats=run.state.stats,
        seconds=seconds,
    )


class _Keeper:
    """Write the checkpoint of a run, if it has one, and measure its time."""

    def __init__(
        self, path: Path | None, config: TrainConfig, data: ImageData, every: float
    ) -> None:
        self._path, self._config, self._every = path, config, every
        self._hash = "" if path is None else data.fingerprint()
        self._before, self._begun = 0.0, time.monotonic()
        self._kept_at, self._kept_epochs = self._begun, -1

    def seconds(self) -> float:
        """The time of the run, before and since it was continued."""
        return self._before + time.monotonic() - self._begun

    def restore(self, run: Run) -> tuple[TrainStatus, History]:
        """Set the run to the state of the checkpoint."""
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
        """Write the checkpoint, unless it is written already."""
        if self._path is None or self._kept_epochs == run.epochs_done:
            return
        state: State = jax.device_get(run.state)
        found = Checkpoint(state, run.epochs_done, str(status), self.seconds(), history)
        storage.save(self._path, found, self._config, self._hash)
        self._kept_at, self._kept_epochs = time.monotonic(), run.epochs_done
