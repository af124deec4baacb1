r"""The global minimum with H ≥ 0, with its proof.

It is

- in closed form for contrastive losses (CE, LS, FL, …) with any class counts and no bias, where
  classes decouple: margins s_k = argmin_{s≥0} φ(s) + c_k s (`ufm.variants.nonnegative.bounds`),
  orthogonal class means of lengths t_k⁴ = λ_W s_k² (K−1)/(K λ_H n_k), W = Σ_k (s_k/t_k) P e_k e_rᵀ;
- the same for balanced classes with any bias, which is 0 then, if the bound from margins reaches
  it, as it does for convex losses by symmetry and for others at decays of practical size;
- that of the plain model for squared error without a bias, whose logits are diagonal: its features
  may as well be non-negative;
- computed by a solver on the problem of class means and certified by duality for other convex
  losses (squared error with a bias, where Z = ρP + (τ/K)11ᵀ; any counts with a bias);
- unknown otherwise.

It is attained if d is at least the number of rays: that of the classes alive, where they decouple.

    >>> relu = Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=5e-3,
    ...                         lam_h=5e-3, lam_b=None, features=NonNegative())
    >>> global_minimum(relu)
    NonNegativeMinimum
      value        0.2110195085
      lower_bound  0.2110195085
      is_exact     True
      kind         orthogonal frame
      rank         3
      rho          4.29981989
      reason       classes decouple: closed form, proven by its bound
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from ufm.certificates.verdicts import Verdict
from ufm.losses import MSE
from ufm.minimum.minimiser import GlobalMinimum, infimum_of
from ufm.minimum.squared_error_minimum import squared_error_minimum
from ufm.model.class_means import class_sizes, reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.solvers import Solution, default_tol
from ufm.variants.nonnegative.bounds import (
    has_margin_bound,
    margin_lower_bound,
    profile,
    rates,
)
from ufm.variants.nonnegative.certificate import cone_certify
from ufm.variants.nonnegative.merging import merged_solve
from ufm.variants.nonnegative.minimiser import NonNegativeMinimum, factors
from ufm.variants.nonnegative.starts import nonnegative_start

#: Largest distance of value and bound of a closed form, relative to 1 + f*.
_PROVEN = 1e-9
#: Logits, and entries of factors, below this fraction of the largest are zero.
_ZERO = 1e-9
#: Runs from random starts where the first one was not certified; largest K²d of a problem solved.
_TRIES, _LARGEST = 6, 1e5
#: Spread of a start from the frame, which lets coordinates serve several classes.
_SPREAD = 1e-2
_EPS = float(np.finfo(float).eps)


def cone_minimum(problem: Problem) -> GlobalMinimum:
    """f* with a proof if one is known, as `ufm.global_minimum`."""
    if np.ndim(problem.mu()):
        raise ValueError("the problem is a batch: call global_minimum once for each of its entries")
    if not float(problem.mu()) > 0:
        why = "with lam_w or lam_h = 0 a minimum may not exist"
        return _unknown(problem, why, infimum_of(problem))
    for closed in (_decoupled(problem), _squared_error(problem)):
        if closed is not None and closed.is_exact:
            return closed
    return _solved(problem)


def _decoupled(problem: Problem) -> NonNegativeMinimum | None:
    if not has_margin_bound(problem):
        return None
    phi, c = profile(problem), np.asarray(rates(problem))
    sizes, classes = np.asarray(class_sizes(problem), float), problem.num_classes
    s = phi.argmin(c, np.zeros_like(c))
    value = float(np.sum(sizes / sizes.sum() * (phi.value(s) + c * s)))
    # No term of the bound exceeds φ(0), and the error of each is 1 + γ roundings.
    at_zero = float(phi.value(np.float64(0.0)))
    slack = 64 * _EPS * float(problem.loss.smoothness()[0]) * (abs(value) + at_zero)
    bound = float(margin_lower_bound(problem)) - slack
    alive = int(np.sum(s > 0))
    proven = value - bound <= _PROVEN * (1.0 + abs(value))
    table = s * (np.eye(classes) - 1.0 / classes)
    even = problem.per_class is not None
    found = NonNegativeMinimum(
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
        **_rays(*factors(problem, table)),
    )
    if not _ties(problem, c, at_zero):
        return found
    return dataclasses.replace(
        found, tied=True, reason=f"{found.reason}; a class is as good alive as dead"
    )


def _ties(problem: Problem, c: Float[np.ndarray, " K"], at_zero: float) -> bool:
    """Whether the margin of a class jumps at its rate, to rounding."""
    phi = profile(problem)
    low = phi.inflection(c)
    s = phi.stationary(c, np.maximum(low, 0.0))
    near = np.abs(phi.value(s) + c * s - at_zero) <= 64 * _EPS * (1.0 + at_zero)
    return not problem.loss.is_convex() and bool(np.any((low > 0) & (s > low) & near))


def _squared_error(problem: Problem) -> NonNegativeMinimum | None:
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
        **_rays(*factors(problem, table)),
    )


def _rays(left: Float[np.ndarray, "K r"], right: Float[np.ndarray, "r m"]) -> dict[str, np.ndarray]:
    return {"left": left, "right": right}


def _unknown(problem: Problem, reason: str, bound: float) -> NonNegativeMinimum:
    shape = (problem.num_outputs, problem.num_classes)
    bias = np.full(shape[0], np.nan) if problem.has_bias else None
    return NonNegativeMinimum(
        np.nan, bound, False, np.full(shape, np.nan), bias, 0, problem, reason=reason
    )


def _solved(problem: Problem) -> NonNegativeMinimum:
    """The best of some runs on the problem of class means, and what certifies it."""
    most = 2 * max(problem.num_classes, problem.num_outputs)
    small = reduced_problem(problem, min(problem.dim, most))
    small = dataclasses.replace(small, features=problem.features)
    if problem.num_outputs * problem.num_classes * small.dim > _LARGEST:
        why = f"not computed: {problem.num_classes} classes would take minutes"
        return _unknown(problem, why, infimum_of(problem))
    tol = 1e-3 * float(default_tol(small, np.float64))
    best, bound = None, infimum_of(problem)
    for i in range(_TRIES):
        start = nonnegative_start(small, jax.random.key(i))
        run = merged_solve(small, _frame(small, start) if i == 0 else start, tol=tol)
        certificate = cone_certify(small, run.params)
        bound = max(bound, float(certificate.lower_bound))
        if best is None or float(run.value) < float(best.value):
            best = run
        if certificate.verdict is Verdict.GLOBAL_MINIMUM:
            why = "problem of class means, certified by duality"
            return _from_run(problem, small, run, bound, why, exact=True)
    assert best is not None
    why = f"value is the best found in {_TRIES} runs, which the lower bound does not reach"
    return _from_run(problem, small, best, bound, why, exact=False)


def _frame(small: Problem, start: Params) -> Params:
    """A start near the orthogonal frame, so that every class is alive."""
    K, (d, m) = small.num_outputs, start.H.shape
    towards = np.eye(K, m) - 1.0 / K
    W, H = (_SPREAD * np.asarray(x) for x in (start.W, start.H))
    shared = min(d, m)
    W[:, :shared] += towards[:, :shared]
    H[:shared, :shared] += np.eye(shared)
    return dataclasses.replace(start, W=jax.numpy.asarray(W), H=jax.numpy.asarray(H))


def _from_run(
    problem: Problem, small: Problem, run: Solution, bound: float, reason: str, *, exact: bool
) -> NonNegativeMinimum:
    W, H = np.asarray(run.params.W), np.asarray(run.params.H)
    value, table = float(run.value), W @ H / np.sqrt(np.asarray(small.column_weights))
    used = np.linalg.norm(H, axis=1) * np.linalg.norm(W, axis=0)
    # Without such a coordinate f changes by less than rounding.
    kept = used * float(problem.mu()) > 16 * _EPS * value
    sizes = np.linalg.svd(table, compute_uv=False)
    found = NonNegativeMinimum(
        value=value,
        lower_bound=bound,
        is_exact=exact,
        logits=table,
        bias=None if run.params.b is None else np.asarray(run.params.b),
        rank=int(np.sum(sizes > 1e-7 * sizes[0])) if np.any(kept) else 0,
        problem=problem,
        reason=reason,
        **_rays(W[:, kept], H[kept]),
    )
    return _symmetric(found)


def _symmetric(found: NonNegativeMinimum) -> NonNegativeMinimum:
    """The same with ρ, τ and b₀ where Z = ρP + (τ/K)11ᵀ and b = b₀1, to the accuracy of a run."""
    table, K = found.logits, found.problem.num_outputs
    if found.problem.per_class is None or table.shape != (K, K):
        return found
    on = float(np.mean(np.diag(table)))
    off = float((np.sum(table) - K * on) / (K * (K - 1)))
    level = 0.0 if found.bias is None else float(np.mean(found.bias))
    spread = np.max(np.abs(table - off - (on - off) * np.eye(K)))
    if found.bias is not None:
        spread = max(spread, float(np.max(np.abs(found.bias - level))))
    if spread > 1e-6 * (1.0 + abs(on)):
        return found
    return dataclasses.replace(found, rho=on - off, tau=on + (K - 1) * off, bias_level=level)
