r"""The decays at which the origin and the simplex ETF are minima of the focal loss, or tie.

At points of equal margins the loss is φ(s) = ψ(log(1 + (K−1)e^{−s})), concave below the margin s_c
at which p_k = p*(γ) and convex above it. In terms of x = μ√n, for d ≥ K−1 and no bias or a small
decay (so that the symmetric minimum is global, see `ufm.collapse.symmetric_solution`):

| curve | at x = | what happens |
|---|---|---|
| `origin` | −φ'(0)/(K−1) = ψ'(log K)/K | ‖G‖₂ = μ: above it the origin is a local minimum |
| `tie` | c/(K−1), φ(s) + cs = φ(0), c = −φ'(s) | below it the ETF is global, above it the origin |
| `frame` | −φ'(s_c)/(K−1) | above it there is no ETF: χ₁ = 0, its spinodal |

If 1/K < p*(γ), origin < tie < frame: between `origin` and `frame` both are local minima, and one of
them is spurious. If 1/K ≥ p*(γ), the three curves coincide, and the transition is continuous. φ
depends on K only through s − log(K−1), so that K may be any real number here.

    >>> [round(float(x), 6) for x in focal_phases(np.array([1.0, 3.0]), 100).tie]
    [0.010491, 0.011752]
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from ufm._support.namespace import settled
from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.collapse.margin_loss import MarginLoss
from ufm.losses import Focal

Numbers = Float[np.ndarray, "*batch"]


@pytree()
class FocalPhases(Shown):
    """The three curves in units of μ√n, over γ and K; `jumps` says where they differ."""

    gamma: Numbers
    num_classes: Numbers
    origin: Numbers
    tie: Numbers
    frame: Numbers
    jumps: Any


def focal_phases(gamma: Any, num_classes: Any) -> FocalPhases:
    """Compute the decays at which the origin and the ETF are minima of the focal loss, or tie.

    Args:
        gamma: γ > 0, a number or an array.
        num_classes: K ≥ 2, a number or an array that broadcasts against `gamma`.

    Returns:
        The three curves in units of μ√n, of the broadcast shape of the arguments.

    Raises:
        ValueError: γ is not positive and finite, or K is below 2.
    """
    both: Any = np.broadcast_arrays(np.asarray(gamma, float), np.asarray(num_classes, float))
    g, K = both
    if not np.all((g > 0) & np.isfinite(g)):
        raise ValueError("gamma must be positive and finite (at 0 the loss is cross-entropy)")
    if not np.all((K >= 2) & np.isfinite(K)):
        raise ValueError("num_classes must be at least 2 and finite")
    phi = MarginLoss(settled(Focal(g)), 2)
    zero = -np.log(K - 1.0)  # the margin 0 of K classes, as one of two
    bend = phi.inflection(zero)
    places = zero, phi.tie(zero), np.maximum(bend, zero)
    origin, tie, frame = (np.asarray(-phi.slope(s) / (K - 1.0)) for s in places)
    return FocalPhases(g, K, origin, tie, frame, np.asarray(bend > zero))
