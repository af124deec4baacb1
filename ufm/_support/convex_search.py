"""Minimise convex functions of a positive number by golden-section search for its logarithm."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: log θ lies between −512 and 0, relative to the limit, and after 24 steps in an interval of 0.005.
_WIDTH, _STEPS, _RATIO = 512.0, 24, (5.0**0.5 - 1.0) / 2.0


def least_points(
    cost: Callable[[Float[Array, " m"]], Float[Array, " m"]], limits: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Find the minimiser θ in (0, limit] of each of m convex functions, exactly if it is the limit.

    Otherwise to 0.5 %. The functions may be infinite beyond some θ, and NaN at θ = 0. Every step
    computes each function once, so that memory is that of one evaluation.
    """

    def at(points: Array) -> Array:
        found = cost(limits * jnp.exp(-points))
        return jnp.where(jnp.isnan(found), jnp.inf, found)

    def at_larger(at_near: Array, at_far: Array) -> Array:
        # Small θ, where a function hardly changes, tie; large θ, where it is infinite, do too.
        return (at_near <= at_far) & jnp.isfinite(at_near)

    def narrowed(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, near, far, at_near, at_far = state
        larger = at_larger(at_near, at_far)
        low, high = jnp.where(larger, low, near), jnp.where(larger, far, high)
        new = jnp.where(larger, high - _RATIO * (high - low), low + _RATIO * (high - low))
        at_new = at(new)
        return (
            *(low, high, jnp.where(larger, new, far), jnp.where(larger, near, new)),
            *(jnp.where(larger, at_new, at_far), jnp.where(larger, at_near, at_new)),
        )

    low, high = jnp.zeros_like(limits), jnp.full_like(limits, _WIDTH)
    near, far = high * (1.0 - _RATIO), high * _RATIO
    start = low, high, near, far, at(near), at(far)
    low, _, near, far, at_near, at_far = jax.lax.fori_loop(0, _STEPS, narrowed, start)
    best = jnp.where(at_larger(at_near, at_far), near, far)
    return limits * jnp.exp(-jnp.where(low > 0, best, 0.0))
