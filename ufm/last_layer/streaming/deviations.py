r"""Sums over the deviations of features and gradients from their class means, and the NC metrics.

With n_k the class sizes and ḡ_k, h̄_k the means of ∇L and h over class k,

    Σ_i c_i g_i h_iᵀ = Σ_k n_k ḡ_k h̄_kᵀ + Γ̃Δᵀ,

and likewise for every other product of two such terms.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.collapse.metrics import NCMetrics, are_distinct, metrics_of_means
from ufm.last_layer.streaming.gap_sums import Streamed
from ufm.last_layer.streaming.layer import LargeLayer


class Deviations(NamedTuple):
    """Γ̃Δᵀ, Γ̃Γ̃ᵀ, ‖Δ‖² and ‖u_jᵀΔ‖², and the class means ḡ_k as columns."""

    gradients_features: Float[np.ndarray, "K d"]
    gradients_gradients: Float[np.ndarray, "K K"]
    within: float
    variance: Float[np.ndarray, " r"]
    mean_gradients: Float[np.ndarray, "K K"]


def deviations(layer: LargeLayer, found: Streamed) -> Deviations:
    """Move the sums from the reference points to the class means."""
    sums, sizes = found.sums, layer.moments.sizes[:, None]
    features = layer.moments.means - (found.reference.features - layer.offset)
    gradients = sums.gradients / sizes
    along = features @ found.reference.directions
    return Deviations(
        sums.gradients_features - (sizes * gradients).T @ features,
        sums.gradients_gradients - (sizes * gradients).T @ gradients,
        max(float(sums.within - np.sum(sizes * features**2)), 0.0),
        np.maximum(sums.variance - np.sum(sizes * along**2, axis=0), 0.0),
        (found.reference.gradients + gradients).T,
    )


def metrics_of(layer: LargeLayer, found: Streamed) -> NCMetrics:
    """The NC metrics (`ufm.collapse.metrics`)."""
    moments, total = layer.moments, layer.moments.sizes.sum()
    centred, apart = (moments.means - moments.mean).T, deviations(layer, found)
    # Without a difference between classes all logits are equal.
    bias = np.zeros(1) if layer.b is None else layer.b
    decided = np.any(np.ptp(layer.W, axis=0)) or np.ptp(bias) > 0
    with np.errstate(all="ignore"):  # what is undefined is NaN
        return metrics_of_means(
            layer.W,
            centred,
            distinct=are_distinct(centred, moments.largest),
            within=apart.within / total,
            variance=apart.variance / total,
            inverse=found.reference.inverse,
            nc4=np.where(decided, found.sums.disagreement / total, np.nan),
        )
