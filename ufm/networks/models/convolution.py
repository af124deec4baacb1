r"""Convolutions of images (B, h, w, c) with weights (k, k, in, out), by the fastest method.

    y[b, i, j, :] = Σ_{p,q} x[b, s i + p − m, s j + q − m, :] W[p, q, :, :],    m = ⌊k/2⌋, stride s

with zeros outside the image, as with PyTorch's padding=m, equal on all sides.

On a CPU the sum is one matrix product of the patches of the image with the weights. Inside a loop,
as in training, XLA runs its own convolutions on a CPU without threads, and a step of the ResNet
takes 5 to 20 times as long (measured on two cores, 8×8 to 28×28 pixels). Accelerators have fast
convolutions, and less memory for patches.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.networks.models.model import he_normal

Images = Float[Array, "B h w c"]
Outputs = Float[Array, "B new_h new_w new_c"]
Weight = Float[Array, "k k inputs outputs"]


class Convolution(eqx.Module):
    """A convolution without bias; its weights have variance 2/fan_out (He et al., 2015)."""

    weight: Weight
    stride: int = eqx.field(static=True)

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int, *, rng: np.random.Generator
    ) -> None:
        self.weight = he_normal(rng, (size, size, inputs, outputs), fan=size * size * outputs)
        self.stride = stride

    def __call__(self, x: Images) -> Outputs:
        convolve = by_patches if jax.default_backend() == "cpu" else by_library
        return convolve(x, self.weight, self.stride)


def by_patches(x: Images, weight: Weight, stride: int) -> Outputs:
    """The convolution as one matrix product."""
    size, _, inputs, outputs = weight.shape
    margin = size // 2
    _, height, width, _ = x.shape
    rows, columns = ((n - 1) // stride * stride + 1 for n in (height, width))
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    shifted = [
        padded[:, p : p + rows : stride, q : q + columns : stride, :]
        for p in range(size)
        for q in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1) @ weight.reshape(size * size * inputs, outputs)


def by_library(x: Images, weight: Weight, stride: int) -> Outputs:
    """XLA's own convolution."""
    margin = weight.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=((margin, margin), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
