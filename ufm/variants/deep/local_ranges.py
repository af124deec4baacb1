r"""The decays at which a structure is a local minimum of a deep linear model.

Among factors with the product Z the balanced ones are lowest, modulo rotations, and they give
φ(Z) = g(Z) + Σ h(s_i), h' = e s^{p−1}. For M ≥ 3 a further singular value adds to h without bound,
so that a point of rank r is a strict local minimum if φ is one among tables of rank r. With full
bases U and V of Z, tangents U X Vᵀ have X_kl = 0 for k, l > r. At a critical point, G = ∇g,

    φ'' = ⟨UXVᵀ, ∇²g UXVᵀ⟩ + Σ_{i<j≤r} ½ [a_ij (X_ij + X_ji)² + b_ij (X_ij − X_ji)²]
        + Σ_{i≤r} h''_i X_ii² + Σ_{i≤r<k} (h'_i/s_i) (X_ki² + X_ik²)
        + 2 Σ_{i≤r<k,l} (UᵀGV)_kl X_ki X_il/s_i,

a_ij = (h'_i − h'_j)/(s_i − s_j) and b_ij = (h'_i + h'_j)/(s_i + s_j). No rotation is left, and the
number of negative eigenvalues is that of the Hessian of f. Samples of a class add deviations from
their mean, with the eigenvalues of λ_H I + W̃ᵀSW̃ > 0: one column for each class decides.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ufm._support.roots import root
from ufm._support.threads import one_blas_thread
from ufm.minimum.structures import Structure, TableLoss
from ufm.variants.deep.rays import LOG_SIZES, ray

#: An eigenvalue is positive beyond this fraction of the largest one: rounding of LAPACK.
_ROUNDING = 1e-11

#: Intervals (from, to), ascending.
Ranges = tuple[tuple[float, float], ...]


def _slope_and_curvature(
    loss: TableLoss, Z: Float[np.ndarray, "K K"]
) -> tuple[np.ndarray, np.ndarray]:
    """G and ∇²g of each column, (K, K, K), for CE and LS, without differences of numbers near 1."""
    K, alpha = loss.num_classes, float(getattr(loss.loss, "alpha", 0.0))
    weights = np.exp(Z - Z.max(axis=0))
    p, own = weights / weights.sum(axis=0), np.arange(K)
    missing = np.sum(np.where(np.eye(K) > 0, 0.0, p), axis=0)  # 1 − p_k
    G = p - alpha / K
    G[own, own] = alpha * (1 - 1 / K) - missing
    S = np.einsum("ik,ij->kij", p, np.eye(K)) - np.einsum("ik,jk->kij", p, p)
    S[own, own, own] = np.diag(p) * missing
    return G / K, S / K


def rank_hessian(
    Z: Float[np.ndarray, "K K"], rank: int, loss: TableLoss, factors: int, decay: float
) -> Float[np.ndarray, "t t"]:
    """φ'' on the t = r(2K − r) tangents X of tables of rank r, at a critical point of decay e."""
    K, p = len(Z), 2 / factors
    G, S = _slope_and_curvature(loss, Z)
    U, s, Vt = np.linalg.svd(Z)
    s, used, rest = s[:rank], np.arange(rank), np.arange(rank, K)
    slope = decay * s ** (p - 1)
    # ((s_i/s_j)^{p−1} − 1)/(s_i/s_j − 1), also for equal ones.
    x = np.log(s[:, None] / s)
    same = x == 0
    ratio = np.expm1((p - 1) * x) / np.where(same, 1.0, np.expm1(x))
    a = decay * s ** (p - 2) * np.where(same, p - 1, ratio)
    b = (slope[:, None] + slope) / (s[:, None] + s)
    Q = np.einsum("mk,kij,nk->imjn", Vt, U.T @ S @ U, Vt, optimize=True)
    i, j = np.indices((rank, rank))
    Q[i, j, i, j] += 0.5 * (a + b)
    Q[i, j, j, i] += 0.5 * (a - b)
    k, i = np.meshgrid(rest, used, indexing="ij")
    Q[k, i, k, i] += slope[i] / s[i]
    Q[i, k, i, k] += slope[i] / s[i]
    k, m, i = np.meshgrid(rest, rest, used, indexing="ij")
    cross = (U.T @ G @ Vt.T)[k, m] / s[i]
    Q[k, i, i, m] += cross
    Q[i, m, k, i] += cross
    tangent = ((np.indices((K, K)) < rank).any(axis=0)).ravel()
    return Q.reshape(K * K, K * K)[np.ix_(tangent, tangent)]


def excess(
    Z: Float[np.ndarray, "K K"], rank: int, loss: TableLoss, factors: int, decay: float
) -> float:
    """Positive where φ is a minimum beyond rounding: λ_min/|λ|_max less its rounding."""
    values = np.linalg.eigvalsh(rank_hessian(Z, rank, loss, factors, decay))
    return float(values[0] / np.max(np.abs(values))) - _ROUNDING


def positive(function: Callable[[Any], float], grid: np.ndarray, values: np.ndarray) -> Ranges:
    """Where a function is positive between the ends of a grid, given its values there."""
    inside = values > 0
    edges = [root(function, *grid[k : k + 2]) for k in np.flatnonzero(inside[1:] != inside[:-1])]
    first, last = [grid[0]] * int(inside[0]), [grid[-1]] * int(inside[-1])
    ends = [float(x) for x in (*first, *edges, *last)]
    return tuple(zip(ends[::2], ends[1::2], strict=True))


@one_blas_thread()
def local_ranges_of_ray(
    structure: Structure, loss: TableLoss, factors: int, low: float, high: float
) -> Ranges:
    """The decays from `low` to `high` at which a ray is a local minimum, to 1e-9 of them."""
    T, critical = structure.patterns[0], ray(structure, loss, factors).critical
    decays = critical(LOG_SIZES)
    # Before its largest decay the ray is a barrier, and φ'' < 0 along it.
    top = max(int(np.argmax(decays)) - 1, 0)
    end = top + int(np.argmax(np.append(decays[top:] < low, True))) + 1
    sizes = LOG_SIZES[top:end]

    def at(x: Any) -> float:
        e = float(critical(x))
        return excess(np.exp(x) * T, structure.rank, loss, factors, e) if e > 0 else -1.0

    found = positive(at, sizes, np.array([at(x) for x in sizes]))
    ranges = [(float(critical(x)), float(critical(y))) for y, x in reversed(found)]
    return tuple((max(x, low), min(y, high)) for x, y in ranges if y > low and x < high)
