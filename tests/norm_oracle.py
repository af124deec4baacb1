"""f on norm sets in NumPy, random feasible points, and f* by semidefinite programming.

Nothing here calls the library: a problem is read as data. In d dimensions as many as W and the
class means can use, f* is the minimum over Z̄ = W H̄ with

    X = [[A, Z̄], [Z̄ᵀ, B]] ⪰ 0,   A = WWᵀ,   B = H̄ᵀH̄,

where norms are bounds on the diagonals of A and B, and decays are linear in them.
"""

import warnings

import jax.numpy as jnp
import numpy as np
from plain_model import plain_loss

from ufm import MSE, Ball, Budget, LabelSmoothing, Params, Problem, Sphere

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp


def temperature(problem: Problem) -> float:
    return 1.0 if problem.temperature is None else float(problem.temperature)


def value(problem: Problem, params) -> float:
    """f(W, H, b), one sample at a time, with unweighted columns."""
    W, H = np.asarray(params.W), np.asarray(params.H)
    V = W @ H / temperature(problem)
    if params.b is not None:
        V = V + np.asarray(params.b)[:, None]
    labels = np.repeat(np.arange(len(problem.class_counts)), problem.class_counts)
    losses = [plain_loss(problem.loss, v, k) for v, k in zip(V.T, labels, strict=True)]
    pieces = [(problem.lam_w, W), (problem.lam_h, H), (problem.lam_b, params.b)]
    decays = [0.5 * lam * np.sum(np.asarray(x) ** 2) for lam, x in pieces if lam]
    return float(np.mean(losses) + sum(decays))


def random_point(problem: Problem, rng) -> Params:
    """A feasible point: spheres exactly, balls and budgets in their interior or on the boundary."""

    def inside(x, given, axis):
        share = rng.uniform(0.2, 1.0) if rng.random() < 0.5 else 1.0
        sizes = np.linalg.norm(x, axis=axis, keepdims=True)
        match given:
            case Sphere(radius):
                return x * radius / sizes
            case Ball(radius):
                return x * radius * share / sizes
            case Budget(mean_square):
                total = mean_square * x.shape[1 - axis]
                return x * share * np.sqrt(total) / np.linalg.norm(x)
            case None:
                return x * rng.uniform(0.1, 3.0)
            case _:
                return np.asarray(given.matrix)

    W = rng.standard_normal((problem.num_outputs, problem.dim))
    H = rng.standard_normal((problem.dim, problem.num_columns))
    if rng.random() < 0.5:  # near collapse
        H = 0.1 * H + W.T[:, problem.labels]
    b = rng.standard_normal(len(W)) if problem.has_bias else None
    W, H = inside(W, problem.classifier, 1), inside(H, problem.features, 0)
    return Params(jnp.asarray(W), jnp.asarray(H), None if b is None else jnp.asarray(b))


def hull_minimum(problem: Problem) -> float:
    """f* of CE, LS or MSE, to about 1e-8."""
    K, loss = problem.num_outputs, problem.loss
    counts = np.array(problem.class_counts, float)
    share = counts / counts.sum()
    X = cp.Variable((2 * K, 2 * K), PSD=True)
    V = X[:K, K:] / temperature(problem)
    cost, constraints = 0, []
    if problem.lam_b is not None:
        b = cp.Variable((K, 1))
        V = V + b @ np.ones((1, K))
        cost += float(problem.lam_b) / 2 * cp.sum_squares(b)
    if isinstance(loss, MSE):
        cost += 0.5 * cp.sum(cp.multiply(share[None, :], cp.square(V - np.eye(K))))
    else:
        alpha = float(loss.alpha) if isinstance(loss, LabelSmoothing) else 0.0
        soft = (1 - alpha) * np.eye(K) + alpha / K
        cost += cp.sum(cp.multiply(share, cp.log_sum_exp(V, axis=0)))
        cost -= cp.sum(cp.multiply(soft * share, V))
    sides = (
        (problem.classifier, problem.lam_w, cp.diag(X[:K, :K]), np.ones(K)),
        (problem.features, problem.lam_h, cp.diag(X[K:, K:]), counts),
    )
    for given, decay, squares, weights in sides:
        match given:
            case Sphere(radius) | Ball(radius):
                constraints.append(squares <= radius**2)
            case Budget(mean_square):
                constraints.append(weights @ squares <= mean_square * weights.sum())
            case _:
                cost += float(decay) / 2 * (weights @ squares)
    program = cp.Problem(cp.Minimize(cost), constraints)
    with warnings.catch_warnings():
        # Reduced accuracy is a warning there; the tolerance of the tests allows for it.
        warnings.simplefilter("ignore")
        program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(program.value)
