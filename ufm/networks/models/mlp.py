r"""The multilayer perceptron: `depth` hidden ReLU layers of `width` units, d = width.

    h_0 = x as one vector,   h_l = max(0, norm(W_l h_{l−1} + b_l)),   z = W h_depth + b

Hidden weights are normal of variance 2/fan_in (He et al., 2015), hidden biases zero.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ufm.networks.models.model import Network, Stats, hidden_layer, linear_classifier
from ufm.networks.models.normalisation import Norm, make_norm


class MLP(Network):
    """See the module. `norm` is "none", "group" or "batch"."""

    hidden: tuple[eqx.nn.Linear, ...]
    norms: tuple[Norm, ...]
    classifier: eqx.nn.Linear

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        num_classes: int,
        norm: str,
        *,
        rng: np.random.Generator,
    ) -> None:
        sizes = (inputs, *[width] * (depth - 1))
        self.hidden = tuple(hidden_layer(rng, size, width) for size in sizes)
        self.norms = tuple(make_norm(norm, width) for _ in range(depth))
        self.classifier = linear_classifier(rng, width, num_classes)

    def initial_stats(self) -> Stats:
        return tuple(norm.initial_stats() for norm in self.norms)

    def features(
        self, images: Float[Array, "B h w c"], stats: Stats, training: bool
    ) -> tuple[Float[Array, "B d"], Stats]:
        x, after = images.reshape(images.shape[0], -1), []
        for layer, norm, before in zip(self.hidden, self.norms, stats, strict=True):
            x, new = norm(jax.vmap(layer)(x), before, training)
            x = jax.nn.relu(x)
            after.append(new)
        return x, tuple(after)
