"""The state of a run on the device, advanced by whole epochs."""

from typing import Any

import jax
import jax.numpy as jnp

from ufm.networks.data.images import ImageData
from ufm.networks.measures.evaluation import loss_of_zero
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.epoch import Numbers, epoch_order, initial_state, run_epoch
from ufm.networks.training.optimiser import rate_at

#: A ReLU network that has diverged may die with a finite loss. From this factor above the loss of
#: z = 0 no training recovers.
_BLOWN_UP = 1e4


class Run:
    """A run on the device; see the module.

    `rows` are its training images, by default all. A run on some of them uses the program of a run
    on all.
    """

    def __init__(self, config: TrainConfig, data: ImageData, rows: Any = None) -> None:
        samples = len(data.labels)
        self.config = config
        self.objective = config.objective(data.num_classes)
        self.state = initial_state(config, data.image_shape, data.num_classes)
        self.epochs_done = 0
        self._loss_of_zero = loss_of_zero(self.objective)
        self._batch = config.batch(samples if rows is None else len(rows))
        self._program_rows = samples // self._batch
        self._rows = jnp.arange(samples, dtype=jnp.int32) if rows is None else jnp.asarray(rows)
        self._images, self._labels = jnp.array(data.images), jnp.array(data.labels)
        self._orders = jax.random.key(config.seed)

    def learning_rate(self) -> float:
        """The rate of the next epoch."""
        return rate_at(self.config.learning_rate, self.epochs_done, self.config.epochs)

    def advance(self) -> float:
        """Train for one epoch; return the mean loss of its steps."""
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

    def blown_up(self, loss: float) -> bool:
        """Whether training has diverged, judging by a mean loss."""
        return not loss <= _BLOWN_UP * self._loss_of_zero

    def _numbers(self) -> Numbers:
        rates = self.learning_rate(), self.config.momentum, self.config.weight_decay
        numbers = (jnp.asarray(x, jnp.float32) for x in (self.objective.factor, *rates))
        return Numbers(self.objective.loss, *numbers)
