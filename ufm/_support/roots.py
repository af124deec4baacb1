"""Roots and maxima of functions of one number, to rounding."""

from collections.abc import Callable
from typing import Any

from scipy.optimize import brentq, minimize_scalar

#: SciPy's stubs know neither what these return nor that tolerances are plain numbers.
_brentq: Any = brentq
_minimize: Any = minimize_scalar
#: The smallest relative tolerance that SciPy accepts.
_ROUNDING = 8.9e-16


def root(function: Callable[[Any], Any], low: float, high: float) -> float:
    """Where the function changes sign in [low, high]."""
    return float(_brentq(function, low, high, xtol=1e-300, rtol=_ROUNDING))


def highest(function: Callable[[Any], Any], low: float, high: float) -> float:
    """Where the function is largest in [low, high], a local maximum, to the root of rounding."""
    options = {"xatol": 1e-12}
    found = _minimize(lambda x: -function(x), bounds=(low, high), method="bounded", options=options)
    return float(found.x)
