r"""The global minimum of a deep linear model for squared error, for any class counts and widths.

With the singular values σ_i of √n_k y_k (`ufm.minimum.squared_error_minimum`), von Neumann's
inequality gives f* = Σ_i min_s h_i(s) over the largest r σ_i, r the smallest width, where

    h(s) = (s − σ)²/2N + (M/2) Λ s^p,   h'(s) = 0  ⟺  s + NΛ s^{p−1} = σ.

For M ≥ 3 that has two roots, the larger one a minimum, if Λ < Λ_spin. It lies below the origin if Λ
is below Λ_tie, so that directions vanish by a jump:

    Λ_tie = (σ (M−2)/(M−1))^{2−p} / (N (M−2)),   Λ_spin = M (σ (M−2)/(2M−2))^{2−p} / (N (M−2)),

in the ratio Λ_spin/Λ_tie = M/2^{2−p}.
"""

from typing import Any

import numpy as np

from ufm._support.roots import root
from ufm.minimum.squared_error_minimum import TargetDirections, target_directions
from ufm.model.problem import Problem
from ufm.variants.deep.factors import largest_rank, mean_decay, number_of_factors
from ufm.variants.deep.minimiser import DeepMinimum, deep_minimum


def tie(sigma: Any, total: float, factors: int) -> Any:
    """Λ_tie, at which a direction of the targets ties with its absence."""
    return (sigma * (factors - 2) / (factors - 1)) ** (2 - 2 / factors) / (total * (factors - 2))


def spinodal(sigma: Any, total: float, factors: int) -> Any:
    """Λ_spin, up to which a direction can be kept."""
    ratio = factors / 2 ** (2 - 2 / factors)
    return ratio * tie(sigma, total, factors)


def roots(sigma: float, rate: float, p: float) -> tuple[float, float]:
    """The small and the large root of s + rate · s^{p−1} = σ; NaN if there is none.

    For p = 1, two factors, there is no small one.
    """
    if p == 1:
        return np.nan, sigma - rate if sigma > rate else np.nan
    bottom = (rate * (1 - p)) ** (1 / (2 - p))  # where the left side is least
    if not bottom + rate * bottom ** (p - 1) < sigma:
        return np.nan, np.nan

    def excess(s: float) -> float:
        return s + rate * s ** (p - 1) - sigma

    # Below it the power alone exceeds σ. Half of it, since s is less than the rounding of σ there.
    first = (rate / sigma) ** (1 / (1 - p))
    large = root(excess, bottom, sigma)
    return root(excess, 0.5 * first, bottom), large


def best_sizes(found: TargetDirections, decay: float, factors: int, rank: int) -> Any:
    """s_i at the minimum, and the decay of each."""
    p, s = 2 / factors, np.zeros_like(found.sizes)

    def decay_of(x: Any) -> Any:
        return 0.5 * factors * decay * x**p

    for i, sigma in enumerate(found.sizes[:rank]):
        large = roots(float(sigma), found.total * decay, p)[1]
        if (large - sigma) ** 2 / (2 * found.total) + decay_of(large) < sigma**2 / (
            2 * found.total
        ):
            s[i] = large
    return s, decay_of(s)


def squared_error(problem: Problem) -> DeepMinimum | None:
    """The minimum by the formula; None for other losses, or a decayed bias and a mean."""
    found = target_directions(problem)
    if found is None:
        return None
    factors, decay = number_of_factors(problem), float(mean_decay(problem))
    s, penalty = best_sizes(found, decay, factors, largest_rank(problem))
    rank, p = int(np.sum(s > 0)), 2 / factors
    slope = 0.5 * factors * decay * s[0] ** (p - 1) if rank else 0.0
    what = f"{rank} of {len(s)} directions of the targets are kept"
    minimum = found.minimum(problem, s, penalty, slope, f"closed form: {what}")
    return deep_minimum(minimum, _name(problem, rank))


def _name(problem: Problem, rank: int) -> str:
    """Of balanced classes that are all kept, with one singular value."""
    whole = problem.num_classes - problem.has_bias  # a free bias takes the mean
    if problem.per_class is None or problem.has_targets or rank != whole:
        return ""
    return "simplex ETF" if problem.has_bias else "orthogonal frame"
