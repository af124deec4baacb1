"""The acceptance test shared by the first-order methods, exact down to rounding.

A step to `new` along a direction with slope gᵀd < 0 is accepted when f falls enough (Armijo), or,
where the change of f drowns in rounding, when the slope says so: the approximate Wolfe condition
of Hager & Zhang (2005, eq. 4.1), which needs gradients only.
"""

import jax.numpy as jnp
from jaxtyping import Array

#: Fraction of the predicted decrease that must be realised (Hager & Zhang's δ).
SUFFICIENT = 0.1


def sufficient_decrease(old: Array, new: Array, slope: Array, new_slope: Array, step: Array):
    """Accept? `slope`, `new_slope`: derivatives along the direction at both ends."""
    eps = float(jnp.finfo(old.dtype).eps)
    armijo = new <= old + SUFFICIENT * step * slope
    flat = new <= old + 8 * eps * jnp.abs(old)
    approximate = flat & (new_slope <= (2 * SUFFICIENT - 1) * slope)
    return jnp.isfinite(new) & jnp.isfinite(new_slope) & (armijo | approximate)
