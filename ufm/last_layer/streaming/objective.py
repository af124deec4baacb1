r"""f and ‖∇f‖ of a large layer, with bounds on their rounding errors.

    ‖∂_H‖² = Σ_i c_i ‖Wᵀg_i/N + λ_H h_i‖²
           = Σ_k n_k ‖Wᵀḡ_k/N + λ_H h̄_k‖²  +  tr(WᵀΓ̃Γ̃ᵀW)/N² + 2λ_H ⟨W, Γ̃Δᵀ⟩/N + λ_H² ‖Δ‖²

The terms after the class means cancel at a critical point; they vanish as features collapse.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.last_layer.streaming.deviations import Deviations
from ufm.last_layer.streaming.gap_sums import Streamed
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.last_layer.streaming.passes import block_rows

_EPS = float(np.finfo(float).eps)


class Measured(NamedTuple):
    """A number, and a bound on its rounding error."""

    value: float
    rounding: float


def value_of(layer: LargeLayer, found: Streamed) -> Measured:
    """f, and a bound on its error as `ufm.model.rounding.value_rounding`."""
    problem, sums, moments = layer.problem, found.sums, layer.moments
    total, (classes, dim), count = moments.sizes.sum(), layer.W.shape, len(layer.samples.features)
    lam_w, lam_h, lam_b = decays(layer)
    penalty = 0.5 * (lam_w * np.sum(layer.W**2) + lam_b * np.sum(_bias(layer) ** 2))
    value = sums.value / total + penalty + 0.5 * lam_h * moments.square
    second = float(np.asarray(problem.loss.smoothness()[0]))
    # Sums within a block, then over blocks.
    block = block_rows(classes, dim, count)
    length = block + count // block + 8
    rounding = (sums.drift + second * sums.square_drift) / total
    rounding += _EPS * ((classes + 16) * sums.evaluation + length * sums.size) / total
    rounding += _EPS * max(classes * dim, length + dim) * (penalty + 0.5 * lam_h * moments.terms)
    # First-order bounds are invalid once the error of a logit reaches a tenth.
    valid = problem.loss.quadratic or found.drift < 0.1
    return Measured(float(value), float(rounding) if valid else math.inf)


def gradient_of(
    layer: LargeLayer, found: Streamed, apart: Deviations, G: Float[np.ndarray, "K K"]
) -> Measured:
    """‖∇f‖, and an estimate from above of its error as `ufm.model.rounding.gradient_noise`.

    `G` has the columns √n_k ḡ_k/N.
    """
    moments, W, b = layer.moments, layer.W, _bias(layer)
    (lam_w, lam_h, lam_b), total = decays(layer), moments.sizes.sum()
    roots = np.sqrt(moments.sizes)
    H = moments.means.T * roots
    cross, gram = apart.gradients_features / total, apart.gradients_gradients / total**2
    square = np.sum((G @ H.T + cross + lam_w * W) ** 2) + np.sum((W.T @ G + lam_h * H) ** 2)
    square += np.sum((gram @ W) * W) + 2.0 * lam_h * np.sum(W * cross) + lam_h**2 * apart.within
    size_w, size_h = np.linalg.norm(W), moments.square**0.5
    size_gamma, size_delta = np.sqrt(max(np.trace(gram), 0.0)), np.sqrt(apart.within)
    size_g = np.hypot(np.linalg.norm(G), size_gamma)
    terms, own = size_g * (size_h + size_w) + lam_w * size_w + lam_h * size_h, size_h + size_w
    if layer.b is not None:
        square += np.sum((G @ roots + lam_b * b) ** 2)
        terms, own = terms + size_g + lam_b * np.linalg.norm(b), own + total**0.5
    norm = np.sqrt(max(square, 0.0))
    rows = block_rows(len(W), W.shape[1], len(layer.samples.features))
    longest = max(rows, *W.shape) ** 0.5
    noise = _EPS * longest * terms + np.sqrt(found.sums.square_errors) / total * own
    # Products of deviations: their error in ∂_W, and that in ‖∂_H‖², where they cancel.
    eps = longest * float(np.finfo(found.dtype).eps)
    lost = eps * (size_w * size_gamma + lam_h * size_delta) ** 2
    noise += eps * size_gamma * size_delta + min(np.sqrt(lost), lost / norm if norm else np.inf)
    return Measured(float(norm), float(noise))


def size_of(layer: LargeLayer) -> float:
    """‖(W, H, b)‖."""
    return math.sqrt(np.sum(layer.W**2) + layer.moments.square + np.sum(_bias(layer) ** 2))


def decays(layer: LargeLayer) -> tuple[float, float, float]:
    """λ_W, λ_H and λ_b, 0 without a bias."""
    problem = layer.problem
    lam_b = 0.0 if problem.lam_b is None else float(problem.lam_b)
    return float(problem.lam_w), float(problem.lam_h), lam_b


def _bias(layer: LargeLayer) -> Float[np.ndarray, " K"]:
    return np.zeros(len(layer.W)) if layer.b is None else layer.b
