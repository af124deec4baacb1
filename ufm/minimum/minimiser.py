"""What is known of the global minimum: value, proven bound, and one minimiser up to rotation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.collapse.metrics import orthonormal_columns
from ufm.model.problem import Params, Problem

#: Singular values of logits below this fraction of the largest are rounding.
_ROUNDING = 1e-13
#: A bound proves a value within the first fraction of 1 + |f|, but at most the second one of
#: f − inf L: at tiny decays all critical points are as close to inf L.
PROVEN, _OF_EXCESS = 1e-9, 1e-3


@pytree()
class GlobalMinimum(Shown):
    """The minimum value, a proven lower bound, and one minimiser up to rotation.

    If `tied`, there are others that no rotation leads to: the origin and the simplex ETF, for the
    focal loss at the decay where its minimiser jumps; or with fewer dimensions than K − 1 copies
    with other names of the classes.

    `logits[:, k]` is W h̄_k (without the bias) for class k, or group k of samples with a target.
    `rho`, `tau` and `bias_level` are the
    scalars of the symmetric solution Z = (ρP + (τ/K)11ᵀ)⊗1ᵀ, b = b₀1, NaN if it is not symmetric.
    If `is_exact`, `value` is proven to exceed f* by at most `value − lower_bound`.
    """

    value: float
    lower_bound: float
    is_exact: bool
    logits: Float[np.ndarray, "K m"]
    bias: Float[np.ndarray, " K"] | None
    rank: int
    problem: Problem
    rho: float = np.nan
    tau: float = np.nan
    bias_level: float = np.nan
    reason: str = static(default="")
    tied: bool = static(default=False)

    _printed = ("value", "lower_bound", "is_exact", "kind", "rank", "rho", "reason")

    @property
    def place(self) -> str:
        """Say for results at this point which point it is."""
        if self.is_exact:
            return "at the minimum"
        return f"at the best point found, which is not proven minimal: {self.reason}"

    @property
    def kind(self) -> str:
        """Name the geometry: simplex ETF, orthogonal frame, origin, …"""
        if not self.is_exact:
            return "unknown"
        if self.rank == 0:
            return "origin"
        if np.isnan(self.rho):
            if self.tied:
                return f"rank {self.rank}"
            return "imbalanced" if self.problem.loss.equivariant else "asymmetric"
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
        return factorise(self.problem, self.logits, self.bias, key, self.rank, dtype)


def factorise(
    problem: Problem,
    table: Float[np.ndarray, "K m"],
    bias: Float[np.ndarray, " K"] | None,
    key: Key[Array, ""] | None,
    rank: int,
    dtype: Any = None,
) -> Params:
    """Factor Z* with the logits `table` into balanced W and H, oriented as in `params`."""
    left, right = least_factors(problem, table)
    turn = np.eye(problem.dim, rank)
    if key is not None:
        turn = orthonormal_columns(key, problem.dim, rank)
    return point_of(problem, left[:, :rank] @ turn.T, turn @ right[:rank], bias, dtype)


def point_of(
    problem: Problem,
    W: Float[np.ndarray, "K d"],
    means: Float[np.ndarray, "d m"],
    bias: Float[np.ndarray, " K"] | None,
    dtype: Any = None,
) -> Params:
    """The point with this W and bias, and with features equal in each class, from √n_k h̄_k."""
    weights = None if problem.column_weights is None else np.asarray(problem.column_weights)
    sizes = np.bincount(problem.labels, weights)
    H = means[:, problem.labels] * np.sqrt(
        (1.0 if weights is None else weights) / sizes[problem.labels]
    )
    arrays = (
        None if x is None else np.asarray(x, dtype or jnp.result_type(float)) for x in (W, H, bias)
    )
    return Params(*jax.device_put(tuple(arrays)))


def least_factors(
    problem: Problem, logits: Float[np.ndarray, "K m"]
) -> tuple[Float[np.ndarray, "K r"], Float[np.ndarray, "r m"]]:
    """The W and Ĥ of least decay with the logits Z̄ of the classes, r = min(K, m).

    With Z̄ diag(√n_k) = U S Vᵀ: W = (λ_H/λ_W)^¼ U S^½ and Ĥ = (λ_W/λ_H)^¼ S^½ Vᵀ, whose columns are
    √n_k h̄_k, so that WWᵀ ∝ (Z̄DZ̄ᵀ)^½ and H̄ᵀH̄ ∝ D^{−½}(D^½Z̄ᵀZ̄D^½)^½D^{−½}, D = diag(n_k).
    """
    weights = None if problem.column_weights is None else np.asarray(problem.column_weights)
    roots = np.sqrt(np.bincount(problem.labels, weights))
    U, S, Vt = np.linalg.svd(logits * roots, full_matrices=False)
    sizes = np.sqrt(np.where(_ROUNDING * S[0] < S, S, 0.0))
    balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    return balance * U * sizes, sizes[:, None] * Vt / balance


def nothing_known(problem: Problem, reason: str, bound: float | None = None) -> GlobalMinimum:
    blank = np.full((problem.num_outputs, problem.num_classes), np.nan)
    bias = np.full(problem.num_outputs, np.nan) if problem.has_bias else None
    return GlobalMinimum(
        value=np.nan,
        lower_bound=infimum_of(problem) if bound is None else bound,
        is_exact=False,
        logits=blank,
        bias=bias,
        rank=0,
        problem=problem,
        reason=reason,
    )


def largest_gap(value: float, lowest: float) -> float:
    """The largest distance of a lower bound that proves a value of f; `lowest` is inf L."""
    return min(PROVEN * (1.0 + abs(value)), _OF_EXCESS * (value - lowest))


def is_proven(value: float, bound: float, lowest: float, rounding: float = 0.0) -> bool:
    """Whether a lower bound, which allows for `rounding`, proves a value; `lowest` is inf L."""
    return value - bound <= max(largest_gap(value, lowest), 2.0 * rounding)


def infimum_of(problem: Problem) -> float:
    """The loss's own lower bound, for problems without a better one."""
    lowest = problem.loss.infimum()
    return -np.inf if lowest is None else lowest
