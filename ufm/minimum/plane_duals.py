r"""Tangent planes of Ψ(W) = min_H g(WH) + (λ/2)‖H‖² for many W of a few columns at once.

For any logits, with their softmax p and targets ŷ (cross-entropy, or label smoothing),

    Γ = (p − ŷ)/K,   −g*(Γ) = −(1/K) Σ_k Σ_j p_jk log p_jk,
    Ψ(W) ≥ −g*(Γ) − ‖WᵀΓ‖²/(2λ)   for every W,

with equality at W if H is the minimiser for it. Branch and bound over the classifier, or over WWᵀ,
rests on these planes.
"""

import itertools
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


def tangent_planes(table: Float[np.ndarray, "m K r"], decay: float, alpha: float) -> Planes:
    """The planes at tables of W, for one sample in each class."""
    m, K, r = table.shape
    target, columns = (1 - alpha) * np.eye(K) + alpha / K, table.transpose(0, 2, 1)
    H = np.zeros((m, r, K))
    Z, top, total = np.zeros((m, K, K)), np.zeros((m, 1, K)), np.full((m, 1, K), float(K))
    p = np.full((m, K, K), 1.0 / K)
    for _ in range(_STEPS):
        slope = columns @ ((p - target) / K) + decay * H
        # λ I + Wᵀ(diag p − ppᵀ)W/K for each class: entries above the diagonal.
        mean = columns @ p
        curvature = {
            (i, j): np.einsum("mj,mjk->mk", table[..., i] * table[..., j], p) / K
            - mean[:, i] * mean[:, j] / K
            + decay * (i == j)
            for i, j in itertools.combinations_with_replacement(range(r), 2)
        }
        H = H - _solved(curvature, [slope[:, i] for i in range(r)])
        Z = table @ H
        top = Z.max(axis=1, keepdims=True)
        p = np.exp(Z - top)
        total = p.sum(axis=1, keepdims=True)
        p /= total
    dual = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=(1, 2)) / K
    losses = np.sum(top + np.log(total) - np.sum(target * Z, axis=1, keepdims=True), axis=(1, 2))
    primal = losses / K + 0.5 * decay * np.sum(H**2, axis=(1, 2))
    return Planes((p - target) / K, dual, primal)


def _solved(matrix: dict[tuple[int, int], np.ndarray], right: list[np.ndarray]) -> np.ndarray:
    """Solve with many positive definite matrices by elimination, entry by entry of all of them."""
    r = len(right)
    for i, j in itertools.combinations(range(r), 2):
        ratio = matrix[i, j] / matrix[i, i]
        right[j] = right[j] - ratio * right[i]
        for k in range(j, r):
            matrix[j, k] = matrix[j, k] - ratio * matrix[i, k]
    for i in reversed(range(r)):
        for k in range(i + 1, r):
            right[i] = right[i] - matrix[i, k] * right[k]
        right[i] = right[i] / matrix[i, i]
    return np.stack(right, axis=1)
