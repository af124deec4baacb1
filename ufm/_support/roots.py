"""Roots and maxima of functions of one number, to rounding.

`scipy.optimize` is imported when it is needed: it takes a quarter of a second.
"""

from collections.abc import Callable
from typing import Any

#: The smallest relative tolerance that SciPy accepts.
_ROUNDING = 8.9e-16


def root(function: Callable[[Any], Any], low: float, high: float) -> float:
    """Where the function changes sign in [low, high]."""
    from scipy import optimize

    # SciPy's stubs do not know that tolerances are plain numbers, nor what is returned.
    brentq: Any = optimize.brentq
    return float(brentq(function, low, high, xtol=1e-300, rtol=_ROUNDING))


def highest(function: Callable[[Any], Any], low: float, high: float) -> float:
    """Where the function is largest in [low, high], a local maximum, to the root of rounding."""
    options = {"xatol": 1e-12}
    from scipy import optimize

    minimize: Any = optimize.minimize_scalar
    found = minimize(lambda x: -function(x), bounds=(low, high), method="bounded", options=options)
    return float(found.x)
