"""A last layer measured by NumPy alone, with nothing compressed: formulas as in THEORY, dense."""

import numpy as np


def gradient(loss, V, labels):
    """∇g(V) for "ce" or "mse" (targets 15), and g(V)."""
    classes, samples = V.shape
    one_hot = np.eye(classes)[:, labels]
    if loss == "ce":
        p = np.exp(V - V.max(axis=0))
        p /= p.sum(axis=0)
        return (p - one_hot) / samples, -np.mean(np.log(p[labels, np.arange(samples)]))
    return (V - 15 * one_hot) / samples, 0.5 * np.sum((V - 15 * one_hot) ** 2) / samples


def collapse(W, H, labels):
    """NC1, NC2, NC3 and the within/between ratio."""
    classes = len(W)
    means = np.stack([H[:, labels == k].mean(axis=1) for k in range(classes)], axis=1)
    centred = means - H.mean(axis=1, keepdims=True)
    deviations = H - means[:, labels]
    within, between = deviations @ deviations.T / H.shape[1], centred @ centred.T / classes
    P = np.eye(classes) - 1 / classes
    gram, cross = W @ W.T, W @ centred

    def apart(X):
        return np.linalg.norm(X / np.linalg.norm(X) - P / np.sqrt(classes - 1))

    nc1 = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / classes
    return nc1, apart(gram), apart(cross), np.trace(within) / np.trace(between)


def simplex_minimiser(classes, per_class, dim, singular_value, lam_w, lam_h):
    """W*, H* with W*H* = ρP⊗1ᵀ, ρ = `singular_value`: the frame of every loss here."""
    U, _, Vt = np.linalg.svd(np.eye(classes) - 1 / classes)
    U, Vt = U[:, : classes - 1], Vt[: classes - 1]
    # λ_W s² = n λ_H t², st = ρ
    s = np.sqrt(singular_value * np.sqrt(per_class * lam_h / lam_w))
    frame = np.eye(dim)[: classes - 1]
    H = frame.T @ Vt * (singular_value / s)
    return s * U @ frame, np.repeat(H, per_class, axis=1)


def distances(W, H, W_star, H_star, lam_w, lam_h, bias_apart):
    """Relative distance in balanced coordinates, and the sine of the angle, by nuclear norms."""
    a = (lam_w / lam_h) ** 0.25
    W, W_star, H, H_star = a * W, a * W_star, H / a, H_star / a
    inner = np.linalg.svd(W.T @ W_star + H @ H_star.T, compute_uv=False).sum()
    size, size_star = np.sum(W**2) + np.sum(H**2), np.sum(W_star**2) + np.sum(H_star**2)
    distance = np.sqrt((size + size_star - 2 * inner + bias_apart**2) / size_star)
    return distance, np.sqrt(1 - inner**2 / (size * size_star))
