r"""Bound the error of a mean over random probes, for any number of probes.

For B symmetric (n×n) and v_1, …, v_P uniform on the unit sphere, (1/P) Σ v_pᵀBv_p has the mean
tr B/n. With g ~ N(0, I), gᵀBg = ‖g‖² vᵀBv with independent factors, so that by Jensen every convex
function of the mean is at most that of gᵀBg/n in expectation, and Chernoff's method applies to
log E exp(t gᵀBg) = −½ Σ log(1 − 2tλ_i):

1. 0 ≤ B ≤ 1, for example a projector: −log(1 − 2t(λ − a)) is convex in λ, so that B with only the
   eigenvalues 0 and 1 is the worst case. With F = tr B/n, the probability that the mean is beyond
   a ≠ F is at most

       exp(−(Pn/2) kl(F‖a)),     kl(F‖a) = F log(F/a) + (1−F) log((1−F)/(1−a)).

2. −b ≤ B ≤ b with Σλ_i² ≤ S: (−½log(1−2tλ) − tλ)/λ² increases in λ, so that n times the mean
   differs from tr B by s or more on one given side with probability at most

       exp(−(PS/2b²) ψ(sb/S)),     ψ(u) = u − log(1 + u).

Both hold for every n and P, without assuming normality or estimating the variance. Intervals built
from them contain the exact value with at least the requested confidence.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import rel_entr

from ufm._support.bisection import bracket

_NEWTON = 20

Row = Float[np.ndarray, " p"]


def fraction_interval(low: Row, high: Row, trials: int, log_odds: float) -> tuple[Row, Row]:
    """All F with (trials/2) kl(F‖a) ≤ log_odds for some a between low and high: statement 1.

    `trials` is P·n; `log_odds` is the logarithm of one over the probability for each side.
    """
    most = 2.0 * log_odds / trials
    return _farthest(low, np.zeros_like(low), most), _farthest(high, np.ones_like(high), most)


def _farthest(a: Row, end: Row, most: float) -> Row:
    """The F between a and `end` farthest from a with kl(F‖a) ≤ most, rounded outwards."""
    return bracket(lambda F: kl(F, a) > most, a, end)[1]


def kl(F: Any, a: Any) -> Any:
    """F log(F/a) + (1−F) log((1−F)/(1−a))."""
    return rel_entr(F, a) + rel_entr(1.0 - np.asarray(F), 1.0 - np.asarray(a))


def deviation(bound: float, squares: float, probes: int, log_odds: float) -> float:
    """The s of statement 2, for b = `bound` and S = `squares`."""
    if not (bound > 0 and squares > 0):
        return 0.0
    goal = 2.0 * log_odds / probes * bound / squares * bound
    # ψ(u) ≥ u²/(2(1 + u)) is at least the goal here, and Newton's method for a convex function
    # stays on this side of the root.
    u = 2.0 * goal + np.sqrt(2.0 * goal)
    for _ in range(_NEWTON):
        u -= (u - np.log1p(u) - goal) * (1.0 + u) / u
    return float(u) * squares / bound
