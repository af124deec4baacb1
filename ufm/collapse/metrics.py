r"""Simplex equiangular tight frames, and how far a point is from one: NC1–NC4.

With class means h̄_k, global mean h̄_G, H̃ = [h̄_k − h̄_G] (d×K), P = I − 11ᵀ/K,

    Σ_W = (1/N) Σ_i (h_i − h̄_{y_i})(h_i − h̄_{y_i})ᵀ,    Σ_B = (1/K) H̃ H̃ᵀ,
    NC1 = trace(Σ_W Σ_B^†) / K                       variability collapse
    NC2 = ‖WWᵀ/‖WWᵀ‖_F − P/√(K−1)‖_F                 the classifier is a simplex ETF
    NC3 = ‖WH̃/‖WH̃‖_F − P/√(K−1)‖_F                 classifier and means are aligned
    NC4 = share of samples whose argmax logit is not the nearest class mean

(Papyan, Han & Donoho, 2020; Zhu et al., 2021; Zhou et al., 2022.) NC1 does not see variability
orthogonal to the class means, so trace Σ_W / trace Σ_B stands beside it. Where a metric is
undefined (at the origin there is no direction to compare) it is NaN.

    >>> nc_metrics(problem, params).nc1
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.model.problem import Params, Problem, check_shapes, features, logits, matmul, without_loss

Scalar = Float[Array, ""]


@pytree()
class NCMetrics(Shown):
    """NC1–NC4 and trace Σ_W / trace Σ_B; see the module's formulas. NaN where undefined."""

    nc1: Float[Array, "*batch"]
    nc2: Float[Array, "*batch"]
    nc3: Float[Array, "*batch"]
    nc4: Float[Array, "*batch"]
    within_between_ratio: Float[Array, "*batch"]


def centering(num_classes: int, dtype: Any = None) -> Float[Array, "K K"]:
    """P = I − 11ᵀ/K."""
    return jnp.eye(num_classes, dtype=dtype) - 1.0 / num_classes


def simplex_basis(num_classes: int) -> Float[np.ndarray, "K K-1"]:
    """Orthonormal columns spanning 1^⊥ (Helmert's): M with M Mᵀ = P, MᵀM = I."""
    columns = np.zeros((num_classes, num_classes - 1))
    for j in range(1, num_classes):
        columns[:j, j - 1] = 1.0
        columns[j, j - 1] = -j
    return columns / np.linalg.norm(columns, axis=0)


def orthonormal_columns(key: Key[Array, ""], dim: int, rank: int, dtype: Any = None):
    """A uniformly random d×r matrix with orthonormal columns; needs rank ≤ dim."""
    gaussian = jax.random.normal(key, (dim, rank), dtype or jnp.result_type(float))
    q, r = jnp.linalg.qr(gaussian)
    # Signs of R's diagonal make the distribution the Haar measure (Mezzadri, 2007).
    return q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)[None, :]


def simplex_etf(key: Key[Array, ""], num_classes: int, dim: int) -> Float[Array, "K d"]:
    """K unit vectors (rows) with inner products −1/(K−1), randomly oriented in d ≥ K−1.

    Raises `ValueError` where d < K−1: no such frame exists.
    """
    if dim < num_classes - 1:
        raise ValueError(
            f"{num_classes} vectors form a simplex ETF only in dimension {num_classes - 1} "
            f"or more, got dim={dim}"
        )
    basis = jnp.asarray(simplex_basis(num_classes), jnp.result_type(float))
    frame = matmul(basis, orthonormal_columns(key, dim, num_classes - 1).T)
    return frame * (num_classes / (num_classes - 1)) ** 0.5


def class_means(problem: Problem, params: Params) -> Float[Array, "d K"]:
    """h̄_k as columns, weighted by the samples that each column stands for."""
    samples = problem.samples(params.H.dtype)
    membership = _membership(problem, params.H.dtype) * samples[:, None]
    return _means(features(problem, params), membership)


def _means(h: Float[Array, "d N"], membership: Float[Array, "N K"]) -> Float[Array, "d K"]:
    return matmul(h, membership / jnp.sum(membership, axis=0)[None, :])


def _scaled(x: Array) -> Array:
    """x over its largest entry, on which no metric depends: squares of the rest are numbers."""
    largest = jnp.max(jnp.abs(x))
    return x / jnp.where(largest > 0, largest, 1.0)


def _membership(problem: Problem, dtype: Any) -> Float[Array, "N K"]:
    return jnp.asarray(np.eye(problem.num_classes)[problem.labels], dtype)


def nc_metrics(problem: Problem, params: Params) -> NCMetrics:
    """NC1–NC4 of a point. Maps over a leading axis with `jax.vmap`."""
    check_shapes(problem, params)
    return _nc_metrics(without_loss(problem), params)


@jax.jit
def _nc_metrics(problem: Problem, params: Params) -> NCMetrics:
    W, classes = _scaled(params.W), problem.num_classes
    samples = problem.samples(W.dtype)
    share = samples / jnp.sum(samples)
    h = _scaled(features(problem, params))
    membership = _membership(problem, W.dtype)
    means = _means(h, membership * samples[:, None])
    global_mean = matmul(h, share[:, None])
    centred = means - global_mean
    deviations = h - matmul(means, membership.T)
    within = jnp.sum(deviations**2 * share[None, :])
    between = jnp.sum(centred**2) / classes
    target = centering(classes, W.dtype) / (classes - 1) ** 0.5
    # Class means that differ by rounding only define no directions.
    noise = 16 * float(jnp.finfo(W.dtype).eps) * jnp.max(jnp.linalg.norm(h, axis=0))
    spread = jnp.linalg.norm(centred)
    distinct = jnp.isfinite(spread) & (spread > noise * classes**0.5)
    disagreement = _nearest_mean_disagreement(
        logits(problem, params), h - global_mean, centred, share
    )
    return NCMetrics(
        nc1=jnp.where(distinct, _within_class_collapse(deviations, centred, share), jnp.nan),
        nc2=_angle(matmul(W, W.T), target),
        nc3=jnp.where(distinct, _angle(matmul(W, centred), target), jnp.nan),
        nc4=jnp.where(distinct, disagreement, jnp.nan),
        within_between_ratio=jnp.where(distinct, within / between, jnp.nan),
    )


def _within_class_collapse(deviations: Array, centred: Array, share: Array) -> Scalar:
    dim, classes = centred.shape
    # LAPACK never returns from an infinite entry; the caller makes it NaN.
    finite = jnp.all(jnp.isfinite(centred))
    directions, sizes, _ = jnp.linalg.svd(jnp.where(finite, centred, 0.0), full_matrices=False)
    rank = min(dim, classes - 1)
    directions, sizes = directions[:, :rank], sizes[:rank]
    # (1/K) trace(Σ_W Σ_B^†) = Σ_j (variance along u_j) / σ_j²: every term is non-negative.
    variance = jnp.sum(matmul(directions.T, deviations) ** 2 * share[None, :], axis=1)
    resolved = sizes > sizes[0] * (float(jnp.finfo(sizes.dtype).eps) * max(dim, classes))
    terms = jnp.where(resolved, variance / jnp.where(resolved, sizes, 1.0) ** 2, 0.0)
    return jnp.sum(terms)


def _angle(gram: Array, target: Array) -> Scalar:
    size = jnp.linalg.norm(gram)
    return jnp.where(
        size > 0, jnp.linalg.norm(gram / jnp.where(size > 0, size, 1.0) - target), jnp.nan
    )


def _nearest_mean_disagreement(V: Array, h: Array, means: Array, share: Array) -> Scalar:
    # ‖h − h̄_k‖² up to ‖h‖², which does not change the nearest; both about the global mean, whose
    # square would drown the differences in single precision.
    distance = jnp.sum(means**2, axis=0)[:, None] - 2.0 * matmul(means.T, h)
    differ = jnp.argmax(V, axis=0) != jnp.argmin(distance, axis=0)
    decided = jnp.any(V[:1, :] != V)
    return jnp.where(decided, jnp.sum(jnp.where(differ, share, 0.0)), jnp.nan)
