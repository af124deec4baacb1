"""Elementwise bisection down to adjacent floating-point numbers, in NumPy or in JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ufm._support.namespace import namespace

#: Halvings that shrink a bracket of length 1e4 to adjacent float64 numbers.
_HALVINGS = 80
#: Halvings of a single bracket by one call, which takes as long for 2⁵ numbers as for one.
_AT_ONCE = 5


def bracket(reached: Callable[[Any], Any], low: Any, high: Any) -> tuple[Any, Any]:
    """Find the adjacent numbers in [low, high] between which the monotone predicate turns true.

    `low` is where it is false, the larger number or the smaller one. For a single pair of numbers
    it is called with an array of points between them.
    """
    xp, single = namespace(low, high), np.ndim(low) == 0
    at_once = _AT_ONCE if single else 1
    parts = (np.arange(1, 2**at_once) / 2**at_once).astype(low.dtype) if single else 0.5

    def narrowed(ends: tuple[Any, Any], _: Any) -> tuple[Any, Any]:
        a, b = ends
        inner = a + parts * (b - a)
        hit = reached(inner)
        if not single:
            return xp.where(hit, a, inner), xp.where(hit, inner, b)
        points, last = xp.concatenate([a[None], inner, b[None]]), xp.sum(~hit)
        return points[last], points[last + 1]

    turns = _HALVINGS // at_once
    if xp is jax.numpy:
        return jax.lax.fori_loop(0, turns, lambda i, ends: narrowed(ends, i), (low, high))
    return functools.reduce(narrowed, range(turns), (low, high))


def bisect(reached: Callable[[Any], Any], low: Any, high: Any) -> Any:
    """Find where in [low, high] the monotone predicate turns true; `low` if it is true there."""
    a, b = bracket(reached, low, high)
    return namespace(low, high).where(reached(low), low, 0.5 * (a + b))
