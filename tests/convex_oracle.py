r"""Independent oracles for f and f*: longdouble arithmetic, a convex solver, and a scalar scan.

Nothing here calls the library: a problem is read as data, the formulas are written out again.

The minimum over all factorisations of any rank is the convex problem

    f* = min_{Z, b} (1/N) Σ_i L(z_i + b, y_i) + √(λ_W λ_H) ‖Z‖_* + λ_b/2 ‖b‖²,

which CVXPY hands to an interior-point solver as a cone program.
"""

import functools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from model_oracle import dense_hessian, objective_and_gradient

from ufm import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
)

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp

Wide = np.longdouble


class ConvexMinimum(NamedTuple):
    """f* by a convex solver.

    `value` is f evaluated in longdouble at the solver's (Z, b), so it is never below f*, and it
    exceeds f* by no more than `accuracy`: 1e-8 (1 + f*), where 2e-9 is the most that was measured
    over a hundred such problems (against critical points with ‖∇f‖ = 1e-13).
    """

    value: float
    accuracy: float
    Z: np.ndarray
    b: np.ndarray | None


def sample_counts(problem: Problem) -> np.ndarray:
    """Samples that each column stands for."""
    if problem.column_weights is None:
        return np.ones(problem.num_columns)
    return np.asarray(problem.column_weights, dtype=float)


def sample_loss(loss, z: np.ndarray, label: int) -> Wide:
    """L(z, k) in longdouble."""
    z = np.asarray(z, dtype=Wide)
    if isinstance(loss, MSE):
        weights = np.ones(len(z), dtype=Wide)
        weights[label] = Wide(float(loss.scale))
        target = np.zeros(len(z), dtype=Wide)
        target[label] = Wide(float(loss.target))
        return np.sum(weights * (z - target) ** 2) / 2
    if isinstance(loss, BinaryCrossEntropy):
        signed = np.where(np.arange(len(z)) == label, -z, z)
        return np.sum(np.logaddexp(Wide(0.0), signed))
    others = np.delete(z, label) - z[label]
    top = np.max(others)
    t = top + np.log(np.sum(np.exp(others - top)))
    entropy = np.log1p(np.exp(t)) if t < 0 else t + np.log1p(np.exp(-t))
    if isinstance(loss, LabelSmoothing):
        return entropy - Wide(float(loss.alpha)) / len(z) * np.sum(others)
    if isinstance(loss, Focal):
        # 1 − p_k = exp(t − ℓ).
        return np.exp(Wide(float(loss.gamma)) * (t - entropy)) * entropy
    assert isinstance(loss, CrossEntropy | CustomLoss)  # the tests' custom loss is CE
    return entropy


def wide_objective(problem: Problem, params: Params) -> Wide:
    """f(W, H, b) in longdouble, at exactly the given floating-point numbers."""
    W, H = (np.asarray(x).astype(Wide) for x in (params.W, params.H))
    counts = sample_counts(problem).astype(Wide)
    V = W @ H / np.sqrt(counts)
    penalty = Wide(float(problem.lam_w)) * np.sum(W**2) + Wide(float(problem.lam_h)) * np.sum(H**2)
    if params.b is not None:
        b = np.asarray(params.b).astype(Wide)
        V = V + b[:, None]
        penalty += Wide(float(problem.lam_b)) * np.sum(b**2)
    losses = [sample_loss(problem.loss, V[:, i], k) for i, k in enumerate(problem.labels)]
    return np.sum(counts * np.array(losses)) / np.sum(counts) + penalty / 2


def _cone_loss(loss, V, labels, counts):
    """(1/N) Σ L(v_i, y_i) as a CVXPY expression."""
    classes, share = V.shape[0], counts / counts.sum()
    one_hot = np.eye(classes)[labels].T
    if isinstance(loss, MSE):
        scale, target = float(loss.scale), float(loss.target)
        weights = share * np.where(one_hot > 0, scale, 1.0)
        return 0.5 * cp.sum(cp.multiply(weights, cp.square(V - target * one_hot)))
    alpha = float(loss.alpha) if isinstance(loss, LabelSmoothing) else 0.0
    soft = (1 - alpha) * one_hot + alpha / classes
    return cp.sum(cp.multiply(share, cp.log_sum_exp(V, axis=0))) - cp.sum(
        cp.multiply(soft * share, V)
    )


def convex_minimum(problem: Problem) -> ConvexMinimum:
    """f* of a CE, LS or MSE problem with K ≤ 5 and N ≤ 12, by an interior-point method."""
    weights = tuple(sample_counts(problem))
    lam_b = None if problem.lam_b is None else float(problem.lam_b)
    mu = float(np.sqrt(float(problem.lam_w) * float(problem.lam_h)))
    return _convex_minimum(problem.loss, tuple(problem.labels), weights, mu, lam_b)


@functools.cache
def _convex_minimum(loss, labels, weights, mu, lam_b) -> ConvexMinimum:
    labels, counts = np.array(labels), np.array(weights)
    Z = cp.Variable((labels.max() + 1, len(labels)))
    b = None if lam_b is None else cp.Variable(Z.shape[0])
    V = cp.multiply(Z, np.tile(1 / np.sqrt(counts), (Z.shape[0], 1)))
    if b is not None:
        V = V + cp.reshape(b, (Z.shape[0], 1), order="C") @ np.ones((1, len(labels)))
    cost = _cone_loss(loss, V, labels, counts) + mu * cp.normNuc(Z)
    if lam_b:
        cost += lam_b / 2 * cp.sum_squares(b)
    with warnings.catch_warnings():
        # Reduced accuracy is a warning there; here `accuracy` says how much it is.
        warnings.simplefilter("ignore")
        cp.Problem(cp.Minimize(cost)).solve(
            solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
        )
    shift = None if b is None else np.asarray(b.value)
    value = float(wide_convex_objective(loss, labels, counts, mu, lam_b, Z.value, shift))
    return ConvexMinimum(value, 1e-8 * (1.0 + abs(value)), np.asarray(Z.value), shift)


def minimiser(problem: Problem) -> Params:
    """A factorisation of the oracle's Z, brought to ‖∇f‖ ≈ 1e-15 by Newton's method; d ≥ rank Z."""
    found = convex_minimum(problem)
    left, sizes, right = np.linalg.svd(found.Z, full_matrices=False)
    rank = min(int(np.sum(sizes > 1e-4)), problem.dim)
    balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    W, H = np.zeros((len(left), problem.dim)), np.zeros((problem.dim, found.Z.shape[1]))
    W[:, :rank] = balance * left[:, :rank] * np.sqrt(sizes[:rank])
    H[:rank] = np.sqrt(sizes[:rank])[:, None] * right[:rank] / balance
    return newton(problem, Params(*jax.device_put((W, H, found.b))))


def newton(problem: Problem, point: Params, steps: int = 4) -> Params:
    """Newton's method from nearby, for minima and saddles alike; rotations stay as they are."""
    for _ in range(steps):
        _, gradient = objective_and_gradient(problem, point)
        step = -np.linalg.lstsq(dense_hessian(problem, point), gradient, rcond=1e-9)[0]
        in_w, in_h = point.W.size, point.W.size + point.H.size
        W = np.asarray(point.W) + step[:in_w].reshape(point.W.shape)
        H = np.asarray(point.H) + step[in_w:in_h].reshape(point.H.shape)
        b = None if point.b is None else jnp.asarray(np.asarray(point.b) + step[in_h:])
        point = Params(jnp.asarray(W), jnp.asarray(H), b)
    return point


def wide_convex_objective(loss, labels, counts, mu, lam_b, Z, b) -> Wide:
    """g(Z + b1ᵀ) + μ‖Z‖_* + λ_b/2 ‖b‖², the loss in longdouble."""
    V = Z.astype(Wide) / np.sqrt(counts.astype(Wide))
    total = Wide(mu) * np.sum(np.linalg.svd(Z, compute_uv=False).astype(Wide))
    if b is not None:
        V = V + b.astype(Wide)[:, None]
        total += Wide(lam_b) / 2 * np.sum(b.astype(Wide) ** 2)
    losses = np.array([sample_loss(loss, V[:, i], k) for i, k in enumerate(labels)])
    return total + np.sum(counts * losses) / np.sum(counts)


def scanned_minimum(loss, num_classes: int, per_class: int, mu: float) -> tuple[float, float]:
    """(f*, ρ*) of a balanced CE, LS or FL problem: min_s φ(s) + μ √n (K−1) |s| on a fine grid.

    The best point's neighbourhood is scanned again, until it is as narrow as rounding.
    """
    slope = mu * per_class**0.5 * (num_classes - 1)

    def cost(s: float) -> float:
        z = np.zeros(num_classes)
        z[0] = s
        return float(sample_loss(loss, z, 0)) + slope * abs(s)

    low, high = 0.0, 60.0
    for points in [1201] + [21] * 15:
        grid = np.linspace(low, high, points)
        best = int(np.argmin([cost(s) for s in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, points - 1)]
    return cost(0.5 * (low + high)), 0.5 * (low + high)
