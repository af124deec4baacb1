r"""The quantiles of the standard normal distribution, without SciPy.

Importing `scipy.special` takes a third of a second, longer than most starts take to solve. The
rational approximations are those of Wichura, "Algorithm AS 241: The percentage points of the normal
distribution" (Applied Statistics 37, 1988), routine PPND16, of about 16 digits.

>>> round(float(normal_quantile(np.array([0.95]))[0]), 6)
1.959964
"""

import numpy as np
from jaxtyping import Float

#: Numerator and denominator by rising powers: the middle, |u| ≤ 0.85, and the near and far tail.
_MIDDLE = (
    (
        *(3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3),
        *(1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4),
        *(3.3430575583588128105e4, 2.5090809287301226727e3),
    ),
    (
        *(1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3),
        *(2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4),
        5.2264952788528545610e3,
    ),
)
_NEAR = (
    (
        *(1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550),
        *(3.64784832476320460504, 1.27045825245236838258, 2.41780725177450611770e-1),
        *(2.27238449892691845833e-2, 7.74545014278341407640e-4),
    ),
    (
        *(1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1),
        *(1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4),
        1.05075007164441684324e-9,
    ),
)
_FAR = (
    (
        *(6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580),
        *(2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3),
        *(2.71155556874348757815e-5, 2.01033439929228813265e-7),
    ),
    (
        *(1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1),
        *(1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5),
        *(1.42151175831644588870e-7, 2.04426310338993978564e-15),
    ),
)


def normal_quantile(u: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """√2 erf⁻¹(u) for u in (−1, 1): the quantile of probability (1 + u)/2."""
    half = 0.5 * u
    found = half * _ratio(_MIDDLE, 0.180625 - half * half)
    outside = np.abs(u) > 0.85
    r = np.sqrt(-np.log(0.5 * (1.0 - np.abs(u[outside]))))
    tail = np.where(r <= 5.0, _ratio(_NEAR, r - 1.6), _ratio(_FAR, r - 5.0))
    found[outside] = np.copysign(tail, u[outside])
    return found


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    """Numerator over denominator at x, by Horner's rule."""
    sums = []
    for rising in coefficients:
        total = np.full_like(x, rising[-1])
        for coefficient in rising[-2::-1]:
            total *= x
            total += coefficient
        sums.append(total)
    return sums[0] / sums[1]
