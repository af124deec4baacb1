"""Independent oracles for H ≥ 0: a completely positive program, formulas, and points at random.

For K ≤ 4 columns the penalty γ(Z) is ½ tr X at least, X = [[A, Z], [Zᵀ, B]] ⪰ 0 with B ≥ 0 entry by
entry, because such B are completely positive; so

    f* = min_{Z, b} g(Z + b1ᵀ) + μ γ(Z) + λ_b/2 ‖b‖²

is a program for an interior-point solver. Nothing here calls the library.
"""

import math
import warnings

import jax.numpy as jnp
import numpy as np
from convex_oracle import _cone_loss
from scipy.optimize import brentq

from ufm import NonNegative, Params, Problem

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp


def make(loss, counts, dim, mu, lam_b=None, ratio=1.0, **more) -> Problem:
    """A problem with H ≥ 0 and √(λ_W λ_H) = mu, λ_W/λ_H = ratio²."""
    return Problem(
        loss=loss,
        class_counts=counts,
        dim=dim,
        lam_w=mu * ratio,
        lam_h=mu / ratio,
        lam_b=lam_b,
        features=NonNegative(),
        **more,
    )


def completely_positive_minimum(problem: Problem) -> float:
    """f* of a CE, LS or MSE problem with K ≤ 4, to about 1e-8."""
    counts = np.array(problem.class_counts, float)
    K, mu = len(counts), float(np.sqrt(float(problem.lam_w) * float(problem.lam_h)))
    X = cp.Variable((2 * K, 2 * K), PSD=True)
    Z, B = X[:K, K:], X[K:, K:]
    V = cp.multiply(Z, np.tile(1 / np.sqrt(counts), (K, 1)))
    b = None if problem.lam_b is None else cp.Variable(K)
    if b is not None:
        V = V + cp.reshape(b, (K, 1), order="C") @ np.ones((1, K))
    cost = _cone_loss(problem.loss, V, np.arange(K), counts) + mu / 2 * cp.trace(X)
    if problem.lam_b:
        cost += float(problem.lam_b) / 2 * cp.sum_squares(b)
    with warnings.catch_warnings():
        # Reduced accuracy is a warning there; the tests' tolerance allows for it.
        warnings.simplefilter("ignore")
        found = cp.Problem(cp.Minimize(cost), [B >= 0])
        found.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return float(found.value)


def softmax_frame(K: int, n: int, mu: float, alpha: float = 0.0) -> tuple[float, float]:
    """(f*, ρ) of CE or LS and balanced classes: min_s φ(s) + μ√n √(K(K−1)) s, by its derivative."""
    c = mu * math.sqrt(n * K * (K - 1))
    on = 1 - alpha + alpha / K
    if c >= (1 - alpha) * (K - 1) / K:
        return math.log(K), 0.0
    p = on - c  # φ' = p − on
    rho = math.log((K - 1) * p / (1 - p))
    return -math.log(p) + (1 - on) * rho + c * rho, rho


def squared_frame(K: int, n: int, mu: float, lam_b: float | None) -> tuple[float, float, float]:
    """(f*, ρ, τ) of MSE and balanced classes, by the root of one equation."""
    bend = 1.0 if lam_b is None else lam_b / (1 + lam_b)
    m = mu * math.sqrt(n * K) * K

    def rates(x):
        rho, tau = 1 / (1 + x), bend / (bend + x) if bend else 0.0
        return rho, tau, (K - 1) * (x * rho) ** 2 + (x * tau) ** 2

    if m**2 >= K - 1 + bend**2:
        return (K - 1 + bend) / (2 * K), 0.0, 0.0
    x = brentq(lambda x: rates(x)[2] - m**2, 0.0, 1e6, xtol=1e-16, rtol=1e-15)
    rho, tau, _ = rates(x)
    penalty = mu * math.sqrt(n * K) * math.sqrt((K - 1) * rho**2 + tau**2)
    return ((K - 1) * (1 - rho) ** 2 + bend * (1 - tau) ** 2) / (2 * K) + penalty, rho, tau


def feasible(problem: Problem, seed: int, scale: float) -> Params:
    """Gaussian W and b, H the positive part of Gaussians or of moduli that are often 0."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((problem.dim, problem.num_columns))
    H = np.maximum(H, 0.0) if seed % 2 else np.abs(H) * (rng.random(H.shape) < 0.5)
    W = rng.standard_normal((problem.num_outputs, problem.dim))
    b = rng.standard_normal(problem.num_outputs) if problem.has_bias else None
    arrays = (None if x is None else jnp.asarray(scale * x) for x in (W, H, b))
    return Params(*arrays)


def nearby(params: Params, seed: int, relative: float) -> Params:
    """Noise relative to the largest entry of each array, H clipped at 0."""
    rng = np.random.default_rng(seed)

    def noisy(x):
        x = np.asarray(x)
        return x + relative * rng.standard_normal(x.shape) * (np.max(np.abs(x)) + 1e-3)

    b = None if params.b is None else jnp.asarray(noisy(params.b))
    return Params(jnp.asarray(noisy(params.W)), jnp.asarray(np.maximum(noisy(params.H), 0)), b)


def largest_on_faces(A: np.ndarray) -> float:
    """max √(vᵀAv) over v ≥ 0, ‖v‖ = 1: by power steps from every face, run until they stop."""
    n = len(A)
    faces = np.arange(1, 2**n)[:, None] >> np.arange(n) & 1
    V = np.repeat(faces, 8, axis=0) * (np.random.default_rng(0).random((8 * len(faces), n)) + 1e-2)
    for _ in range(2000):
        V = np.maximum(V @ A, 0.0)
        V /= np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-300)
    return math.sqrt(max(0.0, float(np.max(np.einsum("ij,jk,ik->i", V, A, V)))))
