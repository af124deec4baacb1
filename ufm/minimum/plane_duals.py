r"""Tangent planes of Ψ(W) = min_H g(WH) + (λ/2)‖H‖² for many W of two columns at once.

For any logits, with their softmax p and targets ŷ (cross-entropy, or label smoothing),

    Γ = (p − ŷ)/K,   −g*(Γ) = −(1/K) Σ_k Σ_j p_jk log p_jk,
    Ψ(W) ≥ −g*(Γ) − ‖WᵀΓ‖²/(2λ)   for every W,

with equality at W if H is the minimiser for it. Branch and bound over the classifier, or over WWᵀ,
rests on these planes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Newton steps of the features from 0; any logits give a valid bound.
_STEPS = 12


class Planes(NamedTuple):
    """Γ, −g*(Γ), and g(WH) + (λ/2)‖H‖² at the features found for each W."""

    gamma: Float[np.ndarray, "m K K"]
    dual: Float[np.ndarray, " m"]
    primal: Float[np.ndarray, " m"]


def tangent_planes(table: Float[np.ndarray, "m K 2"], decay: float, alpha: float) -> Planes:
    """The planes at tables of W, for one sample in each class."""
    m, K, _ = table.shape
    target = (1 - alpha) * np.eye(K) + alpha / K
    x, y = table[..., 0], table[..., 1]
    H = np.zeros((m, 2, K))
    Z, top, total = np.zeros((m, K, K)), np.zeros((m, 1, K)), np.full((m, 1, K), float(K))
    p = np.full((m, K, K), 1.0 / K)
    for _ in range(_STEPS):
        slope = table.transpose(0, 2, 1) @ ((p - target) / K) + decay * H
        # λ I + Wᵀ(diag p − ppᵀ)W/K for each class, and its inverse.
        mean = table.transpose(0, 2, 1) @ p
        xx, xy, yy = (np.einsum("mj,mjk->mk", z, p) / K for z in (x * x, x * y, y * y))
        xx += decay - mean[:, 0] ** 2 / K
        xy -= mean[:, 0] * mean[:, 1] / K
        yy += decay - mean[:, 1] ** 2 / K
        step = [yy * slope[:, 0] - xy * slope[:, 1], xx * slope[:, 1] - xy * slope[:, 0]]
        H = H - np.stack(step, axis=1) / (xx * yy - xy**2)[:, None]
        Z = table @ H
        top = Z.max(axis=1, keepdims=True)
        p = np.exp(Z - top)
        total = p.sum(axis=1, keepdims=True)
        p /= total
    dual = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=(1, 2)) / K
    losses = np.sum(top + np.log(total) - np.sum(target * Z, axis=1, keepdims=True), axis=(1, 2))
    primal = losses / K + 0.5 * decay * np.sum(H**2, axis=(1, 2))
    return Planes((p - target) / K, dual, primal)
