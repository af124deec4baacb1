"""Losses, their derivatives and conjugates at 50 digits, straight from the definitions.

Arrays are NumPy object arrays of mpmath numbers. Products such as p_j (1 − p_j) are written so that
nothing cancels, so 50 digits hold however close a probability is to 0 or 1.
"""

from typing import NamedTuple

import numpy as np
from mpmath import mp

mp.dps = 50


class Exact(NamedTuple):
    value: mp.mpf
    gradient: np.ndarray
    hessian: np.ndarray


def numbers(values) -> np.ndarray:
    """An object array of the exact values of floating-point numbers (float32 or float64)."""
    return np.array([mp.mpf(float(v)) for v in np.ravel(values)], dtype=object)


def norm(x: np.ndarray) -> mp.mpf:
    return mp.sqrt(mp.fsum(v * v for v in np.ravel(x)))


def softmax(z: np.ndarray, label: int):
    """p, p − e_k, diag p − ppᵀ and ℓ = −log p_k."""
    odds = np.array([mp.exp(v - z[label]) for v in z], dtype=object)
    rest = mp.fsum(np.delete(odds, label))
    p = odds / (1 + rest)
    away = p.copy()
    away[label] = -rest / (1 + rest)
    covariance = -np.outer(p, p)
    for j in range(len(z)):
        covariance[j, j] = p[j] * mp.fsum(np.delete(p, j))
    return p, away, covariance, mp.log1p(rest)


def smoothed(alpha: mp.mpf, size: int, label: int) -> np.ndarray:
    """ŷ = (1−α) e_k + (α/K) 1."""
    target = np.full(size, alpha / size, dtype=object)
    target[label] += 1 - alpha
    return target


def evaluate(name: str, hyper: tuple, z: np.ndarray, label: int) -> Exact:
    """L, ∇L and ∇²L at exact logits, for "CE", "LS" (α), "FL" (γ), "MSE" (κ, M) and "BCE"."""
    if name == "BCE":
        sign = np.array([mp.mpf(1)] * len(z), dtype=object)
        sign[label] = mp.mpf(-1)
        up = np.array([1 / (1 + mp.exp(-v)) for v in sign * z], dtype=object)
        value = mp.fsum(mp.log1p(mp.exp(v)) for v in sign * z)
        return Exact(
            value,
            sign * up,
            np.diag([u / (1 + mp.exp(v)) for u, v in zip(up, sign * z, strict=True)]),
        )
    if name == "MSE":
        scale, target = hyper
        weights = np.array([mp.mpf(1)] * len(z), dtype=object)
        weights[label] = scale
        residual = z.copy()
        residual[label] -= target
        value = mp.fsum(weights * residual**2) / 2
        return Exact(value, weights * residual, np.diag(weights))
    p, away, covariance, loss = softmax(z, label)
    if name == "CE":
        return Exact(loss, away, covariance)
    if name == "LS":
        (alpha,) = hyper
        log_p = z - z[label] - loss
        shift = np.full(len(z), -alpha / len(z), dtype=object)  # e_k − ŷ
        shift[label] += alpha
        value = -mp.fsum(smoothed(alpha, len(z), label) * log_p)
        return Exact(value, away + shift, covariance)
    (gamma,) = hyper
    u, p_label = -away[label], p[label]
    first = u**gamma + gamma * u ** (gamma - 1) * p_label * loss
    second = gamma * u ** (gamma - 2) * p_label * (2 * u - u * loss + (gamma - 1) * p_label * loss)
    # Arrays first: a number asked to multiply one has it printed before it gives up.
    hessian = covariance * first + np.outer(away, away) * second
    return Exact(u**gamma * loss, away * first, hessian)


def conjugate(name: str, hyper: tuple, dual: np.ndarray, label: int) -> mp.mpf:
    """sup_z γᵀz − L(z, k): Σ p log p at p = γ + ŷ, or the quadratic of MSE."""
    if name == "MSE":
        scale, target = hyper
        rest = mp.fsum(np.delete(dual, label) ** 2)
        return (rest + dual[label] ** 2 / scale) / 2 + target * dual[label]
    (alpha,) = hyper or (mp.mpf(0),)
    p = dual + smoothed(alpha, len(dual), label)
    return mp.fsum(v * mp.log(v) for v in p if v > 0)
