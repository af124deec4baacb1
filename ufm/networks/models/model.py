r"""The interface of a network: features, and a linear classifier on top of them.

    h = features(x) ∈ R^d,     z = W h + b ∈ R^K

Parameters are float32 for any default of JAX, except for Hessians. The running statistics of batch
normalisation (`stats`) are not parameters: they are passed in and returned with the features.

    model = MLP(64, width=256, depth=3, num_classes=10, norm="batch", rng=rng)
    features, _ = model.features(images, model.initial_stats(), training=False)
    logits = model.logits(features)
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

#: The running statistics of batch normalisation: a pytree of arrays, empty without it.
Stats = Any


class Network(eqx.Module):
    """Maps images (B, h, w, c) to features (B, d), and features to logits (B, K)."""

    classifier: eqx.AbstractVar[eqx.nn.Linear]

    @abc.abstractmethod
    def features(
        self, images: Float[Array, "B h w c"], stats: Stats, training: bool
    ) -> tuple[Float[Array, "B d"], Stats]:
        """The penultimate layer, after its ReLU, and the statistics after this batch."""

    @abc.abstractmethod
    def initial_stats(self) -> Stats:
        """The statistics before the first batch."""

    def logits(self, features: Float[Array, "B d"]) -> Float[Array, "B K"]:
        """The classifier's outputs."""
        return jax.vmap(self.classifier)(features)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...], fan: int) -> Float32[Array, "..."]:
    """Normal entries of variance 2/fan (He et al., 2015), with which ReLU layers preserve norms."""
    # By NumPy, because JAX compiles a program for every shape: seconds for a small network.
    return jax.device_put(np.float32((2.0 / fan) ** 0.5 * rng.standard_normal(shape)))


def hidden_layer(rng: np.random.Generator, inputs: int, outputs: int) -> eqx.nn.Linear:
    """Weights of variance 2/fan_in, biases 0."""
    return _linear(he_normal(rng, (outputs, inputs), fan=inputs), np.zeros(outputs))


def linear_classifier(rng: np.random.Generator, dim: int, num_classes: int) -> eqx.nn.Linear:
    """W and b uniform in ±1/√d, as in torch.nn.Linear."""
    bound = dim**-0.5
    weight = rng.uniform(-bound, bound, (num_classes, dim))
    return _linear(weight, rng.uniform(-bound, bound, num_classes))


def _linear(weight: Any, bias: Any) -> eqx.nn.Linear:
    """Make the layer with these numbers, without drawing a random start."""
    outputs, inputs = weight.shape
    layer = eqx.filter_eval_shape(
        eqx.nn.Linear, inputs, outputs, dtype=jnp.float32, key=jax.random.key(0)
    )
    arrays = jax.device_put((np.asarray(weight, np.float32), np.asarray(bias, np.float32)))
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, arrays)
