"""Minima of functions of a few variables, to rounding of their gradients."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " m"]
#: Relative differences for the Hessian: the cube root of rounding.
_APART = 6e-6
_MOST_STEPS = 100
#: Largest step, as a fraction of ‖x‖: a longer one may leave the nearest minimum.
_LONGEST = 0.25


def descend(function: Callable[[Vector], tuple[float, Vector]], start: Vector) -> Vector:
    """A minimum below `start` by Newton's method with |eigenvalues| and backtracking.

    `function` gives the value and the gradient, whose differences make the Hessian. Values decide
    on steps, and gradients where values do not differ. The end need not be critical: ask.
    """
    x = start
    value, gradient = function(x)
    for _ in range(_MOST_STEPS):
        apart = _APART * max(float(np.linalg.norm(x)), 1e-3) * np.eye(len(x))
        differences = [function(x + h)[1] - function(x - h)[1] for h in apart]
        H = np.array(differences) / (2 * apart[0, 0])
        curvatures, axes = np.linalg.eigh(0.5 * (H + H.T))
        sizes = np.maximum(np.abs(curvatures), 1e-10 * np.max(np.abs(curvatures)) + 1e-300)
        step = -axes @ (axes.T @ gradient / sizes)
        step *= min(
            1.0, _LONGEST * float(np.linalg.norm(x)) / max(float(np.linalg.norm(step)), 1e-300)
        )
        if not np.linalg.norm(step) > 1e-14 * np.linalg.norm(x):
            break
        for _ in range(40):
            there, slope = function(x + step)
            if there < value + 1e-4 * float(gradient @ step) or (
                there <= value + 1e-13 * (1 + abs(value))
                and np.linalg.norm(slope) < 0.5 * np.linalg.norm(gradient)
            ):
                break
            step = 0.5 * step
        else:
            break
        x, value, gradient = x + step, there, slope
    return x
