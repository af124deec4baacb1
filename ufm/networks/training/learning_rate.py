r"""Choose the learning rate of a loss by a rule that is fixed before any run.

    1. A fifth of the training images of each class is set aside for validation.
    2. Every candidate, 0.1, 0.03, 0.01, 0.003, 0.001 and 0.0003, trains on the rest for a tenth of
       the epochs (at least 10, at most 20), with the whole schedule on that length.
    3. Diverged runs are excluded. Of those with a validation accuracy within one standard error
       √(a(1−a)/n), or one image if that is more, of the highest, the one with the lowest training
       loss is chosen.

Losses need different rates: the gradient of the squared error with targets 15·one-hot is so large
that a network without normalisation diverges at once at 0.1. Test images are not used.

    choose_learning_rate(TrainConfig(loss="mse:1,15"), load_data("digits")).learning_rate
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from ufm.networks.data.images import ImageData, validation_split
from ufm.networks.measures.evaluation import loss_and_accuracy, outputs
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.run import Run

#: The paper's rate, and lower ones in steps of about half a decade.
CANDIDATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
#: Share of the training images for validation.
VALIDATION_SHARE = 0.2
_SHARE_OF_EPOCHS, _FEWEST, _MOST = 10, 10, 20


class Trial(msgspec.Struct, frozen=True):
    """The result of a candidate; accuracy and loss are None if it diverged."""

    learning_rate: float
    validation_accuracy: float | None
    train_loss: float | None

    @property
    def diverged(self) -> bool:
        return self.train_loss is None


class Choice(msgspec.Struct, frozen=True):
    """The chosen rate, the number of epochs of each trial, and all trials."""

    learning_rate: float
    epochs: int
    trials: tuple[Trial, ...]


def trial_epochs(epochs: int) -> int:
    """Epochs of a trial: a tenth of the run's, between 10 and 20, at most those of the run."""
    return min(epochs, max(_FEWEST, min(_MOST, epochs // _SHARE_OF_EPOCHS)))


def choose_learning_rate(
    config: TrainConfig,
    data: ImageData,
    candidates: Sequence[float] = CANDIDATES,
    *,
    on_trial: Callable[[Trial], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Choice | None:
    """Apply the rule, ignoring `config.learning_rate`. Return None if it was stopped.

    Raises `ValueError` if every candidate diverges, and for data that cannot be split.
    """
    fit, validation = validation_split(data, VALIDATION_SHARE)
    epochs = trial_epochs(config.epochs)
    # The batch size of the run itself, which is compiled already.
    batch_size = min(config.batch(len(data.labels)), len(fit))
    trials = []
    for rate in candidates:
        short = msgspec.structs.replace(
            config, learning_rate=rate, epochs=epochs, batch_size=batch_size
        )
        trial = _try(short, data, fit, validation, should_stop)
        if trial is None:
            return None
        trials.append(trial)
        on_trial(trial)
    rate = select(trials, len(validation))
    if rate is None:
        listed = ", ".join(f"{rate:g}" for rate in candidates)
        raise ValueError(
            f"{config.loss} diverges at every learning rate tried ({listed}): give a smaller "
            "`learning_rate`"
        )
    return Choice(rate, epochs, tuple(trials))


def edge(rate: float, tried: Sequence[float] = CANDIDATES) -> str:
    """ "largest" or "smallest" if the rate is at an end of those tried, so that a better one may
    lie beyond; else empty."""
    if len(tried) < 2:
        return ""
    return {max(tried): "largest", min(tried): "smallest"}.get(rate, "")


def select(trials: Sequence[Trial], validation_images: int) -> float | None:
    """Apply the third point of the rule; None if all trials diverged."""
    alive = [
        (trial.validation_accuracy, trial.train_loss, trial.learning_rate)
        for trial in trials
        if trial.validation_accuracy is not None and trial.train_loss is not None
    ]
    if not alive:
        return None
    best = max(accuracy for accuracy, _, _ in alive)
    error = math.sqrt(best * (1.0 - best) / validation_images)
    # Rounding of shares must not decide between equal ones.
    level = best - max(error, 1.0 / validation_images) - 1e-9
    return min((loss, rate) for accuracy, loss, rate in alive if accuracy >= level)[1]


def _try(
    config: TrainConfig,
    data: ImageData,
    fit: np.ndarray,
    validation: np.ndarray,
    should_stop: Callable[[], bool],
) -> Trial | None:
    """Train on some rows, validate on others."""
    run = Run(config, data, fit)
    loss = math.inf
    for _ in range(config.epochs):
        if should_stop():
            return None
        loss = run.advance()
        if run.blown_up(loss):
            return Trial(config.learning_rate, None, None)
    logits = outputs(run.state, data.images[validation])[1]
    if not np.all(np.isfinite(logits)):
        return Trial(config.learning_rate, None, None)
    accuracy = loss_and_accuracy(run.objective, logits, data.labels[validation])[1]
    return Trial(config.learning_rate, accuracy, loss)
