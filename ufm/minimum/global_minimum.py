r"""The global minimum of a problem, with its proof.

If the loss is convex, averaging the features of a class never raises f, so that for any N f* is the
minimum of a K-column problem with the class sizes as column weights. It is

- in closed form (or one bisection) for balanced classes and CE, LS, FL or MSE;
- computed by a solver and certified by duality for any class counts and a convex loss (minority
  collapse and SELI geometry: Fang et al., 2021; Thrampoulidis et al., 2022);
- in closed form for MSE with any class counts or targets, without a bias or with a free one, and
  for targets of CE and LS that no permutation of the outputs changes;
- the best of several runs, where duality certifies it, for other losses with a conjugate;
- unknown otherwise: `is_exact` is False, `value` is the best value found, and `reason` says why.

It is attained when d ≥ rank Z*; for smaller d only the bound holds.

    >>> global_minimum(problem)
    GlobalMinimum
      value        0.1836919957
      lower_bound  0.1836919957
      is_exact     True
      kind         simplex ETF
      rank         3
      rho          4.459481988
      reason       symmetric minimum, proven by its bound
    >>> global_minimum(problem).params(key)
    Params
      W  f64[4,6]
      H  f64[6,20]
      b  [0, 0, 0, 0]
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from ufm.collapse import symmetric_solution as symmetric
from ufm.collapse.live_classes import live_classes
from ufm.hessian import NO_FRAME
from ufm.minimum.minimiser import GlobalMinimum as GlobalMinimum
from ufm.minimum.minimiser import factorise, infimum_of, is_proven, nothing_known
from ufm.minimum.searched import best_found, solved, too_few_dimensions
from ufm.minimum.squared_error_minimum import squared_error_minimum
from ufm.minimum.symmetric_targets import symmetric_targets_minimum
from ufm.model.problem import Params, Problem
from ufm.model.variant import by_variant


def frame(problem: Problem, into: Problem | None = None) -> Params:
    """Build W, H, b at the symmetric critical point with ρ > 0 that is a local minimum in ρ.

    If `into` is given, it is a point of that K-column problem, `reduced_problem(problem, d)`.
    Raises `ValueError` if there is no such point, and as `symmetric_minimum`.
    """
    scalars = symmetric.symmetric_frame(problem)
    if np.isnan(float(scalars.rho)):
        raise ValueError(NO_FRAME)
    rank = scalars.rank(problem.num_classes)
    if problem.dim < rank:
        raise ValueError(
            f"the frame has rank {rank}, more than dim={problem.dim}: set dim to {rank} or more"
        )
    logits = _symmetric_logits(problem, scalars)
    return factorise(problem if into is None else into, *logits, jax.random.key(0), rank)


def _symmetric_logits(
    problem: Problem, scalars: symmetric.SymmetricMinimum
) -> tuple[Float[np.ndarray, "K K"], Float[np.ndarray, " K"] | None]:
    """W h̄_k for every class, and the bias."""
    classes, rho, tau = problem.num_classes, float(scalars.rho), float(scalars.tau)
    bias = np.full(classes, float(scalars.bias_level)) if problem.has_bias else None
    return rho * np.eye(classes) + (tau - rho) / classes, bias


@by_variant
def global_minimum(problem: Problem) -> GlobalMinimum:
    """Compute f*, with a proof if one is known, and one minimiser up to rotation.

    Not for use inside transformations such as `jax.jit`.

    Args:
        problem: The problem.

    Returns:
        The value, a proven lower bound, whether they agree (`is_exact`), the logits (K, K) of the
        minimiser and its geometry; `params(key)` builds W, H and b in a random orientation.

    Raises:
        ValueError: The problem is a batch.
    """
    if np.ndim(problem.mu()):
        raise ValueError("the problem is a batch: call global_minimum once for each of its entries")
    if not float(problem.mu()) > 0:
        return nothing_known(problem, "with lam_w or lam_h = 0 a minimum may not exist")
    if symmetric.supported(problem):
        return _symmetric(problem)
    closed = squared_error_minimum(problem) or symmetric_targets_minimum(problem)
    if closed is not None and closed.is_exact:
        return closed
    if problem.loss.is_convex():
        return solved(problem)
    why = "no lower bound is known for this loss and these class counts"
    return best_found(problem, infimum_of(problem), why)


def _symmetric(problem: Problem) -> GlobalMinimum:
    scalars = symmetric.symmetric_minimum(problem)
    rho, tau, level = (float(x) for x in (scalars.rho, scalars.tau, scalars.bias_level))
    table, bias = _symmetric_logits(problem, scalars)
    rank = scalars.rank(problem.num_classes)
    value, (bound, rounding) = float(scalars.value), symmetric.proven_lower_bound(problem)
    tied = symmetric.is_tied(problem)
    why = "symmetric minimum, proven by its bound"
    why += "; the origin and the simplex ETF tie" if tied else ""
    found = GlobalMinimum(
        value=value,
        lower_bound=bound,
        is_exact=True,
        logits=table,
        bias=bias,
        rho=rho,
        tau=tau,
        bias_level=level,
        rank=rank,
        problem=problem,
        reason=why,
        tied=tied,
    )
    if not is_proven(value, bound, infimum_of(problem), rounding):
        return _not_proven(problem, found)
    if problem.dim >= rank:
        return found
    return squared_error_minimum(problem) or too_few_dimensions(problem, rank, bound)


def _not_proven(problem: Problem, found: GlobalMinimum) -> GlobalMinimum:
    """The best of collapse and, with a bias and φ not convex, of points with dead classes."""
    why = "the scalar lower bound does not reach it (a loss that is not convex, a trained bias)"
    if not problem.has_bias:
        why = "the loss may fall beyond the largest margin that is searched"
    live = live_classes(problem) if problem.has_bias and problem.num_classes > 2 else None
    found = dataclasses.replace(found, is_exact=False, tied=False)
    if live is None or not live.value < found.value or problem.dim < live.num_live - 1:
        return dataclasses.replace(found, reason=f"value of the symmetric point: {why}")
    count, classes = live.num_live, problem.num_classes
    alive = np.arange(classes) < count
    both = np.outer(alive, alive)
    bias = np.where(alive, 0.0, -live.bias_gap)
    return dataclasses.replace(
        found,
        value=live.value,
        logits=live.margin * (np.diag(alive.astype(float)) - both / count),
        bias=bias - bias.mean(),
        rho=np.nan,
        tau=np.nan,
        bias_level=np.nan,
        rank=count - 1,
        reason=f"value with {count} live classes, below that of collapse: {why}",
    )
