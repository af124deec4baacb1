"""Elementwise bisection down to adjacent floating-point numbers, in NumPy or in JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from ufm._support.namespace import namespace

#: Halvings that shrink a bracket of length 1e4 to adjacent float64 numbers.
_HALVINGS = 80


def bracket(reached: Callable[[Any], Any], low: Any, high: Any) -> tuple[Any, Any]:
    """Find the adjacent numbers in [low, high] between which the monotone predicate turns true."""
    xp = namespace(low, high)

    def halve(ends: tuple[Any, Any], _: Any) -> tuple[Any, Any]:
        a, b = ends
        mid = 0.5 * (a + b)
        hit = reached(mid)
        return xp.where(hit, a, mid), xp.where(hit, mid, b)

    if xp is jax.numpy:
        return jax.lax.fori_loop(0, _HALVINGS, lambda i, ends: halve(ends, i), (low, high))
    return functools.reduce(halve, range(_HALVINGS), (low, high))


def bisect(reached: Callable[[Any], Any], low: Any, high: Any) -> Any:
    """Find where in [low, high] the monotone predicate turns true; `low` if it is true there."""
    a, b = bracket(reached, low, high)
    return namespace(low, high).where(reached(low), low, 0.5 * (a + b))
