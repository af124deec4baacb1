r"""The second pass: all sums over samples from which f, its bounds and the metrics follow.

Features are taken relative to reference points, δ_i = h_i − m_{y_i}, with m_k the class mean
rounded to the precision of the features, and gradients of the loss relative to those at m_k:

    v_i = t_{y_i} + Wδ_i,   t_k = W m_k + b,   γ_i = ∇L(v_i, y_i) − ∇L(t_{y_i}, y_i).

Products are computed in the precision of the features, everything else in double precision. As
features collapse, δ and γ vanish, and with them the rounding errors of the products.

The class sums of γ, and Γ̃Δᵀ, Γ̃Γ̃ᵀ, ‖Δ‖² with γ_i, δ_i as columns, are at most K×d or K×K.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.certificates.dual_bounds import has_convex_region
from ufm.collapse.class_moments import class_sums
from ufm.collapse.metrics import mean_directions
from ufm.last_layer.streaming.layer import LargeLayer
from ufm.last_layer.streaming.passes import (
    OnRows,
    Total,
    block_rows,
    buffer,
    summed,
    tile_rows,
)
from ufm.losses import CrossEntropy, Loss


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


class Streamed(NamedTuple):
    """What a pass found, with the precision of its matrix products."""

    reference: Reference
    sums: GapSums
    #: Largest bound on the error of a logit.
    drift: float
    #: A bound on −log p_y of all samples, where L is convex up to a number; else 0.
    surprise: float
    dtype: Any


def precision(layer: LargeLayer) -> Any:
    """The precision of the features, but double if squares could leave the range of single."""
    sizes = layer.moments.largest, float(np.max(np.abs(layer.W)))
    usual = all(x == 0.0 or 1e-10 < x < 1e10 for x in sizes)
    return layer.samples.features.dtype if usual else np.dtype(float)


def gap_sums(layer: LargeLayer, dtype: Any, on_rows: OnRows | None = None) -> Streamed:
    """Compute the sums in one pass, with matrix products in precision `dtype`."""
    classes, dim = layer.W.shape
    rows = block_rows(classes, dim, len(layer.samples.features))
    stored = (layer.moments.means + layer.offset).astype(dtype)
    table = (stored.astype(float) - layer.offset) @ layer.W.T
    table += 0.0 if layer.b is None else layer.b
    slopes = np.asarray(_slopes(layer.problem.loss, table))
    centred = layer.moments.means - layer.moments.mean
    reference = Reference(stored.astype(float), table, slopes, *mean_directions(centred.T))
    total = summed(layer.samples, rows, lambda: _Terms(layer, reference, dtype, rows), on_rows)
    drift, surprise = map(float, total.peaks)
    return Streamed(reference, GapSums(*total.sums), drift, surprise, dtype)


@quick_jit
def _slopes(loss: Loss, table: Any) -> Float[Array, "K K"]:
    """∇L(t_k, k) as rows."""
    return jax.vmap(loss.gradient)(table, jnp.arange(len(table)))


class _Terms:
    """The terms of `GapSums` in a block of rows, with the buffers of one core."""

    def __init__(self, layer: LargeLayer, reference: Reference, dtype: Any, rows: int) -> None:
        W, b, means = layer.W, layer.b, layer.moments.means - layer.moments.mean
        self.loss, self.weighted = layer.problem.loss, layer.samples.weights is not None
        self.points = reference.features.astype(dtype)
        # One product for both, with Wᵀ in front, and zeros behind: kernels of BLAS are that wide.
        self.factors = np.concatenate([W.T, reference.directions], axis=1).astype(dtype)
        self.factors = np.pad(self.factors, ((0, 0), (0, -self.factors.shape[1] % 16)))
        # ‖u − c_k‖²/2 without ‖u‖², with u the sample and c_k the means in the directions.
        self.means = (means @ reference.directions).astype(dtype).T
        points = reference.features - layer.offset - layer.moments.mean
        offsets = 0.5 * np.sum(self.means.astype(float) ** 2, axis=0)
        self.nearness = (offsets - points @ reference.directions @ self.means).astype(dtype)
        # A sample that is nearer to its own mean than half the way to any other has it nearest.
        squares = 2.0 * (offsets[:, None] + offsets)  # distances are known to single precision
        apart = squares * (1.0 - 1e-5) - 2.0 * self.means.T.astype(float) @ self.means
        np.fill_diagonal(apart, np.inf)
        self.reach = 0.24 * np.maximum(apart.min(axis=1), 0.0)
        # Errors of the logits: those of the products, and those of the table.
        largest, length = float(np.max(np.linalg.norm(W, axis=1))), W.shape[1] + 8
        self.unit = length * float(np.finfo(dtype).eps) * largest
        sizes = np.linalg.norm(reference.features, axis=1) + np.linalg.norm(layer.offset)
        drifts = largest * sizes + (0.0 if b is None else np.max(np.abs(b)))
        drifts *= length * float(np.finfo(float).eps)
        tables = _Tables(reference.logits, reference.gradients, drifts, length**-0.5)
        self.logits, self.tables = reference.logits, jax.device_put(tables)
        # Blocks have one size, since every new size would be compiled.
        self.delta = np.zeros((rows, W.shape[1]), dtype)
        self.narrow = np.zeros((rows, len(W)), dtype)
        self.both = buffer((rows, self.factors.shape[1]), dtype)
        self.wide = np.empty((rows, len(self.means)))
        self.labels, self.weights = buffer((rows,), np.int32), buffer((rows,), float)
        # Chosen once: to ask anew at every block takes a tenth of a pass.
        blocks, row = -(-len(layer.samples.features) // rows), np.zeros(rows)
        arguments = (self.loss, self.tables, self.both, row, self.labels, self.weights)
        self.losses = _losses.chosen(blocks, *arguments)[0]

    def __call__(self, start: int, rows: np.ndarray, y: np.ndarray, c: np.ndarray) -> Total:
        delta, labels, weights, count = self.delta, self.labels, self.weights, len(rows)
        labels[:count], weights[:count], weights[count:] = y, c, 0.0
        np.take(self.points, labels, axis=0, out=delta, mode="clip")
        np.subtract(rows, delta[:count], out=delta[:count])
        delta[count:] = 0.0
        squares = np.vecdot(delta, delta).astype(float)
        both = np.matmul(delta, self.factors, out=self.both)
        drifts = self.unit * np.sqrt(squares)
        sums, peaks, margins, gamma = self.losses(
            self.loss, self.tables, both, drifts, labels, weights
        )
        classes, rank = self.means.shape[1], len(self.means)
        products, along = both[:, :classes], both[:, classes : classes + rank]
        np.copyto(self.wide, along)
        variance = weights @ np.square(self.wide, out=self.wide)
        far = squares >= self.reach[labels]
        # All others have the largest logit and the nearest mean on the label.
        doubtful = np.flatnonzero(far | (np.asarray(margins) >= 0.0))
        own = labels[doubtful]
        nearest = np.argmin(self.nearness[own] - along[doubtful] @ self.means, axis=1)
        differ = np.argmax(self.logits[own] + products[doubtful], axis=1) != nearest
        gamma, narrow = np.asarray(gamma), self.narrow
        np.copyto(narrow, gamma, casting="same_kind")
        # Each of the two factors of a product has the root of the weight.
        if self.weighted:
            roots = np.sqrt(weights).astype(delta.dtype)[:, None]
            narrow *= roots
            delta *= roots
        else:
            narrow[weights == 0.0] = 0.0
        return Total(
            (
                *(np.asarray(x) for x in sums),
                weights[doubtful] @ differ,
                class_sums(gamma, labels, weights, len(self.points)),
                (narrow.T @ delta).astype(float),
                (narrow.T @ narrow).astype(float),
                weights @ squares,
                variance,
            ),
            tuple(np.asarray(x) for x in peaks),
        )


class _Tables(NamedTuple):
    """For each class: t_k, ∇L(t_k, k), and the errors of t_k."""

    logits: Any
    gradients: Any
    drifts: Any
    #: Typical over largest error of a logit: errors of long sums behave as random walks.
    typical: Any


@functools.partial(quick_jit, thorough=True)
def _losses(
    loss: Loss, tables: _Tables, both: Any, drifts: Any, labels: Any, weights: Any
) -> tuple[Any, Any, Float[Array, " m"], Float[Array, "m K"]]:
    """The first sums of `GapSums`, the peaks of `Streamed`, margins and γ, from rows of products.

    The first K columns of `both` are products with W. The margin of a sample is that of the largest
    other logit over the label's.
    """
    (rows, _), classes, wide = both.shape, len(tables.logits), jnp.result_type(float)
    unit, region = float(jnp.finfo(wide).eps), has_convex_region(loss)

    def sample(x: tuple[Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        row, drift, label = x
        z = tables.logits[label] + row[:classes].astype(wide)
        error = drift + tables.drifts[label]
        value, gradient = loss.value(z, label), loss.gradient(z, label)
        typical = jnp.full_like(z, error * tables.typical / unit)
        sums = (
            value,
            jnp.abs(value),
            loss.rounding(z, label),
            jnp.sum(jnp.abs(gradient)) * error,
            classes * error**2,
            (unit * loss.gradient_rounding(z, label, typical)) ** 2,
        )
        # No logit is off by more than the error, and of two of them −log p_y is the difference.
        surprise = CrossEntropy().value(z, label) + 2.0 * error if region else jnp.zeros((), wide)
        # In the words of `ufm.losses._softmax.log_odds`, so that XLA computes it once.
        on_label = jnp.arange(classes, dtype=jnp.int32) == label
        margin = jnp.max(jnp.where(on_label, -jnp.inf, z)) - jnp.sum(jnp.where(on_label, z, 0.0))
        return sums, (error, surprise), margin, gradient - tables.gradients[label]

    tile = tile_rows(classes, rows)
    sums, peaks, margins, gamma = jax.lax.map(sample, (both, drifts, labels), batch_size=tile)
    largest = tuple(jnp.max(jnp.where(weights > 0, x, 0.0)) for x in peaks)
    return tuple(jnp.sum(weights * x) for x in sums), largest, margins, gamma
