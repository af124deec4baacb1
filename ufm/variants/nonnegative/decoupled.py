r"""Closed forms of the minimum with H ≥ 0 where classes decouple.

Contrastive losses: margins s_k = argmin_{s≥0} φ(s) + c_k s, orthogonal class means of lengths
t_k⁴ = λ_W s_k² (K−1)/(K λ_H n_k), W = Σ_k (s_k/t_k) P e_k e_rᵀ. Squared error without a bias: the
diagonal logits of the plain model.
"""

import dataclasses

import numpy as np

from ufm.losses import MSE
from ufm.minimum.minimiser import infimum_of, is_proven
from ufm.minimum.squared_error_minimum import squared_error_minimum
from ufm.model.problem import Problem
from ufm.variants.nonnegative.bounds import (
    Margins,
    has_margin_bound,
    margin_lower_bound,
    margins,
)
from ufm.variants.nonnegative.minimiser import NonNegativeMinimum, factors

#: Logits below this fraction of the largest are zero.
_ZERO = 1e-9
_EPS = float(np.finfo(float).eps)


def decoupled(problem: Problem) -> NonNegativeMinimum | None:
    """The minimum of a contrastive loss, if its bound reaches it; None for other losses."""
    if not has_margin_bound(problem):
        return None
    found, classes = margins(problem), problem.num_classes
    phi, c, shares = found
    s = phi.argmin(c, np.zeros_like(c))
    value = float(np.sum(shares * (phi.value(s) + c * s)))
    # No term of the bound exceeds φ(0), and the error of each is 1 + γ roundings.
    at_zero = float(phi.value(np.float64(0.0)))
    slack = 64 * _EPS * float(problem.loss.smoothness()[0]) * (abs(value) + at_zero)
    bound = float(margin_lower_bound(problem)) - slack
    alive = int(np.sum(s > 0))
    proven = is_proven(value, bound, infimum_of(problem), slack)
    table = s * (np.eye(classes) - 1.0 / classes)
    left, right = factors(problem, table)
    even = problem.per_class is not None
    minimum = NonNegativeMinimum(
        value=value,
        lower_bound=bound,
        is_exact=proven and problem.dim >= alive,
        logits=table,
        bias=np.zeros(classes) if problem.has_bias else None,
        rank=min(alive, classes - 1),
        problem=problem,
        reason="classes decouple: closed form, proven by its bound",
        rho=float(s[0]) if even else np.nan,
        tau=0.0 if even else np.nan,
        bias_level=0.0 if even else np.nan,
        left=left,
        right=right,
    )
    if not _ties(found, at_zero):
        return minimum
    why = f"{minimum.reason}; a class is as good alive as dead"
    return dataclasses.replace(minimum, tied=True, reason=why)


def _ties(found: Margins, at_zero: float) -> bool:
    """Whether the margin of a class jumps at its price, to rounding."""
    phi, c, _ = found
    low = phi.inflection(c)
    s = phi.stationary(c, np.maximum(low, 0.0))
    near = np.abs(phi.value(s) + c * s - at_zero) <= 64 * _EPS * (1.0 + at_zero)
    return not phi.loss.is_convex() and bool(np.any((low > 0) & (s > low) & near))


def diagonal_squared_error(problem: Problem) -> NonNegativeMinimum | None:
    """The minimum of the plain model where its logits are diagonal, so that H ≥ 0 costs nothing."""
    if not isinstance(problem.loss, MSE) or problem.has_bias:
        return None
    found = squared_error_minimum(dataclasses.replace(problem, features=None))
    if found is None:
        return None
    table = np.where(np.eye(problem.num_classes) > 0, found.logits, 0.0)
    off = np.max(np.abs(found.logits - table))
    if off > _ZERO * np.max(np.abs(table)) or np.any(table < 0):
        return None
    left, right = factors(problem, table)
    level = float(table[0, 0]) if problem.per_class is not None else np.nan
    return NonNegativeMinimum(
        value=found.value,
        lower_bound=found.lower_bound,
        is_exact=True,
        logits=table,
        bias=None,
        rank=found.rank,
        problem=problem,
        reason="closed form: the minimum without the constraint has non-negative features",
        rho=level,
        tau=level,
        bias_level=0.0 if problem.per_class is not None else np.nan,
        left=left,
        right=right,
    )
