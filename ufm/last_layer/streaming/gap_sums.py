r"""The second pass: all sums over samples from which f, its bounds and the metrics follow.

Features are taken relative to reference points, δ_i = h_i − m_{y_i}, with m_k the class mean
rounded to the precision of the features, and gradients of the loss relative to those at m_k:

    v_i = t_{y_i} + Wδ_i,   t_k = W m_k + b,   γ_i = ∇L(v_i, y_i) − ∇L(t_{y_i}, y_i).

Products are computed in the precision of the features, everything else in double precision. As
features collapse, δ and γ vanish, and with them the rounding errors of the products.

The class sums of γ, and Γ̃Δᵀ, Γ̃Γ̃ᵀ, ‖Δ‖² with γ_i, δ_i as columns, are at most K×d or K×K.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.collapse.metrics import mean_directions
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.last_layer.streaming.moments import class_sums
from ufm.last_layer.streaming.passes import OnRows, Total, block_rows, summed
from ufm.losses import Loss


class Reference(NamedTuple):
    """The point around which the sums are taken, in double precision."""

    #: m_k of the stored features, as numbers of the precision of the products.
    features: Float[np.ndarray, "K d"]
    #: t_k and ∇L(t_k, k).
    logits: Float[np.ndarray, "K K"]
    gradients: Float[np.ndarray, "K K"]
    #: u_j, orthonormal directions that span the centred class means, and 1/σ_j.
    directions: Float[np.ndarray, "d r"]
    inverse: Float[np.ndarray, " r"]


class GapSums(NamedTuple):
    """Sums over the samples, each term times the weight c_i."""

    #: L, |L| and `Loss.rounding`.
    value: Float[np.ndarray, ""]
    size: Float[np.ndarray, ""]
    evaluation: Float[np.ndarray, ""]
    #: With e_i a bound on the errors of the logits: ‖∇L‖₁ e_i, and K e_i².
    drift: Float[np.ndarray, ""]
    square_drift: Float[np.ndarray, ""]
    #: Squared errors of the gradients.
    square_errors: Float[np.ndarray, ""]
    #: Samples whose nearest class mean is not the largest logit.
    disagreement: Float[np.ndarray, ""]
    #: Class sums of γ, as rows; Γ̃Δᵀ and Γ̃Γ̃ᵀ.
    gradients: Float[np.ndarray, "K K"]
    gradients_features: Float[np.ndarray, "K d"]
    gradients_gradients: Float[np.ndarray, "K K"]
    #: ‖δ‖² and (u_jᵀδ)².
    within: Float[np.ndarray, ""]
    variance: Float[np.ndarray, " r"]


class GapPeaks(NamedTuple):
    """Largest bound on the error of a logit, and largest difference of two logits of a sample."""

    drift: Float[np.ndarray, ""]
    spread: Float[np.ndarray, ""]


class Streamed(NamedTuple):
    """What a pass found, with the precision of its matrix products."""

    reference: Reference
    sums: GapSums
    peaks: GapPeaks
    dtype: Any


def precision(layer: LargeLayer) -> Any:
    """The precision of the features, but double if squares could leave the range of single."""
    sizes = layer.moments.largest, float(np.max(np.abs(layer.W)))
    usual = all(x == 0.0 or 1e-10 < x < 1e10 for x in sizes)
    return layer.samples.features.dtype if usual else np.dtype(float)


def gap_sums(layer: LargeLayer, dtype: Any, on_rows: OnRows | None = None) -> Streamed:
    """Compute the sums in one pass, with matrix products in precision `dtype`."""
    W, b, found, loss = layer.W, layer.b, layer.moments, layer.problem.loss
    classes, dim = W.shape
    size = block_rows(classes, dim, len(layer.samples.features))
    stored = (found.means + layer.offset).astype(dtype)
    points = stored.astype(float) - layer.offset
    table = points @ W.T + (0.0 if b is None else b)
    slopes = np.asarray(jax.vmap(loss.gradient)(jnp.asarray(table), jnp.arange(classes)))
    directions, inverse = mean_directions((found.means - found.mean).T)
    reference = Reference(stored.astype(float), table, slopes, directions, inverse)
    # Rows of W above, directions below, for one product.
    stacked = np.concatenate([W, directions.T]).astype(dtype)
    coordinates = ((found.means - found.mean) @ directions).astype(dtype)
    centred = (points - found.mean) @ directions
    nearness = 0.5 * np.sum(coordinates.astype(float) ** 2, axis=1) - centred @ coordinates.T
    # Errors of the logits: those of the products, and those of the table.
    largest = float(np.max(np.linalg.norm(W, axis=1)))
    length, eps = dim + 8, float(np.finfo(float).eps)
    unit = length * float(np.finfo(dtype).eps) * largest
    sizes = np.linalg.norm(reference.features, axis=1) + np.linalg.norm(layer.offset)
    own = largest * sizes + (0.0 if b is None else np.max(np.abs(b)))
    tables = _Tables(table, slopes, nearness, length * eps * own, length**-0.5)

    def begin() -> Callable[..., Total]:
        # Blocks have one size, since every new size would be compiled.
        delta, labels = np.zeros((size, dim), dtype), np.zeros(size, np.int32)
        weights, roots = np.zeros(size), np.zeros((size, 1), dtype)

        def terms(start: int, rows: np.ndarray, y: np.ndarray, c: np.ndarray) -> Total:
            count = len(rows)
            labels[:count], weights[:count], weights[count:] = y, c, 0.0
            np.take(stored, labels, axis=0, out=delta, mode="clip")
            np.subtract(rows, delta[:count], out=delta[:count])
            delta[count:] = 0.0
            squares = np.einsum("ij,ij->i", delta, delta).astype(float)
            products = delta @ stacked.T
            logits, along = products[:, :classes], products[:, classes:]
            near = along @ coordinates.T
            drifts = unit * np.sqrt(squares)
            sums, peaks, gamma = _losses(loss, tables, logits, near, drifts, labels, weights)
            gamma = np.asarray(gamma)
            narrow = gamma.astype(dtype)
            if layer.samples.weights is not None:
                roots[:, 0] = np.sqrt(weights)
                narrow, delta_ = narrow * roots, delta * roots
            else:
                narrow[count:] = 0.0
                delta_ = delta
            return Total(
                (
                    *(np.asarray(x) for x in sums),
                    class_sums(gamma, labels, weights, classes),
                    (narrow.T @ delta_).astype(float),
                    (narrow.T @ narrow).astype(float),
                    weights @ squares,
                    weights @ along.astype(float) ** 2,
                ),
                tuple(np.asarray(x) for x in peaks),
            )

        return terms

    total = summed(layer.samples, size, begin, on_rows)
    return Streamed(reference, GapSums(*total.sums), GapPeaks(*total.peaks), dtype)


class _Tables(NamedTuple):
    """For each class: t_k, ∇L(t_k, k), the offsets of the squared distances, errors of t_k."""

    logits: Any
    gradients: Any
    nearness: Any
    drifts: Any
    #: Typical over largest error of a logit: errors of long sums behave as random walks.
    typical: Any


@quick_jit
def _losses(
    loss: Loss,
    tables: _Tables,
    products: Any,
    near: Any,
    drifts: Any,
    labels: Any,
    weights: Any,
) -> tuple[Any, Any, Float[Array, "m K"]]:
    """The first sums of `GapSums`, the peaks, and γ as rows, from rows of products (m×K)."""
    classes, wide = products.shape[1], jnp.result_type(float)
    unit = float(jnp.finfo(wide).eps)

    def sample(product: Any, near: Any, drift: Any, label: Any) -> tuple[Any, Any, Any]:
        z = tables.logits[label] + product.astype(wide)
        error = drift + tables.drifts[label]
        value, gradient = loss.value(z, label), loss.gradient(z, label)
        typical = jnp.full_like(z, error * tables.typical / unit)
        differ = jnp.argmax(z) != jnp.argmin(tables.nearness[label] - near.astype(wide))
        sums = (
            value,
            jnp.abs(value),
            loss.rounding(z, label),
            jnp.sum(jnp.abs(gradient)) * error,
            classes * error**2,
            (unit * loss.gradient_rounding(z, label, typical)) ** 2,
            differ.astype(wide),
        )
        return sums, (error, jnp.max(z) - jnp.min(z)), gradient - tables.gradients[label]

    sums, peaks, gamma = jax.vmap(sample)(products, near, drifts, labels)
    counted = weights > 0
    return (
        tuple(jnp.sum(weights * x) for x in sums),
        tuple(jnp.max(jnp.where(counted, x, 0.0)) for x in peaks),
        gamma,
    )
