r"""Structures that are rays R T: the decays of their ties, ends, and critical points.

With the power S = Σ s_i(T)^p and g the mean loss, a point of the ray ties with the origin at the
decay e₀, and is critical at e₁ (`structures` has the units):

    e₀(R) = (g(0) − g(R)) / ((M/2) S R^p),   e₁(R) = −g'(R) R^{1−p} / S.

The ray is below the origin for e < max e₀, and exists for e ≤ max e₁ (its spinodal).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ufm._support.roots import highest
from ufm.minimum.structures import Structure, TableLoss

#: log R at which maxima are searched.
LOG_SIZES = np.log(np.geomspace(1e-3, 1e4, 561))


class Ray(NamedTuple):
    """The decays e₀ and e₁ as functions of log R."""

    tied: Callable[[Any], Any]
    critical: Callable[[Any], Any]


def ray(structure: Structure, loss: TableLoss, factors: int) -> Ray:
    """The functions of a structure with one pattern."""
    p, T = 2 / factors, structure.patterns[0]
    power = float(np.sum(structure.sizes(np.ones(1))[0] ** p))
    origin = float(loss(np.zeros_like(T))[0])

    def tied(x: Any) -> Any:
        R = np.exp(np.asarray(x))
        return (origin - loss(R[..., None, None] * T)[0]) / (0.5 * factors * power * R**p)

    def critical(x: Any) -> Any:
        R = np.exp(np.asarray(x))
        slope = np.sum(loss(R[..., None, None] * T)[1] * T, axis=(-2, -1))
        return -slope * R ** (1 - p) / power

    return Ray(tied, critical)


def _highest(function: Any) -> float:
    values = function(LOG_SIZES)
    best = min(max(int(np.argmax(values)), 1), len(values) - 2)
    return float(function(highest(function, LOG_SIZES[best - 1], LOG_SIZES[best + 1])))


def tie_with_origin(structure: Structure, loss: TableLoss, factors: int) -> float:
    """The decay e at which a ray ties with the origin."""
    return _highest(ray(structure, loss, factors).tied)


def spinodal_of(structure: Structure, loss: TableLoss, factors: int) -> float:
    """The decay e up to which a ray has a critical point."""
    return _highest(ray(structure, loss, factors).critical)
