r"""The global minimum of a deep linear model, or the best known point with a proven lower bound.

- MSE without a bias or with a free one: in closed form (`squared_error`).
- Two balanced classes, convex contrastive losses, any bias: the margin bound is attained.
- Three balanced classes, CE and LS, no bias: proven by branch and bound (`three_classes`).
- Otherwise: the best of structured points (`structures`) and of runs of the solver, and the margin
  bound, or that of a plain problem. Deep collapse need not be the minimum: for M ≥ 3 points of
  lower rank are better (Garrod & Keating, 2025).

The plain problem: points below a known value f satisfy (M/2) Λ ‖Z‖_*^p ≤ f, and on that range the
concave penalty exceeds the chord (M/2) Λ t^{p−1} ‖Z‖_*, which is the decay of two factors.
"""

import contextlib
import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np

from ufm._support.pytree import entry
from ufm.collapse.margin_loss import MarginLoss
from ufm.collapse.origin import origin_bias
from ufm.losses import CrossEntropy, LabelSmoothing
from ufm.minimum.global_minimum import global_minimum
from ufm.minimum.minimiser import PROVEN, GlobalMinimum, infimum_of, is_proven, nothing_known
from ufm.minimum.narrow_bound import NarrowBound, check_budget
from ufm.minimum.structures import SAME, Found, TableLoss, best_structure
from ufm.model.class_means import class_sizes
from ufm.model.objective import data_loss
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.solvers import solve_many
from ufm.variants.deep import four_classes
from ufm.variants.deep.factors import (
    chain,
    factors_of,
    largest_rank,
    mean_decay,
    number_of_factors,
    of_class_means,
    without_hidden,
)
from ufm.variants.deep.hessian import rank_of_factors
from ufm.variants.deep.margin_bound import power_minimum
from ufm.variants.deep.minimiser import DeepMinimum, deep_minimum
from ufm.variants.deep.squared_error import squared_error
from ufm.variants.deep.start import draw_start
from ufm.variants.deep.three_classes import lower_bound

#: Runs of the solver for a best known value, and the largest number of parameters of each.
_RUNS, _LARGEST = 12, 20_000

#: Minima of the problems asked for last: certificates of many points need one.
_RECENT: dict[Any, DeepMinimum] = {}
_MOST_RECENT = 16


def deep_global_minimum(problem: Problem) -> DeepMinimum:
    """As `ufm.global_minimum`; raises `ValueError` for a batch."""
    leaves, structure = jax.tree.flatten(problem)
    key = structure, tuple(np.asarray(leaf).tobytes() for leaf in leaves)
    if key not in _RECENT:
        found = _computed(problem)
        while len(_RECENT) >= _MOST_RECENT:
            del _RECENT[next(iter(_RECENT))]
        _RECENT[key] = found
    return _RECENT[key]


def _computed(problem: Problem) -> DeepMinimum:
    if np.ndim(mean_decay(problem)):
        raise ValueError("the problem is a batch: call global_minimum once for each of its entries")
    if not float(mean_decay(problem)) > 0:
        return deep_minimum(
            nothing_known(problem, "with lam_w or lam_h = 0 a minimum may not exist")
        )
    closed = squared_error(problem)
    if closed is not None:
        return closed
    best = _best_known(problem)
    bound, how = proven_bound(problem, best.value)
    if not is_proven(best.value, bound, infimum_of(problem)):
        why = f"best known point, {best.reason}; not proven: {how}"
        return dataclasses.replace(best, lower_bound=bound, is_exact=False, reason=why)
    return dataclasses.replace(best, lower_bound=bound, is_exact=True, reason=f"proven: {how}")


def relative_decay(problem: Problem) -> float:
    """e = Λ n^{1/M} of balanced classes."""
    factors = number_of_factors(problem)
    return float(mean_decay(problem)) * float(problem.per_class or 1) ** (1 / factors)


def proven_bound(problem: Problem, value: float) -> tuple[float, str]:
    """A proven lower bound on f*, given the value of a point, and how it comes about."""
    loss, factors = problem.loss, number_of_factors(problem)
    lowest, nothing = infimum_of(problem), "no bound is known for a loss that is not convex"
    if not loss.is_convex():
        return lowest, nothing
    if problem.per_class is not None and loss.contrastive:
        K, p = problem.num_classes, 2 / factors
        factor = 0.5 * factors * relative_decay(problem) * (K - 1) ** p
        bound = max(power_minimum(MarginLoss(loss, K), factor, p)[0], lowest)
        if not (isinstance(loss, CrossEntropy | LabelSmoothing) and _is_symmetric(problem, 3)):
            return bound, "margin bound, which two classes attain"
        alpha = float(getattr(loss, "alpha", 0.0))
        gap = 0.5 * PROVEN * (1.0 + value) * min(1.0, value)
        rank = min(largest_rank(problem), 2)
        found = _three(relative_decay(problem), factors, alpha, value, gap, rank)
        return max(found, bound), "branch and bound over WWᵀ of three classes"
    if not math.isfinite(lowest):
        return lowest, "the loss has no known lower bound"
    free = _free_bias_bound(problem)
    if free is not None:
        return free, "bound of a free bias"
    return max(_plain_bound(problem, value - lowest), lowest), "bound of a plain problem"


def _free_bias_bound(problem: Problem) -> float | None:
    """For squared error and a decayed bias: f is not below that of a free one."""
    free = squared_error(dataclasses.replace(problem, lam_b=0.0)) if problem.has_bias else None
    return None if free is None else free.lower_bound


@functools.lru_cache(maxsize=64)
def _three(decay: float, factors: int, alpha: float, value: float, gap: float, rank: int) -> float:
    return lower_bound(decay, factors, alpha, value, gap, rank).bound


def deep_narrow_bound(
    problem: Problem, gap: float = 1e-6, max_boxes: int = 1_000_000
) -> NarrowBound:
    """As `ufm.narrow_bound`, for K = 4 and one hidden layer (`four_classes`).

    The bound is at least the margin bound, which `global_minimum` has. At e = 0.1, f* ≤ 1.00927, it
    is 0.92 with 200,000 boxes (5 s), and 1.0005 with a million (half a minute).
    """
    hidden, loss = number_of_factors(problem) - 2, problem.loss
    known = isinstance(loss, CrossEntropy | LabelSmoothing)
    if not (known and hidden == 1 and _is_symmetric(problem, 4)):
        raise ValueError(
            "with hidden layers the bound is for one layer, 4 balanced classes, cross-entropy or "
            f"label smoothing, and no bias; global_minimum proves 3 classes; got {problem}"
        )
    max_boxes = check_budget(gap, max_boxes)
    minimum, alpha = deep_global_minimum(problem), float(getattr(loss, "alpha", 0.0))
    if not math.isfinite(minimum.lower_bound):
        raise ValueError(f"the bound is for positive decays; got {problem}")
    e = relative_decay(problem)
    found = four_classes.lower_bound(e, alpha, minimum.value, gap, max_boxes)
    bound = max(found.bound, minimum.lower_bound)
    return NarrowBound(bound, found.value, bound >= found.value - gap, found.boxes)


def _is_symmetric(problem: Problem, num_classes: int) -> bool:
    balanced = problem.per_class is not None and not problem.has_targets
    return balanced and problem.num_classes == num_classes and not problem.has_bias


def _plain_bound(problem: Problem, height: float) -> float:
    """f* of the two-factor problem whose penalty lies below that of points of f ≤ `height`."""
    factors, decay = number_of_factors(problem), float(mean_decay(problem))
    p, rate = 2 / factors, 0.5 * factors * decay
    # A little more than the largest nuclear norm, against rounding.
    most = (height / rate) ** (1 / p) * (1 + 1e-12)
    mu = rate * most ** (p - 1)
    plain = dataclasses.replace(without_hidden(problem), lam_w=mu, lam_h=mu)
    # Enough dimensions for any rank: a narrower model is only higher.
    wide = max(problem.dim, problem.num_classes, problem.num_outputs)
    return float(global_minimum(dataclasses.replace(plain, dim=wide)).lower_bound)


def _origin(problem: Problem) -> DeepMinimum:
    """The origin with its bias, or with b = 0 if that is not found."""
    bias = np.zeros(problem.num_outputs) if problem.has_bias else None
    if bias is not None:
        with contextlib.suppress(ValueError):
            bias = np.asarray(origin_bias(without_hidden(problem)))
    logits, penalty = np.zeros((problem.num_outputs, problem.num_columns)), 0.0
    if bias is not None:
        logits += bias[:, None]
        penalty = 0.5 * float(problem.lam_b or 0.0) * float(bias @ bias)
    value = float(data_loss(problem, jax.device_put(logits))) + penalty
    found = GlobalMinimum(
        value=value,
        lower_bound=-np.inf,
        is_exact=False,
        logits=np.zeros((problem.num_outputs, problem.num_classes)),
        bias=bias,
        rank=0,
        problem=problem,
        reason="the origin",
    )
    return deep_minimum(found)


def _structured(problem: Problem) -> Found | None:
    """The best structured point of balanced classes that the widths allow."""
    if problem.per_class is None or problem.has_targets or not problem.loss.equivariant:
        return None
    K, loss = problem.num_classes, TableLoss(problem.loss, problem.num_classes)
    factors, decay = number_of_factors(problem), relative_decay(problem)
    return best_structure(K, largest_rank(problem), loss, factors, decay)


def _best_known(problem: Problem) -> DeepMinimum:
    best = at_origin = _origin(problem)
    found = _structured(problem)
    if found is not None and found.value < best.value:
        best = dataclasses.replace(
            best,
            value=found.value,
            logits=found.table,
            bias=np.zeros(problem.num_outputs) if problem.has_bias else None,
            rank=found.rank,
            structure=_with_rank(found),
            reason="the best of structured points",
            **_symmetric_scalars(found),
        )
    runs = _runs(problem, at_origin)
    if runs is not None and not runs.value >= best.value - SAME * (1 + abs(best.value)):
        return dataclasses.replace(best, **_cleared(runs))
    if runs is not None:
        best = dataclasses.replace(best, reason=f"{best.reason} and of {_RUNS} runs")
    return best


def _with_rank(found: Found) -> str:
    return found.name if found.name == "simplex ETF" else f"{found.name} (rank {found.rank})"


def _symmetric_scalars(found: Found) -> dict[str, float]:
    if found.name != "simplex ETF":
        return {}
    return {"rho": float(found.theta[0]), "tau": 0.0, "bias_level": 0.0}


def _cleared(runs: DeepMinimum) -> dict[str, Any]:
    names = ("value", "logits", "bias", "rank", "structure", "reason", "rho", "tau", "bias_level")
    return {name: getattr(runs, name) for name in names}


def _runs(problem: Problem, at_origin: DeepMinimum) -> DeepMinimum | None:
    """The best end of several runs on class means; None for a loss that is not convex or a size
    that takes minutes."""
    if not problem.loss.is_convex():
        return None
    small = of_class_means(problem)
    if small.num_parameters > _LARGEST:
        return None
    starts = draw_start(small, jax.random.key(0), 0.1, _RUNS, None)
    ends = solve_many(small, starts=starts)
    values = np.where(np.isfinite(ends.value), ends.value, np.inf)
    point: Params = entry(ends.params, int(np.argmin(values)))
    factors = [np.asarray(F) for F in factors_of(point)]
    Z, rank = chain(factors), rank_of_factors(factors)
    return dataclasses.replace(
        at_origin,
        value=float(np.min(values)),
        logits=Z / np.sqrt(np.asarray(class_sizes(problem))),
        bias=None if point.b is None else np.asarray(point.b),
        rank=rank,
        structure=f"rank {rank}" if rank else "",
        reason=f"the best of {_RUNS} runs",
    )
