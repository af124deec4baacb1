r"""The global minimum of a problem, with its proof.

If the loss is convex, averaging the features of a class never raises f, so that for any N f* is the
minimum of a K-column problem with the class sizes as column weights. It is

- in closed form (or one bisection) for balanced classes and CE, LS, FL or MSE;
- computed by a solver and certified by duality for any class counts and a convex loss (minority
  collapse and SELI geometry: Fang et al., 2021; Thrampoulidis et al., 2022);
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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.certificates.certificate import Verdict, certify
from ufm.collapse import symmetric_solution as symmetric
from ufm.collapse.live_classes import live_classes
from ufm.collapse.metrics import orthonormal_columns
from ufm.hessian import NO_FRAME
from ufm.model.class_means import reduced_problem
from ufm.model.problem import Params, Problem
from ufm.model.start import init_params
from ufm.solvers import default_tol, solve

#: Singular values of Z* below this fraction of the largest are zero: solvers reduce them to the
#: square of their accuracy in W and H.
_RANK_CUTOFF = 1e-7
#: Singular values of Z* that change f by less than this fraction are zero.
_NOTHING = 1e-16
#: Number of runs where only the best value found can be reported.
_TRIES = 8
#: Largest K²d of a problem that is solved, d ≤ K. Measured on two cores: half a minute, with 4,000
#: Hessian products of 6K²d operations to the accuracy of a proof; other runs take a fifth of them.
_LARGEST = 1e7
_CERTIFIED = "reduced problem, certified by duality"
#: Scalars that only a symmetric solution has.
_SCALARS = ("rho", "tau", "bias_level")


@pytree()
class GlobalMinimum(Shown):
    """The minimum value, a proven lower bound, and one minimiser up to rotation.

    If `tied`, the origin and the simplex ETF have the same value up to rounding. This happens for
    the focal loss at the decay where its minimiser jumps.

    `logits[:, k]` is W h̄_k (without the bias) for class k. `rho`, `tau` and `bias_level` are the
    scalars of the symmetric solution Z = (ρP + (τ/K)11ᵀ)⊗1ᵀ, b = b₀1, NaN if it is not symmetric.
    If `is_exact`, `value` is proven to exceed f* by at most `value − lower_bound`.
    """

    value: float
    lower_bound: float
    is_exact: bool
    logits: Float[np.ndarray, "K K"]
    bias: Float[np.ndarray, " K"] | None
    rho: float
    tau: float
    bias_level: float
    rank: int
    problem: Problem
    reason: str = static(default="")
    tied: bool = static(default=False)

    _printed = ("value", "lower_bound", "is_exact", "kind", "rank", "rho", "reason")

    @property
    def kind(self) -> str:
        """Name the geometry: simplex ETF, orthogonal frame, origin, …"""
        if not self.is_exact:
            return "unknown"
        if self.rank == 0:
            return "origin"
        if np.isnan(self.rho):
            return "imbalanced"
        if self.tau == 0.0:
            return "simplex ETF"
        return (
            "orthogonal frame"
            if np.isclose(self.tau, self.rho, rtol=1e-9, atol=0)
            else "shifted frame"
        )

    def params(self, key: Key[Array, ""] | None, dtype: Any = None) -> Params:
        """Build W, H, b with f = `value`, in a uniformly random orientation.

        Without a key they lie along the first `rank` axes of the features. The point is a minimiser
        if `is_exact`, else the best point found. Raises `ValueError` if there is none (no decay, or
        one that was not computed).
        """
        if not np.isfinite(self.value):
            raise ValueError(f"no minimiser is known: {self.reason}")
        return _factorise(self.problem, self.logits, self.bias, key, self.rank, dtype)


def _factorise(
    problem: Problem,
    table: Float[np.ndarray, "K K"],
    bias: Float[np.ndarray, " K"] | None,
    key: Key[Array, ""] | None,
    rank: int,
    dtype: Any = None,
) -> Params:
    """Factor Z* with the logits `table` into balanced W and H, oriented as in `params`."""
    weights = None if problem.column_weights is None else np.asarray(problem.column_weights)
    sizes = np.bincount(problem.labels, weights)
    U, S, Vt = np.linalg.svd(table * np.sqrt(sizes))
    roots = np.sqrt(S[:rank])
    turn = np.eye(problem.dim, rank)
    if key is not None:
        turn = orthonormal_columns(key, problem.dim, rank)
    balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    W = balance * (U[:, :rank] * roots) @ turn.T
    share = np.sqrt((1.0 if weights is None else weights) / sizes[problem.labels])
    H = (turn @ (roots[:, None] * Vt[:rank]) / balance)[:, problem.labels] * share
    arrays = (
        None if x is None else x.astype(dtype or jnp.result_type(float)) for x in (W, H, bias)
    )
    return Params(*jax.device_put(tuple(arrays)))


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
    return _factorise(problem if into is None else into, *logits, jax.random.key(0), rank)


def _symmetric_logits(
    problem: Problem, scalars: symmetric.SymmetricMinimum
) -> tuple[Float[np.ndarray, "K K"], Float[np.ndarray, " K"] | None]:
    """W h̄_k for every class, and the bias."""
    classes, rho, tau = problem.num_classes, float(scalars.rho), float(scalars.tau)
    bias = np.full(classes, float(scalars.bias_level)) if problem.has_bias else None
    return rho * np.eye(classes) + (tau - rho) / classes, bias


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
        return _nothing(problem, "with lam_w or lam_h = 0 a minimum may not exist")
    if symmetric.supported(problem):
        return _symmetric(problem)
    if problem.loss.is_convex():
        return _solved(problem)
    why = "no lower bound is known for this loss and these class counts"
    return _best_found(problem, _infimum(problem), why)


def _nothing(problem: Problem, reason: str, bound: float | None = None) -> GlobalMinimum:
    classes = problem.num_classes
    blank = np.full((classes, classes), np.nan)
    bias = np.full(classes, np.nan) if problem.has_bias else None
    return GlobalMinimum(
        value=np.nan,
        lower_bound=_infimum(problem) if bound is None else bound,
        is_exact=False,
        logits=blank,
        bias=bias,
        **dict.fromkeys(_SCALARS, np.nan),
        rank=0,
        problem=problem,
        reason=reason,
    )


def _infimum(problem: Problem) -> float:
    """The loss's own lower bound, for problems without a better one."""
    lowest = problem.loss.infimum()
    return -np.inf if lowest is None else lowest


def _symmetric(problem: Problem) -> GlobalMinimum:
    scalars = symmetric.symmetric_minimum(problem)
    rho, tau, level = (float(x) for x in (scalars.rho, scalars.tau, scalars.bias_level))
    table, bias = _symmetric_logits(problem, scalars)
    rank = scalars.rank(problem.num_classes)
    value, bound = float(scalars.value), symmetric.proven_lower_bound(problem)
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
    if not value - bound <= 1e-9 * (1.0 + abs(value)):
        return _not_proven(problem, found)
    if problem.dim >= rank:
        return found
    return _too_few_dimensions(problem, rank, bound)


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


def _solved(problem: Problem) -> GlobalMinimum:
    """Imbalanced or custom, but convex: d = K has no spurious minima, and duality certifies."""
    if problem.num_classes**3 > _LARGEST:
        return _nothing(problem, f"not computed: {_too_many(problem, problem.num_classes)}")
    small = reduced_problem(problem)
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
        return _too_few_dimensions(problem, found.rank, bound)
    return dataclasses.replace(found, lower_bound=bound, reason=_CERTIFIED)


def _too_few_dimensions(problem: Problem, rank: int, bound: float) -> GlobalMinimum:
    why = f"the lower bound is attained only in dimension {rank} or more, and dim={problem.dim}"
    return _best_found(problem, bound, why)


def _too_many(problem: Problem, dim: int) -> str:
    return f"{problem.num_classes} classes in {dim} dimensions would take minutes"


def _best_found(problem: Problem, bound: float, why: str) -> GlobalMinimum:
    """The best of as many runs as take less than a minute."""
    classes, dim = problem.num_classes, min(problem.dim, problem.num_classes)
    tries = min(_TRIES, int(_TRIES * _LARGEST / (classes**2 * dim)))
    if not tries:
        return _nothing(problem, f"{why}; no value was searched: {_too_many(problem, dim)}", bound)
    reason = f"{why}; value is the best found in {tries} run{'s' if tries > 1 else ''}"
    small = reduced_problem(problem, dim)
    starts = [init_params(small, jax.random.key(i)) for i in range(tries)]
    runs = [solve(small, start) for start in starts]
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
    sizes = np.linalg.svd(Z, compute_uv=False)
    # Without σ f changes by less than μσ + Lσ²/(2N), L the largest curvature of the loss. At tiny μ
    # the second term is the larger one.
    curvature = float(small.loss.smoothness()[0]) / float(np.sum(np.asarray(small.column_weights)))
    unseen = _NOTHING * value / float(small.mu()), (_NOTHING * value / curvature) ** 0.5
    rank = int(np.sum(sizes > max(_RANK_CUTOFF * sizes[0], min(unseen))))
    table = Z / np.sqrt(np.asarray(small.column_weights))
    bias = None if params.b is None else np.asarray(params.b)
    return GlobalMinimum(
        value=value,
        lower_bound=value,
        is_exact=True,
        logits=table,
        bias=bias,
        **dict.fromkeys(_SCALARS, np.nan),
        rank=rank,
        problem=problem,
    )
