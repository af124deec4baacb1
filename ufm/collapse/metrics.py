r"""Simplex equiangular tight frames, and how far a point is from one: NC1–NC4.

With class means h̄_k, global mean h̄_G, H̃ = [h̄_k − h̄_G] (d×K), P = I − 11ᵀ/K,

    Σ_W = (1/N) Σ_i (h_i − h̄_{y_i})(h_i − h̄_{y_i})ᵀ,    Σ_B = (1/K) H̃ H̃ᵀ,
    NC1 = trace(Σ_W Σ_B^†) / K                       variability collapse
    NC2 = ‖WWᵀ/‖WWᵀ‖_F − P/√(K−1)‖_F                 the classifier is a simplex ETF
    NC3 = ‖WH̃/‖WH̃‖_F − P/√(K−1)‖_F                 classifier and means are aligned
    NC4 = share of samples whose argmax logit is not the nearest class mean

(Papyan, Han & Donoho, 2020; Zhu et al., 2021; Zhou et al., 2022.) NC1 ignores variability
orthogonal to the class means, so trace Σ_W / trace Σ_B is reported too. A metric is NaN where it is
undefined, for example at the origin, which has no directions to compare.

    >>> metrics = nc_metrics(problem, solution.params)
    >>> max(float(x) for x in (metrics.nc1, metrics.nc2, metrics.nc3)) < 1e-6
    True
    >>> frame = simplex_etf(key, num_classes=3, dim=4)
    >>> bool(jnp.allclose(frame @ frame.T, jnp.eye(3) * 1.5 - 0.5))
    True
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ufm._support.namespace import namespace
from ufm._support.pytree import pytree
from ufm._support.random_numbers import generator
from ufm._support.rank import NEGLIGIBLE
from ufm._support.shown import Shown
from ufm.model.frames import centering, simplex_basis
from ufm.model.objective import features, matmul
from ufm.model.problem import Params, Problem, check_shapes, without_loss
from ufm.model.variant import by_variant

_Number = Float[np.ndarray | Array, "*batch"]


@pytree()
class NCMetrics(Shown):
    """NC1–NC4 and trace Σ_W / trace Σ_B by the module's formulas; NaN where undefined.

    With targets, NC1 and NC2 are those of the groups and outputs, and NC3 and NC4 are undefined.
    """

    nc1: _Number
    nc2: _Number
    nc3: _Number
    nc4: _Number
    within_between_ratio: _Number


def orthonormal_columns(key: Key[Array, ""], dim: int, rank: int):
    """Draw a uniformly random d×r matrix with orthonormal columns; needs rank ≤ dim."""
    random, key = generator(key, dim * rank)
    gaussian = random.normal(key, (dim, rank), jnp.result_type(float))
    xp = namespace(gaussian)
    q, r = xp.linalg.qr(gaussian)
    # Signs of R's diagonal make the distribution the Haar measure (Mezzadri, 2007).
    return q * xp.where(xp.diagonal(r) < 0, -1.0, 1.0)[None, :]


def simplex_etf(key: Key[Array, ""], num_classes: int, dim: int) -> Float[Array, "K d"]:
    """Draw K unit vectors with inner products −1/(K−1), randomly oriented.

    Args:
        key: Random key of the orientation.
        num_classes: K.
        dim: d ≥ K−1.

    Returns:
        The vectors as rows, (K, d).

    Raises:
        ValueError: d < K−1, where no such frame exists.
    """
    if dim < num_classes - 1:
        raise ValueError(
            f"{num_classes} vectors form a simplex ETF only in dimension {num_classes - 1} "
            f"or more, got dim={dim}"
        )
    columns = orthonormal_columns(key, dim, num_classes - 1)
    frame = namespace(columns).matmul(simplex_basis(num_classes).astype(columns.dtype), columns.T)
    return jax.device_put(frame * (num_classes / (num_classes - 1)) ** 0.5)


def class_means(problem: Problem, params: Params) -> Float[Array, "d K"]:
    """h̄_k as columns; each column of H is weighted by its number of samples."""
    samples = problem.samples(params.H.dtype)
    return matmul(features(problem, params), _averages(problem, samples))


def _averages(problem: Problem, samples: Any) -> Any:
    """What turns a row of features into the means of the classes, (N, K)."""
    counted = _membership(problem, samples.dtype) * samples[:, None]
    return counted / counted.sum(axis=0)[None, :]


def _scaled(x: Any) -> Any:
    """Divide by the largest entry, so that squares do not overflow; no metric depends on it."""
    xp = namespace(x)
    largest = xp.max(xp.abs(x))
    return x / xp.where(largest > 0, largest, xp.ones_like(largest))


def _membership(problem: Problem, dtype: Any) -> Float[np.ndarray, "N K"]:
    return np.eye(problem.num_classes, dtype=dtype)[problem.labels]


@by_variant
def nc_metrics(problem: Problem, params: Params) -> NCMetrics:
    """Measure neural collapse, NC1–NC4, at a point. Maps over a leading axis with `jax.vmap`.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.

    Returns:
        The four metrics and the within/between ratio, all 0 at a collapsed point.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    weights = problem.column_weights
    arrays = jax.tree.leaves((params, weights))
    if not all(map(_is_at_hand, arrays)):
        return _nc_metrics(without_loss(problem), params)
    with np.errstate(all="ignore"):  # what is undefined is NaN
        return _metrics_of(problem, *jax.tree.map(np.asarray, (params, weights)))


def _is_at_hand(x: Any) -> bool:
    if isinstance(x, Tracer | np.ndarray):
        return isinstance(x, np.ndarray)
    return len(x.devices()) == 1 and next(iter(x.devices())).platform == "cpu"


@jax.jit
def _nc_metrics(problem: Problem, params: Params) -> NCMetrics:
    with jax.default_matmul_precision("highest"):
        return _metrics_of(problem, params, problem.column_weights)


def _metrics_of(problem: Problem, params: Params, weights: Any) -> NCMetrics:
    """Compute the module's formulas, in NumPy or in JAX."""
    xp, dtype = namespace(params.W), params.W.dtype
    h = params.H
    samples = xp.ones(problem.num_columns, dtype)
    if weights is not None:
        samples = xp.asarray(weights, dtype)
        h = h / xp.sqrt(samples)[None, :]
    V = params.W @ h
    if problem.temperature is not None:
        V = V / xp.asarray(problem.temperature, dtype)
    V = V if params.b is None else V + params.b[:, None]
    h, share = _scaled(h), samples / xp.sum(samples)
    means = h @ _averages(problem, samples)
    global_mean = h @ share[:, None]
    centred = means - global_mean
    deviations = h - means @ _membership(problem, dtype).T
    # Means of labelled classes may have rank K − 1, those of m groups may not.
    directions, inverse = mean_directions(centred, NEGLIGIBLE if problem.has_targets else None)
    nc4 = xp.nan
    if not problem.has_targets:
        decided, differ = decisions(V, h - global_mean, centred)
        nc4 = xp.where(decided, xp.sum(xp.where(differ, share, 0.0)), xp.nan)
    return metrics_of_means(
        params.W,
        centred,
        labelled=not problem.has_targets,
        distinct=are_distinct(centred, xp.max(xp.linalg.norm(h, axis=0))),
        within=xp.sum(deviations**2 * share[None, :]),
        variance=xp.sum((directions.T @ deviations) ** 2 * share[None, :], axis=1),
        inverse=inverse,
        nc4=nc4,
    )


def are_distinct(centred: Any, largest: Any) -> Any:
    """Whether the means differ by more than rounding of features of norm at most `largest`."""
    xp = namespace(centred)
    noise = 16 * float(np.finfo(centred.dtype).eps) * largest
    spread = xp.linalg.norm(centred)
    return xp.isfinite(spread) & (spread > noise * centred.shape[1] ** 0.5)


def metrics_of_means(
    W: Any,
    centred: Any,
    *,
    distinct: Any,
    within: Any,
    variance: Any,
    inverse: Any,
    nc4: Any,
    labelled: bool = True,
) -> NCMetrics:
    """Compute the module's formulas from moments, in NumPy or in JAX.

    `centred` is H̃ (d×K), `within` is trace Σ_W, and `variance` the diagonal of UᵀΣ_W U with U and
    `inverse` from `mean_directions`. What depends on the means is NaN unless they are `distinct`,
    and NC3 unless rows of W belong to classes (`labelled`).
    """
    xp, W, classes = namespace(W), _scaled(W), centred.shape[1]
    between = xp.sum(centred**2) / classes
    return NCMetrics(
        # (1/K) trace(Σ_W Σ_B^†) = Σ_j (variance along u_j) / σ_j²: every term is non-negative.
        nc1=xp.where(distinct, xp.sum(variance * inverse**2), xp.nan),
        nc2=distance_from_frame(W @ W.T),
        nc3=xp.where(distinct, distance_from_frame(W @ centred) if labelled else xp.nan, xp.nan),
        nc4=xp.where(distinct, nc4, xp.nan),
        within_between_ratio=xp.where(distinct, within / between, xp.nan),
    )


def mean_directions(centred: Any, cutoff: float | None = None) -> tuple[Any, Any]:
    """Left singular vectors u_j of H̃ (d×r) and 1/σ_j, 0 if rounding hides σ_j; r = min(d, K−1).

    They are hidden below `cutoff` times the largest, by default the rounding of a decomposition.
    """
    xp, (dim, classes) = namespace(centred), centred.shape
    # LAPACK never returns if an entry is infinite; the caller sets the result to NaN.
    finite = xp.all(xp.isfinite(centred))
    directions, sizes, _ = xp.linalg.svd(xp.where(finite, centred, 0.0), full_matrices=False)
    rank = min(dim, classes - 1)
    directions, sizes = directions[:, :rank], sizes[:rank]
    rounding = float(np.finfo(sizes.dtype).eps) * max(dim, classes)
    resolved = sizes > sizes[:1] * (cutoff or rounding)  # of one class there are none
    return directions, xp.where(resolved, 1.0 / xp.where(resolved, sizes, 1.0), 0.0)


def distance_from_frame(gram: Any) -> Any:
    """‖X/‖X‖_F − P/√(K−1)‖_F for a K×K matrix X, NaN for X = 0."""
    xp, classes = namespace(gram), len(gram)
    target = (centering(classes) / (classes - 1) ** 0.5).astype(gram.dtype)
    size = xp.linalg.norm(gram)
    return xp.where(size > 0, xp.linalg.norm(gram / xp.where(size > 0, size, 1.0) - target), xp.nan)


def decisions(V: Any, h: Any, means: Any) -> tuple[Any, Any]:
    """Whether any logits (K×N) differ, and for each sample whether argmax is not the nearest mean.

    Features (d×N) and means (d×K) are centred, because the square of the global mean would hide the
    differences in single precision.
    """
    xp = namespace(V)
    # ‖h − h̄_k‖² without ‖h‖², which does not affect the nearest mean.
    distance = xp.sum(means**2, axis=0)[:, None] - 2.0 * means.T @ h
    return xp.any(V[:1, :] != V), xp.argmax(V, axis=0) != xp.argmin(distance, axis=0)
