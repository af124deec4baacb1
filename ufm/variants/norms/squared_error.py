r"""The minimum of squared error without a bias, where vectors are bounded: an orthogonal frame.

L(v, k) = ½ κ (v_k − M)² + ½ Σ_{j≠k} v_j² is at least ½ κ (M − v_k)², and v_k = ⟨w_k, h_i⟩/τ is
at most ω_k η_i/τ, ω_k = ‖w_k‖, η_i = ‖h_i‖. So for any class counts, with radii r of w_k, R of h_i,

    both bounded      f* = ½ κ (M − s)²,   s = rR/τ ≤ M
    W decayed         f* = Σ_k min_ω (n_k/N) ½ κ (M − ωR/τ)² + ½ λ_W ω²
    H decayed         f* = min_η ½ κ (M − rη/τ)² + ½ N λ_H η²,

attained by orthogonal w_k with h_i along w_k, d ≥ K. Each minimum of ½ a (M − cx)² + ½ λ x² is at
x = acM/(ac² + λ), where cx ≤ M. So a simplex ETF is not optimal for squared error on spheres.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.losses import MSE
from ufm.model.class_means import class_sizes
from ufm.model.constraints import Ball, Sphere
from ufm.model.problem import Problem
from ufm.variants.norms.closed_form import radius_of


class Aligned(NamedTuple):
    """f*, its rounding error, and the norms of w_k and of the features of class k."""

    value: float
    rounding: float
    size_w: Float[np.ndarray, " K"]
    size_h: Float[np.ndarray, " K"]


def squared_error_minimum(problem: Problem) -> Aligned | None:
    """The minimum above; None for other losses, sets and sizes, or if rR/τ exceeds the target."""
    loss, K, found = problem.loss, problem.num_classes, (problem.classifier, problem.features)
    if not isinstance(loss, MSE) or problem.has_targets or problem.has_bias or problem.dim < K:
        return None
    if not all(x is None or isinstance(x, Sphere | Ball) for x in found):
        return None
    kappa, target = float(loss.scale), float(loss.target)
    tau = 1.0 if problem.temperature is None else float(problem.temperature)
    r, R = map(radius_of, found)
    sizes = np.asarray(class_sizes(problem), float)
    total = sizes.sum()
    if r is not None and R is not None:
        w, h, penalty = np.full(K, r), np.full(K, R), 0.0
    elif R is not None:
        decay, rate = float(problem.lam_w or 0.0), kappa * sizes / total * R / tau
        w, h = rate * target / (rate * R / tau + decay), np.full(K, R)
        penalty = 0.5 * decay * float(np.sum(w**2))
    else:
        assert r is not None  # one of them is bounded
        decay, rate = float(problem.lam_h or 0.0), kappa * r / tau
        w, h = np.full(K, r), np.full(K, rate * target / (rate * r / tau + total * decay))
        penalty = 0.5 * decay * float(np.sum(sizes * h**2))
    margins = w * h / tau
    if not np.all(margins < target):
        return None
    value = float(np.sum(sizes / total * 0.5 * kappa * (target - margins) ** 2)) + penalty
    rounding = 32 * float(np.finfo(float).eps) * kappa * target**2
    return Aligned(value, rounding, w, h)
