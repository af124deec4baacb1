"""The objective, its gradient and its dense Hessian in NumPy, straight from the definitions.

Shares no code with the library: losses and their derivatives come from `loss_oracle` at 50 digits,
and the Hessian is assembled entry by entry in the order (W row by row, H row by row, b).
"""

import functools

import loss_oracle
import numpy as np
from mpmath import mp


def family(loss) -> tuple[str, tuple[float, ...]]:
    """A loss's name in `loss_oracle`, and its hyperparameters."""
    name = type(loss).__name__
    short = {"CrossEntropy": "CE", "LabelSmoothing": "LS", "Focal": "FL", "MSE": "MSE"}
    short = (short | {"BinaryCrossEntropy": "BCE"})[name]
    fields = {"LS": ("alpha",), "FL": ("gamma",), "MSE": ("scale", "target")}.get(short, ())
    return short, tuple(float(getattr(loss, field)) for field in fields)


@functools.lru_cache(maxsize=4096)
def evaluated(name: str, hyper: tuple, logits: tuple, label: int) -> loss_oracle.Exact:
    """The loss with its derivatives, once for equal samples: 50 digits take their time."""
    return loss_oracle.evaluate(name, tuple(map(mp.mpf, hyper)), loss_oracle.numbers(logits), label)


def columns(problem, params):
    """Per column: ω_i, 1/√c_i, and the loss with its derivatives at v_i."""
    W, H = np.asarray(params.W, float), np.asarray(params.H, float)
    count = H.shape[1]
    weights = problem.column_weights
    c = np.ones(count) if weights is None else np.asarray(weights, float)
    bias = np.zeros(len(W)) if params.b is None else np.asarray(params.b, float)
    labels = np.repeat(np.arange(len(problem.class_counts)), problem.class_counts)
    name, hyper = family(problem.loss)
    for i in range(count):
        v = W @ H[:, i] / np.sqrt(c[i]) + bias
        exact = evaluated(name, hyper, tuple(v.tolist()), int(labels[i]))
        yield c[i] / c.sum(), 1 / np.sqrt(c[i]), exact


def objective_and_gradient(problem, params) -> tuple[float, np.ndarray]:
    """f, and ∇f as one vector."""
    W, H = np.asarray(params.W, float), np.asarray(params.H, float)
    lam_w, lam_h = float(problem.lam_w), float(problem.lam_h)
    lam_b = 0.0 if problem.lam_b is None else float(problem.lam_b)
    b = np.zeros(len(W)) if params.b is None else np.asarray(params.b, float)
    value = (lam_w * (W**2).sum() + lam_h * (H**2).sum() + lam_b * (b**2).sum()) / 2
    grad_w, grad_h, grad_b = lam_w * W, lam_h * H, lam_b * b
    for i, (omega, root, exact) in enumerate(columns(problem, params)):
        g = omega * exact.gradient.astype(float)
        value += omega * float(exact.value)
        grad_w = grad_w + root * np.outer(g, H[:, i])
        grad_h[:, i] += root * (W.T @ g)
        grad_b = grad_b + g
    parts = [grad_w.ravel(), grad_h.ravel()] + ([] if params.b is None else [grad_b])
    return value, np.concatenate(parts)


def dense_hessian(problem, params) -> np.ndarray:
    """∇²f as a matrix."""
    W, H = np.asarray(params.W, float), np.asarray(params.H, float)
    (K, d), N = W.shape, H.shape[1]
    size_b = 0 if params.b is None else K
    lam_b = 0.0 if problem.lam_b is None else float(problem.lam_b)
    decays = [float(problem.lam_w)] * (K * d) + [float(problem.lam_h)] * (d * N) + [lam_b] * size_b
    hessian = np.diag(decays)
    for i, (omega, root, exact) in enumerate(columns(problem, params)):
        jacobian = np.zeros((K, len(decays)))
        of_h = K * d + N * np.arange(d) + i
        for k in range(K):
            jacobian[k, k * d : (k + 1) * d] = root * H[:, i]
        jacobian[:, of_h] = root * W
        if size_b:
            jacobian[:, -K:] = np.eye(K)
        hessian += omega * jacobian.T @ exact.hessian.astype(float) @ jacobian
        g = omega * root * exact.gradient.astype(float)
        for k in range(K):
            of_w = np.arange(k * d, (k + 1) * d)
            hessian[of_w, of_h] += g[k]
            hessian[of_h, of_w] += g[k]
    return hessian
