r"""A lower bound on f from mean margins, proven for every convex contrastive loss.

For balanced classes, ‖Z‖_* ≥ √n (K−1)|s̄| with the mean margin s̄ of all samples, Σ_i s_i^p ≥ (Σ_i
s_i)^p, and the mean loss is at least φ(s̄) by Jensen's inequality. A bias does not change s̄, so that

    f ≥ min_{s ≥ 0} φ(s) + C s^p,   C = (M/2) Λ ((K−1)√n)^p,

which two classes attain. For more classes the bound is below f by up to a factor (K−1)^{p−1} in the
decay. The minimum is found by branch and bound: on an interval φ is at least its tangent at the
middle and the power is concave, so that the sum of both is least at an end.
"""

import numpy as np

from ufm.collapse.margin_loss import MarginLoss

#: Intervals left after this many halvings are as short as rounding allows.
_HALVINGS = 60
#: The bound is this close to the minimum, relative to φ(0).
_CLOSE = 1e-14


def power_minimum(phi: MarginLoss, factor: float, p: float) -> tuple[float, float]:
    """min_{s ≥ 0} φ(s) + factor · s^p for convex φ ≥ 0, p ≤ 1: a proven bound, and where.

    Allows for rounding.
    """
    origin = float(phi.value(np.float64(0.0)))
    infimum = phi.loss.infimum() or 0.0
    # Beyond it the power alone exceeds f(0).
    end = min(((origin - infimum) / factor) ** (1 / p), 1e300)
    # A geometric division, because minima may be at any scale.
    ends = np.concatenate([[0.0], np.geomspace(min(1e-12, 1e-3 * end), end, 200)])
    low, high = ends[:-1], ends[1:]
    best, place, bound = origin, 0.0, origin
    least = np.full_like(low, infimum)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        value, slope = phi.value(middle), phi.slope(middle)
        at_middle = value + factor * middle**p
        if np.min(at_middle) < best:
            best, place = float(np.min(at_middle)), float(middle[np.argmin(at_middle)])
        at_ends = [value + slope * (x - middle) + factor * x**p for x in (low, high)]
        least = np.maximum(np.minimum(*at_ends), infimum)
        closed = least >= best - _CLOSE * origin
        bound = min(bound, float(np.min(least[closed], initial=np.inf)))
        low, middle, high, least = (x[~closed] for x in (low, middle, high, least))
        if not low.size:
            break
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    bound = min(bound, float(np.min(least, initial=np.inf)))
    rounding = 64 * float(np.finfo(float).eps) * float(phi.loss.smoothness()[0]) * origin
    return min(bound, best) - rounding, place
