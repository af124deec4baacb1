"""The acceptance test of the first-order methods, reliable down to rounding.

A step to `new` along a direction with slope gᵀd < 0 is accepted if f falls enough (Armijo). If
rounding hides the change of f, the approximate Wolfe condition of Hager & Zhang (2005, eq. 4.1)
decides, which needs only gradients.
"""

import jax.numpy as jnp
from jaxtyping import Array

#: Fraction of the predicted decrease that a step must achieve (Hager & Zhang's δ).
SUFFICIENT = 0.1


def sufficient_decrease(old: Array, new: Array, slope: Array, new_slope: Array, step: Array):
    """Whether to accept a step; `slope` and `new_slope` are the derivatives at its ends."""
    eps = float(jnp.finfo(old.dtype).eps)
    armijo = new <= old + SUFFICIENT * step * slope
    flat = new <= old + 8 * eps * jnp.abs(old)
    approximate = flat & (new_slope <= (2 * SUFFICIENT - 1) * slope)
    return jnp.isfinite(new) & jnp.isfinite(new_slope) & (armijo | approximate)
