r"""Normalisation of features (B, …, c), c channels: by groups of channels, or by the batch.

    y = s (x − m) / √(v + 1e-5) + t,    s, t learned, one of each per channel

`GroupNorm` (Wu & He, 2018) takes m and v over a group of channels and all pixels of one image.
`BatchNorm` (Ioffe & Szegedy, 2015) takes them over batch and pixels of a channel while training,
and otherwise their running averages, m ← 0.9 m + 0.1 m_batch, with the unbiased variance, as
PyTorch does. `NoNorm` is y = x.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.networks.models.model import Stats

Features = Float[Array, "B *pixels c"]

#: PyTorch's defaults.
_EPSILON, _RENEWAL = 1e-5, 0.1
#: Largest number of groups in GroupNorm.
_GROUPS = 8
#: Smallest number of units in a group of a layer without pixels.
_FEWEST = 8


class Norm(eqx.Module):
    """A normalisation."""

    def initial_stats(self) -> Stats:
        """The statistics before the first batch; none, unless a norm has some."""
        return ()

    @abc.abstractmethod
    def __call__(self, x: Features, stats: Stats, training: bool) -> tuple[Features, Stats]:
        """The normalised features, and the statistics after this batch."""


class NoNorm(Norm):
    """The identity."""

    def __call__(self, x: Features, stats: Stats, training: bool) -> tuple[Features, Stats]:
        return x, stats


class Affine(eqx.Module):
    """A learned scale and shift of every channel."""

    scale: Float[Array, " c"]
    shift: Float[Array, " c"]

    def __init__(self, channels: int) -> None:
        self.scale = jnp.ones(channels, jnp.float32)
        self.shift = jnp.zeros(channels, jnp.float32)

    def __call__(self, x: Features) -> Features:
        return x * _spread(self.scale, x) + _spread(self.shift, x)


class GroupNorm(Norm):
    """Up to eight groups that divide the channels; it has no statistics.

    In a layer without pixels a group has at least eight units, because normalising one or two
    units leaves a constant or a sign.
    """

    affine: Affine

    def __init__(self, channels: int) -> None:
        self.affine = Affine(channels)

    def __call__(self, x: Features, stats: Stats, training: bool) -> tuple[Features, Stats]:
        channels = x.shape[-1]
        groups = math.gcd(channels, _GROUPS)
        while x.ndim == 2 and groups > 1 and channels // groups < _FEWEST:
            groups //= 2
        grouped = x.reshape(*x.shape[:-1], groups, -1)
        axes = (*range(1, x.ndim - 1), x.ndim)  # pixels, and channels within a group
        centred = grouped - jnp.mean(grouped, axes, keepdims=True)
        variance = jnp.mean(centred**2, axes, keepdims=True)
        return self.affine((centred * jax.lax.rsqrt(variance + _EPSILON)).reshape(x.shape)), stats


class BatchNorm(Norm):
    """Statistics (mean, variance) of every channel, kept from batch to batch."""

    affine: Affine

    def __init__(self, channels: int) -> None:
        self.affine = Affine(channels)

    def initial_stats(self) -> Stats:
        return jnp.zeros_like(self.affine.shift), jnp.ones_like(self.affine.scale)

    def __call__(self, x: Features, stats: Stats, training: bool) -> tuple[Features, Stats]:
        mean, variance = stats
        if training:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes)
            variance = jnp.mean((x - _spread(mean, x)) ** 2, axes)
            stats = _renewed(stats, mean, variance, x.size // x.shape[-1])
        root = jax.lax.rsqrt(variance + _EPSILON)
        return self.affine((x - _spread(mean, x)) * _spread(root, x)), stats


def _spread(channels: Float[Array, " c"], x: Features) -> Array:
    """(c,) with the axes of x."""
    return channels.reshape((1,) * (x.ndim - 1) + channels.shape)


def _renewed(stats: Stats, mean: Array, variance: Array, count: int) -> Stats:
    """Running averages after a batch of `count` entries per channel."""
    unbiased = variance * (count / max(count - 1, 1))
    return jax.tree.map(
        lambda old, new: (1.0 - _RENEWAL) * old + _RENEWAL * new, stats, (mean, unbiased)
    )


def make_norm(kind: str, channels: int) -> Norm:
    """Make "none", "group" or "batch"."""
    if kind == "none":
        return NoNorm()
    return GroupNorm(channels) if kind == "group" else BatchNorm(channels)
