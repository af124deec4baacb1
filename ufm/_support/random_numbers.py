r"""`jax.random` on the host: the same numbers to rounding, without a program for every shape.

A program takes longer to compile than a start takes to be solved. The bits are those of JAX's
default generator, Threefry-2x32-20 (Salmon et al., 2011): one block for a number, whose counter is
the number's position. Splitting a key and folding a number into it are blocks of the same kind.

    >>> random, key = generator(jax.random.key(0), count=5)
    >>> numbers = random.normal(key, (5,), "float64")
    >>> np.allclose(numbers, jax.random.normal(jax.random.key(0), (5,)), rtol=0, atol=1e-12)
    True
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import UInt32

_Words = UInt32[np.ndarray, " 2"]
#: More numbers than these are drawn sooner by a program, compiling it included.
_MOST = 2**22
#: Numbers drawn at a time: their words stay in the processor's cache.
_CHUNK = 2**13
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))

# Coefficients of algorithm AS 241, PPND16 (Wichura, 1988), highest power first: numerator and
# denominator in the middle, in the tails, and far out.
# fmt: off
_RATIONAL = np.array(
    [
        2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
        13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608,
        5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
        5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1,
        7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
        1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
        4.6303378461565452959, 1.42343711074968357734,
        1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
        0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
        2.05319162663775882187, 1,
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386,
        0.026532189526576123093, 0.29656057182850489123, 1.7848265399172913358,
        5.4637849111641143699, 6.6579046435011037772,
        2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5,
        7.868691311456132591e-4, 0.0148753612908506148525, 0.13692988092273580531,
        0.59983220655588793769, 1,
    ]
).reshape(3, 2, 8)
# fmt: on


def generator(key: Any, count: int) -> tuple[Any, Any]:
    """What draws `count` numbers of the key, as `jax.random` does, and the key as it wants it.

    `jax.random` itself within a transformation, for many numbers, and for keys of other kinds.
    """
    ours = (
        not isinstance(key, Tracer)
        and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        and str(jax.random.key_impl(key)) == "threefry2x32"
        and getattr(jax.config, "jax_threefry_partitionable", True)
    )
    if not ours or count > _MOST:
        return jax.random, key
    return OnHost, np.asarray(jax.random.key_data(key))


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
            drawn[i : i + _CHUNK] = _quantile(u.astype(np.float64))
        return drawn.reshape(shape)


def _threefry(key: _Words, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two words of the block at each position, below 2³²."""
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


def _quantile(u: np.ndarray) -> np.ndarray:
    """The normal number below which a share (1 + u)/2 lies."""
    found = 0.5 * u * _ratio(_RATIONAL[0], 0.180625 - 0.25 * u**2)
    outside = np.abs(u) > 0.85
    r = np.sqrt(-np.log(0.5 * (1.0 - np.abs(u[outside]))))
    tail = np.where(r <= 5.0, _ratio(_RATIONAL[1], r - 1.6), _ratio(_RATIONAL[2], r - 5.0))
    found[outside] = np.copysign(tail, u[outside])
    return found


def _ratio(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.polyval(coefficients[0], x) / np.polyval(coefficients[1], x)
