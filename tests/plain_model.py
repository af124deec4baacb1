"""The model in plain NumPy: the objective from the losses' formulas, one sample at a time."""

import numpy as np

from ufm.losses import MSE, Focal, LabelSmoothing, Loss
from ufm.model.problem import Problem


def plain_loss(loss: Loss, v: np.ndarray, k: int) -> float:
    """L(v, k)."""
    target = np.eye(len(v))[k]
    log_p = v - np.logaddexp.reduce(v)
    match loss:
        case MSE(scale, goal):
            weight = np.where(target > 0, scale, 1.0)
            return 0.5 * np.sum(weight * (v - goal * target) ** 2)
        case Focal(gamma):
            return -((-np.expm1(log_p[k])) ** gamma) * log_p[k]
        case LabelSmoothing(alpha):
            return -np.sum(((1 - alpha) * target + alpha / len(v)) * log_p)
        case _:
            return -log_p[k]


def plain_objective(problem: Problem, params) -> float:
    """f(W, H, b), with column i standing for c_i samples."""
    W, H = np.asarray(params.W), np.asarray(params.H)
    samples = np.ones(H.shape[1])
    if problem.column_weights is not None:
        samples = np.asarray(problem.column_weights)
    V = W @ H / np.sqrt(samples)
    if params.b is not None:
        V = V + np.asarray(params.b)[:, None]
    labels = np.repeat(np.arange(len(W)), problem.class_counts)
    values = [plain_loss(problem.loss, v, k) for v, k in zip(V.T, labels, strict=True)]
    pieces = [(problem.lam_w, W), (problem.lam_h, H), (problem.lam_b, params.b)]
    penalties = [0.5 * lam * np.sum(np.asarray(x) ** 2) for lam, x in pieces if x is not None]
    return float(samples @ values / np.sum(samples) + sum(penalties))
