r"""A small residual network for small images, after He et al. (2016), section 4.2.

    3×3 convolution, norm, ReLU
    three stages of `depth` blocks, of 16, 32 and 64 channels times `width`; the second and third
        halve the image:   x ← ReLU(P x + norm(conv(ReLU(norm(conv(x))))))
    mean over pixels: the features, d = 64 · width

P is the identity, or a 1×1 convolution with norm where the shape changes. Convolutions have no bias
and normal weights of variance 2/fan_out (He et al., 2015); scales begin at 1 and shifts at 0.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.networks.models.convolution import Convolution
from ufm.networks.models.model import Network, Stats, linear_classifier
from ufm.networks.models.normalisation import Norm, make_norm

Images = Float[Array, "B h w c"]
Outputs = Float[Array, "B new_h new_w new_c"]

_CHANNELS = (16, 32, 64)


class NormedConvolution(eqx.Module):
    """A convolution and the normalisation after it."""

    convolution: Convolution
    norm: Norm

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int,
        norm: str,
        *,
        rng: np.random.Generator,
    ) -> None:
        self.convolution = Convolution(inputs, outputs, size, stride, rng=rng)
        self.norm = make_norm(norm, outputs)

    def __call__(self, x: Images, stats: Stats, training: bool) -> tuple[Outputs, Stats]:
        return self.norm(self.convolution(x), stats, training)


class Block(eqx.Module):
    """Two convolutions with a shortcut."""

    first: NormedConvolution
    second: NormedConvolution
    shortcut: NormedConvolution | None

    def __init__(
        self, inputs: int, outputs: int, stride: int, norm: str, *, rng: np.random.Generator
    ) -> None:
        self.first = NormedConvolution(inputs, outputs, 3, stride, norm, rng=rng)
        self.second = NormedConvolution(outputs, outputs, 3, 1, norm, rng=rng)
        changes = inputs != outputs or stride != 1
        self.shortcut = (
            NormedConvolution(inputs, outputs, 1, stride, norm, rng=rng) if changes else None
        )

    def initial_stats(self) -> Stats:
        parts = (self.first, self.second, self.shortcut)
        return tuple(None if part is None else part.norm.initial_stats() for part in parts)

    def __call__(self, x: Images, stats: Stats, training: bool) -> tuple[Outputs, Stats]:
        first, second, shortcut = stats
        y, first = self.first(x, first, training)
        y, second = self.second(jax.nn.relu(y), second, training)
        if self.shortcut is not None:
            x, shortcut = self.shortcut(x, shortcut, training)
        return jax.nn.relu(x + y), (first, second, shortcut)


class ResNet(Network):
    """See the module. `width` multiplies the channels; `norm` is "group" or "batch"."""

    stem: NormedConvolution
    blocks: tuple[Block, ...]
    classifier: eqx.nn.Linear

    def __init__(
        self,
        inputs: int,
        width: float,
        depth: int,
        num_classes: int,
        norm: str,
        *,
        rng: np.random.Generator,
    ) -> None:
        stages = channels(width)
        sizes = (stages[0], *(size for size in stages for _ in range(depth)))
        halves = [stage > 0 and i == 0 for stage in range(len(stages)) for i in range(depth)]
        self.stem = NormedConvolution(inputs, stages[0], 3, 1, norm, rng=rng)
        self.blocks = tuple(
            Block(before, after, 2 if half else 1, norm, rng=rng)
            for before, after, half in zip(sizes[:-1], sizes[1:], halves, strict=True)
        )
        self.classifier = linear_classifier(rng, stages[-1], num_classes)

    def initial_stats(self) -> Stats:
        return self.stem.norm.initial_stats(), tuple(x.initial_stats() for x in self.blocks)

    def features(
        self, images: Float[Array, "B h w c"], stats: Stats, training: bool
    ) -> tuple[Float[Array, "B d"], Stats]:
        stem, before = stats
        x, stem = self.stem(images, stem, training)
        x, after = jax.nn.relu(x), []
        for block, old in zip(self.blocks, before, strict=True):
            x, new = block(x, old, training)
            after.append(new)
        return jnp.mean(x, (1, 2)), (stem, tuple(after))


def channels(width: float) -> tuple[int, ...]:
    """Numbers of channels in the three stages: whole, and at least one."""
    return tuple(max(1, round(width * size)) for size in _CHANNELS)
