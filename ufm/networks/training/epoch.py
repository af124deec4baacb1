r"""One epoch of training as one compiled program.

The images are on the device. A step gathers its batch there, and a loop inside the program runs
over the batches, so that nothing is transferred to the host during an epoch. The program is
compiled once for a network, its images, a batch size and a family of losses. The hyperparameters of
loss and optimiser, the seed, and the number of steps are arguments.

The order of the samples in an epoch is random, and depends only on the seed and the number of the
epoch. Batches have one size; the samples after the last whole batch are dropped, different ones in
each epoch.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Int32, Key

from ufm.losses import Loss
from ufm.networks.models.architecture import make_network
from ufm.networks.models.model import Network, Stats
from ufm.networks.training.config import TrainConfig
from ufm.networks.training.objective import mean_gradient, mean_value
from ufm.networks.training.optimiser import sgd


class State(eqx.Module):
    """The state of training: the network, the optimiser's momentum, batch statistics."""

    network: Network
    momentum: optax.OptState
    stats: Stats


class Numbers(eqx.Module):
    """The traced settings of a run: float32 scalars, and the loss with its hyperparameters."""

    loss: Loss
    factor: Float32[Array, ""]
    learning_rate: Float32[Array, ""]
    momentum: Float32[Array, ""]
    weight_decay: Float32[Array, ""]


def initial_state(
    config: TrainConfig, image_shape: tuple[int, int, int], num_classes: int
) -> State:
    """The random start of a run."""
    rng = np.random.default_rng(config.seed)
    network = make_network(config.architecture, image_shape, num_classes, rng)
    return State(network, _no_momentum(network), network.initial_stats())


@jax.jit
def _no_momentum(network: Network) -> optax.OptState:
    optimiser: Any = sgd(0.0, 0.0, 0.0)  # it does not depend on the numbers
    return optimiser.init(network)


@functools.partial(jax.jit, static_argnames=("rows", "batch_size"))
def epoch_order(
    key: Key[Array, ""],
    epoch: Int[Array, ""],
    samples: Int32[Array, " M"],
    rows: int,
    batch_size: int,
) -> Int32[Array, "rows batch"]:
    """The samples in the order of an epoch, a row for each step, padded with 0 to `rows` rows."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), samples)
    steps = len(samples) // batch_size
    whole = order[: steps * batch_size].reshape(steps, batch_size)
    return jnp.pad(whole, ((0, rows - steps), (0, 0)))


@functools.partial(jax.jit, donate_argnames=("state",))
def run_epoch(
    state: State,
    images: Float32[Array, "N h w c"],
    labels: Int32[Array, " N"],
    order: Int32[Array, "rows batch"],
    steps: Int[Array, ""],
    numbers: Numbers,
) -> tuple[State, Float[Array, ""]]:
    """Make `steps` steps on the rows of `order`; return the final state and the mean loss."""

    def step(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        before, total = carry
        batch = order[i]
        state, loss = _step(before, images[batch], labels[batch], numbers)
        return state, total + loss

    state, total = jax.lax.fori_loop(0, steps, step, (state, jnp.zeros((), jnp.float32)))
    return state, total / steps.astype(jnp.float32)


def _step(
    state: State,
    images: Float32[Array, "B h w c"],
    labels: Int32[Array, " B"],
    numbers: Numbers,
) -> tuple[State, Array]:
    """Make one step of the optimiser; return the loss of its batch before the step."""

    def outputs(network: Network) -> tuple[Array, Stats]:
        features, stats = network.features(images, state.stats, training=True)
        return network.logits(features), stats

    logits, pull_back, stats = jax.vjp(outputs, state.network, has_aux=True)
    (gradient,) = pull_back(mean_gradient(numbers.loss, numbers.factor, logits, labels))
    optimiser: Any = sgd(numbers.learning_rate, numbers.momentum, numbers.weight_decay)
    updates, momentum = optimiser.update(gradient, state.momentum, state.network)
    apply: Any = optax.apply_updates
    network = apply(state.network, updates)
    return State(network, momentum, stats), mean_value(numbers.loss, numbers.factor, logits, labels)
