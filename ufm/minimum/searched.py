r"""The global minimum from runs of a solver on the problem of class means, and its proof.

For a convex loss, d = min(K, m) has no spurious minima, and duality certifies the end of one run.
Otherwise the best of several runs is reported, without a proof.
"""

import dataclasses

import jax
import numpy as np

from ufm._support.rank import matrix_rank
from ufm.certificates.certificate import Verdict, certify
from ufm.minimum.minimiser import GlobalMinimum, infimum_of, largest_gap, nothing_known
from ufm.minimum.narrow_bound import is_narrow, narrow_bound
from ufm.minimum.structures import SAME, TableLoss, best_structure
from ufm.model.class_means import reduced_problem
from ufm.model.problem import Params, Problem
from ufm.model.start import init_params
from ufm.solvers import default_tol, solve

#: Number of runs where only the best value found can be reported.
_TRIES = 8
#: Largest K²d of a problem that is solved, d ≤ K. Measured on two cores: half a minute, with 4,000
#: Hessian products of 6K²d operations to the accuracy of a proof; other runs take a fifth of them.
_LARGEST = 1e7
#: From this K²d on runs for a value take few steps: in few dimensions they need thousands of
#: products to end, and gain the fourth digit.
_LARGE, _FEW_STEPS = 1e6, 20
#: Branch and bound over W in one and two dimensions: the largest K, and the number of boxes (4 s).
_BRANCHED, _BOXES = 4, 100_000
_CERTIFIED = "reduced problem, certified by duality"


def solved(problem: Problem) -> GlobalMinimum:
    """Imbalanced or custom, but convex: d = K has no spurious minima, and duality certifies."""
    small = reduced_problem(problem)
    if problem.num_outputs * problem.num_classes * small.dim > _LARGEST:
        return nothing_known(problem, f"not computed: {_too_many(problem, small.dim)}")
    # A start of full rank is not a saddle of lower rank; the key only fixes an orientation.
    start = init_params(small, jax.random.key(0))
    solution = solve(small, start, tol=1e-3 * float(default_tol(small, np.float64)))
    certificate = certify(small, solution.params)
    found = _from_reduced(problem, small, solution.params, float(solution.value))
    bound = float(certificate.lower_bound)
    exact = certificate.verdict is Verdict.GLOBAL_MINIMUM
    if not exact:
        why = f"the reduced problem was not certified: {certificate.explain()}"
        return dataclasses.replace(found, lower_bound=bound, is_exact=False, reason=why)
    if problem.dim < found.rank:
        return too_few_dimensions(problem, found.rank, bound)
    return dataclasses.replace(found, lower_bound=bound, reason=_CERTIFIED)


def too_few_dimensions(problem: Problem, rank: int, bound: float) -> GlobalMinimum:
    """The best of structured points and of runs, where d is below the rank of the wide minimum."""
    why = f"the lower bound is attained only in dimension {rank} or more, and dim={problem.dim}"
    found = _with_structures(problem, best_found(problem, bound, why), why)
    if not is_narrow(problem) or problem.num_classes > _BRANCHED or found.is_exact:
        return found
    gap = largest_gap(found.value, infimum_of(problem))
    proof = narrow_bound(problem, 0.5 * gap, _BOXES)
    if not found.value - proof.lower_bound <= gap:
        return dataclasses.replace(found, lower_bound=max(bound, proof.lower_bound))
    # Other choices of the classes have the same value.
    reason = "proven: branch and bound over W"
    return dataclasses.replace(
        found, lower_bound=proof.lower_bound, is_exact=True, reason=reason, tied=True
    )


def _with_structures(problem: Problem, found: GlobalMinimum, why: str) -> GlobalMinimum:
    n = problem.per_class
    if n is None or not problem.loss.equivariant or problem.has_targets:
        return found
    K, decay = problem.num_classes, float(problem.mu()) * n**0.5
    known = best_structure(K, problem.dim, TableLoss(problem.loss, K), 2, decay)
    if found.is_exact or known is None or found.value <= known.value + SAME:
        return found
    bias = np.zeros(K) if problem.has_bias else None
    return dataclasses.replace(
        found,
        value=known.value,
        logits=known.table,
        bias=bias,
        rank=known.rank,
        reason=f"{why}; value is that of a structured point: {known.name}",
    )


def _too_many(problem: Problem, dim: int) -> str:
    return f"{problem.num_classes} classes in {dim} dimensions would take minutes"


def best_found(problem: Problem, bound: float, why: str) -> GlobalMinimum:
    """The best of as many runs as take less than a minute."""
    dim = min(problem.dim, problem.num_classes, problem.num_outputs)
    size = problem.num_outputs * problem.num_classes * dim
    tries = min(_TRIES, int(_TRIES * _LARGEST / size))
    if not tries:
        return nothing_known(
            problem, f"{why}; no value was searched: {_too_many(problem, dim)}", bound
        )
    reason = f"{why}; value is the best found in {tries} run{'s' if tries > 1 else ''}"
    small = reduced_problem(problem, dim)
    starts = [init_params(small, jax.random.key(i)) for i in range(tries)]
    steps = None
    if size > _LARGE:
        steps, reason = _FEW_STEPS, f"{reason} of at most {_FEW_STEPS} steps"
    runs = [solve(small, start, max_steps=steps) for start in starts]
    best = min(runs, key=lambda run: float(run.value))
    found = _from_reduced(problem, small, best.params, float(best.value))
    if problem.loss.has_conjugate:  # its dual points bound f whether or not the loss is convex
        certificate = certify(small, best.params)
        bound = max(bound, float(certificate.lower_bound))
        if certificate.verdict is Verdict.GLOBAL_MINIMUM:
            return dataclasses.replace(found, lower_bound=bound, reason=_CERTIFIED)
    return dataclasses.replace(found, lower_bound=bound, is_exact=False, reason=reason)


def _from_reduced(problem: Problem, small: Problem, params: Params, value: float) -> GlobalMinimum:
    Z = np.asarray(params.W) @ np.asarray(params.H)
    table = Z / np.sqrt(np.asarray(small.column_weights))
    bias = None if params.b is None else np.asarray(params.b)
    return GlobalMinimum(
        value=value,
        lower_bound=value,
        is_exact=True,
        logits=table,
        bias=bias,
        rank=matrix_rank(Z),
        problem=problem,
    )
