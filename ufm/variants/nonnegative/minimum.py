r"""The global minimum with H ≥ 0, with its proof.

It is

- in closed form for contrastive losses (CE, LS, FL, …) with any class counts and no bias, where
  classes decouple (`ufm.variants.nonnegative.decoupled`): orthogonal class means, some may be 0;
- the same for balanced classes with any bias, which is 0 then, if the bound from margins reaches
  it, as it does for convex losses by symmetry and for others at decays of practical size;
- that of the plain model for squared error without a bias, whose logits are diagonal: its features
  may as well be non-negative;
- by three scalars, certified by duality, for balanced classes and other convex losses
  (`ufm.variants.nonnegative.symmetric`): squared error with a bias, BCE;
- computed by a solver on the problem of class means and certified by duality for convex losses and
  any class counts with a bias;
- unknown otherwise.

It is attained if d is at least the number of rays: that of the classes alive, where they decouple.

    >>> relu = Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=5e-3,
    ...                         lam_h=5e-3, lam_b=None, features=NonNegative())
    >>> global_minimum(relu)
    NonNegativeMinimum
      value        0.2064353377
      lower_bound  0.2064353377
      is_exact     True
      kind         orthogonal frame
      rank         3
      rho          4.310257595
      reason       classes decouple: closed form, proven by its bound
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ufm._support.rank import matrix_rank
from ufm.certificates.verdicts import Verdict
from ufm.collapse.origin import origin_bias
from ufm.minimum.minimiser import GlobalMinimum, infimum_of
from ufm.model.class_means import reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.solvers import Solution, default_tol
from ufm.variants.nonnegative.certificate import cone_certify
from ufm.variants.nonnegative.decoupled import decoupled, diagonal_squared_error
from ufm.variants.nonnegative.merging import merged_solve
from ufm.variants.nonnegative.minimiser import NonNegativeMinimum, factors, merged
from ufm.variants.nonnegative.starts import nonnegative_start
from ufm.variants.nonnegative.symmetric import (
    Scalars,
    is_symmetric,
    joint_factors,
    logits_of,
    symmetric_scalars,
)

#: Runs from random starts where the first one was not certified; largest K²d of a problem solved.
_TRIES, _LARGEST = 4, 1e5
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
    bound = infimum_of(problem)
    for closed in (decoupled, diagonal_squared_error, _symmetric):
        found = closed(problem)
        if found is not None and found.is_exact:
            return found
        bound = bound if found is None else max(bound, found.lower_bound)
    return _solved(problem, bound)


def _symmetric(problem: Problem) -> NonNegativeMinimum | None:
    """The minimum by three scalars, or the origin, certified."""
    if not is_symmetric(problem):
        return None
    small = _means_problem(problem, problem.num_classes)
    level = float(origin_bias(small)[0]) if problem.has_bias else 0.0
    found = _certified(problem, small, Scalars(0.0, 0.0, level))
    if found is None or not found.at_origin_least:
        found = _certified(problem, small, symmetric_scalars(problem)) or found
    return None if found is None else found.minimum


class _Certified(NamedTuple):
    minimum: NonNegativeMinimum
    #: γ° ≤ μ: at the origin, that it is the minimum.
    at_origin_least: bool


def _certified(problem: Problem, small: Problem, scalars: Scalars) -> _Certified | None:
    """The minimum at these scalars; None if it is not certified."""
    table = logits_of(problem, scalars)
    joint = abs(scalars.tau) > max(scalars.rho, 0.0)
    left, right = joint_factors(problem, scalars) if joint else factors(problem, table)
    bias = np.full(len(table), scalars.bias_level) if problem.has_bias else None
    pad = problem.num_classes - len(right)
    point = Params(
        jnp.asarray(np.pad(left, ((0, 0), (0, pad)))),
        jnp.asarray(np.pad(right, ((0, pad), (0, 0)))),
        None if bias is None else jnp.asarray(bias),
    )
    certificate = cone_certify(small, point)
    if certificate.verdict is not Verdict.GLOBAL_MINIMUM:
        return None
    minimum = NonNegativeMinimum(
        value=float(certificate.value),
        lower_bound=float(certificate.lower_bound),
        is_exact=problem.dim >= len(right),
        logits=table,
        bias=bias,
        rank=matrix_rank(table),
        problem=problem,
        reason="symmetric minimum of three scalars, certified by duality",
        rho=scalars.rho,
        tau=scalars.tau,
        bias_level=scalars.bias_level,
        left=left,
        right=right,
    )
    return _Certified(minimum, float(certificate.dual_norm) <= float(certificate.threshold))


def _means_problem(problem: Problem, dim: int) -> Problem:
    """The problem of class means, with H ≥ 0."""
    return dataclasses.replace(reduced_problem(problem, dim), features=problem.features)


def _unknown(problem: Problem, reason: str, bound: float) -> NonNegativeMinimum:
    shape = (problem.num_outputs, problem.num_classes)
    bias = np.full(shape[0], np.nan) if problem.has_bias else None
    return NonNegativeMinimum(
        np.nan, bound, False, np.full(shape, np.nan), bias, 0, problem, reason=reason
    )


def _solved(problem: Problem, bound: float) -> NonNegativeMinimum:
    """The best of some runs on the problem of class means, and what certifies it."""
    most = 2 * max(problem.num_classes, problem.num_outputs)
    small = _means_problem(problem, min(problem.dim, most))
    if problem.num_outputs * problem.num_classes * small.dim > _LARGEST:
        why = f"not computed: {problem.num_classes} classes would take minutes"
        return _unknown(problem, why, bound)
    tol, best = 1e-3 * float(default_tol(small, np.float64)), None
    for i in range(_TRIES):
        start = nonnegative_start(small, jax.random.key(i))
        run = merged_solve(small, _frame(small, start) if i == 0 else start, tol=tol)
        if best is not None and not float(run.value) < float(best.value) * (1.0 - 1e-9):
            continue
        best, certificate = run, cone_certify(small, run.params)
        bound = max(bound, float(certificate.lower_bound))
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
    return dataclasses.replace(start, W=jnp.asarray(W), H=jnp.asarray(H))


def _from_run(
    problem: Problem, small: Problem, run: Solution, bound: float, reason: str, *, exact: bool
) -> NonNegativeMinimum:
    W, H = np.asarray(run.params.W), np.asarray(run.params.H)
    value, roots = float(run.value), np.sqrt(np.asarray(small.column_weights))
    used = np.linalg.norm(H, axis=1) * np.linalg.norm(W, axis=0)
    # Without such a coordinate f changes by less than rounding.
    kept = used * float(problem.mu()) > 16 * _EPS * value
    left, right = merged(W[:, kept], H[kept])
    table = left @ right / roots
    return NonNegativeMinimum(
        value=value,
        lower_bound=bound,
        is_exact=exact,
        logits=table,
        bias=None if run.params.b is None else np.asarray(run.params.b),
        rank=matrix_rank(table),
        problem=problem,
        reason=reason,
        left=left,
        right=right,
    )
