r"""`jax.random` on the host: the same numbers to rounding, without a program for every shape.

Compiling a program takes longer than solving from a start. The bits are those of JAX's default
generator, Threefry-2x32-20 (Salmon et al., 2011): one block for each number, whose counter is the
number's position. Splitting a key and folding a number into it use blocks of the same kind.

    >>> random, key = generator(jax.random.key(0), count=5)
    >>> numbers = random.normal(key, (5,), "float64")
    >>> np.allclose(numbers, jax.random.normal(jax.random.key(0), (5,)), rtol=0, atol=1e-12)
    True
"""

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, UInt32

from ufm._support.normal_quantile import normal_quantile
from ufm._support.quick_jit import is_traced, within_a_trace

_Words = UInt32[np.ndarray, " 2"]
#: For more numbers than these a program is faster, including its compilation.
_MOST = 2**22
#: Numbers drawn at a time, so that their words stay in the processor's cache.
_CHUNK = 2**13
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def generator(key: Any, count: int) -> tuple[Any, Any]:
    """A generator to draw `count` numbers as `jax.random` does, and the key in its format.

    It is `jax.random` itself within a transformation, for many numbers, and for other keys.
    """
    ours = (
        not (is_traced(key) or within_a_trace())
        and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        and str(jax.random.key_impl(key)) == "threefry2x32"
        and getattr(jax.config, "jax_threefry_partitionable", True)
    )
    if not ours or count > _MOST:
        return jax.random, key
    return OnHost, np.asarray(jax.random.key_data(key))


def gaussian(key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """`jax.random.normal`, to rounding."""
    random, key = generator(key, math.prod(shape))
    drawn = random.normal(key, shape, dtype)
    return jax.device_put(drawn) if isinstance(drawn, np.ndarray) else drawn


class OnHost:
    """`split`, `fold_in` and `normal` of `jax.random` for the two words of a key, in NumPy."""

    @staticmethod
    def split(key: _Words, num: int = 2) -> np.ndarray:
        """`num` keys, shape (num, 2)."""
        return np.stack(_threefry(key, np.arange(num)), axis=1)

    @staticmethod
    def fold_in(key: _Words, data: int) -> np.ndarray:
        """The key of a number below 2³²."""
        return np.concatenate(_threefry(key, np.array([data])))

    @staticmethod
    def normal(key: _Words, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Gaussian numbers with mean 0 and deviation 1: √2 erf⁻¹(u), u uniform on (−1, 1)."""
        size, kind = int(np.prod(shape)), np.dtype(dtype).type
        least = np.nextafter(kind(-1), kind(0))
        drawn = np.empty(size, kind)
        for i in range(0, size, _CHUNK):
            high, low = _threefry(key, np.arange(i, min(i + _CHUNK, size)))
            if kind is np.float32:
                uniform = ((high ^ low) >> np.uint32(9)).astype(kind) * kind(2.0**-23)
            else:
                words = (high.astype(np.uint64) << np.uint64(32)) | low
                uniform = (words >> np.uint64(12)).astype(kind) * kind(2.0**-52)
            u = np.maximum(uniform * kind(2) + least, least)
            drawn[i : i + _CHUNK] = normal_quantile(u.astype(np.float64))
        return drawn.reshape(shape)


def _threefry(key: _Words, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two words of the block at each position below 2³²."""
    words = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x = np.full(len(positions), key[0])
    y = positions.astype(np.uint32) + key[1]
    moved = np.empty_like(y)
    for i in range(5):
        for distance in _ROTATIONS[i % 2]:
            x += y
            np.right_shift(y, np.uint32(32 - distance), out=moved)
            y <<= np.uint32(distance)
            y |= moved
            y ^= x
        x += words[(i + 1) % 3]
        y += words[(i + 2) % 3]
        y += np.uint32(i + 1)
    return x, y
