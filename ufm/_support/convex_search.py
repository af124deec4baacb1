"""Minimise convex functions of a positive number by repeated subdivision of its logarithm."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: At first θ lies between e⁻⁵¹² and 1 times the limit. Each time the functions are computed at all
#: points of a grid, and the interval of log θ becomes an eighth as long.
_FIRST, _GRID, _TIMES = 512.0, np.linspace(0.0, 1.0, 17), 5


def least_points(
    cost: Callable[[Float[Array, "m p"]], Float[Array, "m p"]], limits: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Find the minimiser θ in (0, limit] of each of m convex functions, exactly if it is the limit.

    Otherwise to 1 %. The functions may be infinite beyond some θ, and NaN at θ = 0.
    """

    def narrowed(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = (end[:, None] for end in ends)
        points = low + jnp.asarray(_GRID, limits.dtype)[None, :] * (high - low)
        costs = cost(limits[:, None] * jnp.exp(-points))
        least = jnp.argmin(jnp.where(jnp.isnan(costs), jnp.inf, costs), axis=1)[:, None]
        around = jnp.maximum(least - 1, 0), jnp.minimum(least + 1, len(_GRID) - 1)
        low, high = (jnp.take_along_axis(points, i, axis=1)[:, 0] for i in around)
        return low, high

    start = jnp.zeros_like(limits), jnp.full_like(limits, _FIRST)
    low, high = jax.lax.fori_loop(0, _TIMES, narrowed, start)
    return limits * jnp.exp(-jnp.where(low > 0, 0.5 * (low + high), 0.0))
