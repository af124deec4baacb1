r"""Sharpest bounds on the part of a measure below x, from a Lanczos run.

For every x the (m+1)-point rule of the matrix

    T̂ = [T, β_m e_m; β_m e_mᵀ, ω],      ω = x + β_m² e_mᵀ(T − x)^{-1}e_m,

has x as a node and v's moments up to 2m, like v's measure itself (Golub, SIAM Review 15 (1973)).
By Chebyshev, Markov and Stieltjes it bounds that measure (Krein and Nudelman, The Markov Moment
Problem, 1977, chapter 3):

    Σ_{θ̂_k < x} ŵ_k  ≤  measure below x  ≤  measure up to x  ≤  Σ_{θ̂_k ≤ x} ŵ_k,

and no bound from these moments is sharper. The two bounds differ by the weight of x itself,
1/Σ_{k≤m} p_k(x)² with v's orthonormal polynomials p_k. It is tiny if x lies in a gap of the
eigenvalues that the run has resolved, and zero if the run has ended (β_m = 0).
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal

from ufm.hessian.krylov.lanczos import GaussRule


def mass_bounds(rule: GaussRule, x: Float[np.ndarray, " p"]) -> Float[np.ndarray, "2 p"]:
    """Lower and upper bound on v's measure up to x.

    The run is exact for a matrix within `rounding` of A, whose eigenvalues are as close to those of
    A (Weyl). The lower bound is therefore taken at x − rounding, the upper bound at x + rounding.
    """
    slack = np.finfo(float).eps * len(rule.alpha)  # LAPACK's, in weights
    lower = np.array([_cumulative(rule, float(y))[0] for y in x - rule.rounding])
    upper = np.array([_cumulative(rule, float(y))[1] for y in x + rule.rounding])
    return np.clip(np.stack([lower - slack, upper + slack]), 0.0, 1.0)


def _cumulative(rule: GaussRule, x: float) -> tuple[float, float]:
    """The total weights of T̂'s nodes below x, and up to x."""
    alpha, beta = rule.alpha, rule.beta
    if beta[-1] == 0.0:
        theta, S = eigh_tridiagonal(alpha, beta[:-1])
        up_to = float(np.sum(S[0, theta <= x] ** 2))
        return up_to, up_to
    # The number of negative pivots of T − x is the number of eigenvalues below x of T, and of T̂.
    pivot, below, off = np.inf, 0, 0.0
    tiny = np.finfo(float).tiny
    for a, b in zip(alpha, beta, strict=True):
        pivot = a - x - off**2 / pivot
        pivot = pivot if pivot else tiny
        below, off = below + (pivot < 0), b
    last = x + off * (off / pivot)
    if not np.isfinite(last):  # x is a node of T itself
        last = np.copysign(np.finfo(float).max ** 0.25, last)
    _, S = eigh_tridiagonal(np.append(alpha, last), beta)
    total = np.concatenate([[0.0], np.cumsum(S[0] ** 2)])
    return float(total[below]), float(total[below + 1])


def mass_beyond(rule: GaussRule, x: float, sign: int) -> float:
    """Bound the part of v's measure at or above an x above all nodes; for sign −1, below.

    The recurrence of p_k, whose terms all have the same sign there, is evaluated in logarithms.
    """
    if rule.beta[-1] == 0.0:
        return 0.0
    pivot, off, logarithm, total = np.inf, 0.0, 0.0, 1.0
    for a, b in zip(rule.alpha, rule.beta, strict=True):
        pivot = sign * (x - a) - off**2 / pivot
        if not pivot > 0:
            return 1.0
        logarithm += np.log(pivot / b)
        total, off = total + np.exp(min(2.0 * logarithm, 600.0)), b
    return float(1.0 / total)
