r"""The global minimum on norm sets for balanced classes and contrastive losses, from one scalar.

With φ(s) the loss at margin s = z_k − z_j for all rivals j, κ = K/(K−1), and ρ the radius of a
sphere or ball or the root of a budget, a simplex ETF with |w_k| = w, |h_i| = h has the margin
s = κ w h/τ, and

    both factors bounded    f* = min φ(s) over s ≤ s_max = κ ρ_W ρ_H/τ
    W decayed               f* = min_s φ(s) + λ_W τ² (K−1)² s²/(2K ρ_H²)
    H decayed               f* = min_s φ(s) + λ_H N τ² (K−1)² s²/(2K² ρ_W²),

independent of n up to N in the last line. Proof. With s_i the mean margin of sample i, L ≥ φ(s_i)
(contrastive), s_i ≤ κ |(PW)_k| |h_i|/τ without the bias, whose margins cancel in the mean, and
mean |(PW)_k|² ≤ mean |w_k|². So mean s_i is at most the margin that the norms allow, and f* is as
claimed if the tangent of φ at the minimiser s* lies below φ: everywhere with a bias, on s ≥ 0
without one. It does for convex φ. Otherwise φ is concave up to s_c and convex beyond, so that it
does with a bias if s* ≥ s_c and −φ'(s*) ≤ −φ'(−∞), and without one if s* is beyond the tie with 0
(`ufm.collapse.margin_loss`). For vectors bounded one by one and no bias it suffices that
ψ(q) = φ(s_max √q) lies above its tangent at q = 1 for q = |(PW)_k|² ≤ 4/κ² (K for a budget): ψ is
convex beyond s_c, and below it φ decreases, so that cells decide.

No decay makes the origin a minimum: the penalty of s is quadratic. For LS with s_max beyond the
margin of its targets minimisers are not unique. (Yaras et al., 2022, treat CE on spheres.)
"""

from typing import Any, NamedTuple

import numpy as np

from ufm._support.bisection import bisect
from ufm._support.namespace import settled
from ufm.collapse.margin_loss import LARGEST_MARGIN, MarginLoss
from ufm.model.constraints import Ball, Budget, Constraint, Sphere
from ufm.model.problem import Problem

#: Cells of q below the inflection, in which ψ and its tangent are compared.
_CELLS = 20_000


class Balanced(NamedTuple):
    """The symmetric minimum: its value and margin, and the norms of w_k and h_i of its ETF."""

    value: float
    margin: float
    size_w: float
    size_h: float
    #: Whether norms of exactly `size_w`, `size_h` are feasible, and the minimiser is unique.
    is_tight: bool
    #: s_max over the margin at which φ is least, if both norms are bounded and φ has a minimum:
    #: above 1 it is not tight. NaN otherwise.
    reach: float = np.nan


def radius_of(given: Constraint | None) -> float | None:
    """ρ; None for a factor that is not bounded."""
    if isinstance(given, Sphere | Ball):
        return float(given.radius)
    return float(given.mean_square) ** 0.5 if isinstance(given, Budget) else None


def balanced_minimum(problem: Problem) -> Balanced | None:
    """The symmetric minimum, if it is proven to be global up to its dimension; else None."""
    loss, K = problem.loss, problem.num_classes
    if problem.per_class is None or problem.has_targets or not loss.contrastive:
        return None
    of_w, of_h = radius_of(problem.classifier), radius_of(problem.features)
    tau = 1.0 if problem.temperature is None else float(problem.temperature)
    phi, kappa = MarginLoss(settled(loss), K), K / (K - 1)
    if not phi.slope(np.zeros(())) < 0:
        return None
    most, penalty, is_tight, reach = None, 0.0, True, np.nan
    if of_w is not None and of_h is not None:
        most = np.asarray(kappa * of_w * of_h / tau)
        lowest = stationary(phi, 0.0)
        s, sizes = np.minimum(most, lowest), (of_w, of_h)
        is_tight, reach = bool(most < lowest), reach_of(most, lowest)
    else:
        if of_h is not None:
            rate = _decay(problem.lam_w) * (tau * (K - 1) / of_h) ** 2 / K
        else:
            assert of_w is not None  # one of them is bounded
            rate = _decay(problem.lam_h) * problem.num_columns * (tau * (K - 1) / (K * of_w)) ** 2
        if not rate > 0:
            return None
        s = stationary(phi, rate)
        penalty, known = 0.5 * rate * float(s) ** 2, of_w or of_h or 1.0
        other = float(s) * tau / (kappa * known)
        sizes = (other, known) if of_w is None else (known, other)
    if not 0 < s < LARGEST_MARGIN or not (tangent_below(problem, phi, s) or
                                          _by_squares(problem, phi, s, most)):  # fmt: skip
        return None
    value = float(phi.value(s)) + penalty
    return Balanced(value, float(s), *sizes, is_tight, reach)


def _decay(given: Any) -> float:
    return float(given)


def reach_of(most: Any, lowest: Any) -> float:
    """The share of the best margin that the norms allow; NaN if φ falls for ever."""
    return float(most / lowest) if lowest < LARGEST_MARGIN else np.nan


def bound_of(problem: Problem, found: Balanced | None) -> float:
    """The lower bound on f* that a closed form proves, rounding allowed for; −∞ without one."""
    return -np.inf if found is None else found.value - rounding(problem, found.value)


def rounding(problem: Problem, value: float) -> float:
    """A bound on the error of a closed form: of terms no larger than f(0), times the steepness."""
    steep = float(problem.loss.smoothness()[0])
    at_zero = float(settled(problem.loss).profile(np.zeros(()), problem.num_classes))
    return 64 * float(np.finfo(float).eps) * max(steep, 1.0) * (abs(value) + abs(at_zero))


def stationary(phi: MarginLoss, rate: float) -> Any:
    """The minimiser of φ + ½ rate s² beyond the inflection; 1e4 if the sum falls up to there."""
    low = np.maximum(phi.inflection(np.zeros(())), 0.0)
    far = np.full_like(low, LARGEST_MARGIN)
    return bisect(lambda s: phi.slope(s) + rate * s >= 0.0, low, far)


def tangent_below(problem: Problem, phi: MarginLoss, s: Any) -> bool:
    """Whether the tangent of φ at s lies below φ, on s ≥ 0 if there is no bias."""
    if phi.loss.is_convex():
        return True
    bend, slope = phi.inflection(s), -phi.slope(s)
    if problem.has_bias:
        return bool(s >= bend) and float(slope) <= float(phi.loss.far_slope())
    return bool(s >= bend) and bool(s >= phi.tie(np.zeros(())))


def _by_squares(problem: Problem, phi: MarginLoss, s: Any, most: Any) -> bool:
    """Whether ψ(q) = φ(s_max √q) lies above its tangent at q = 1."""
    each = isinstance(problem.features, Sphere | Ball)
    bend = phi.inflection(s)
    if problem.has_bias or not each or most is None or s < most or not s > bend:
        return False
    K = problem.num_classes
    q_most = K if isinstance(problem.classifier, Budget) else (2 * (K - 1) / K) ** 2
    # The cells reach to the inflection; beyond it ψ is convex.
    nodes = np.linspace(0.0, min(q_most, (max(float(bend), 0.0) / float(s)) ** 2), _CELLS + 1)
    line = phi.value(s) + 0.5 * float(s) * phi.slope(s) * (nodes - 1.0)
    above = phi.value(float(s) * np.sqrt(nodes[1:])) - line[:-1]
    return bool(np.all(above >= 64 * np.finfo(float).eps * abs(line[0])))
