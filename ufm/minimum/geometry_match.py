r"""Compare a point with the predicted minimiser, for any geometry and size of it.

The three distances below are relative to the minimiser, so that loss and logits may have any units.
If the minimiser is small (MSE with targets of 1e-4, or cross-entropy just below the collapse
threshold), a point of the same size but different geometry does not match.

    >>> compare_geometry(problem, solution.params).matches
    True
"""

from typing import Any

import jax
import numpy as np

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.problem import Params, Problem, check_shapes
from ufm.model.variant import by_variant

#: Assumed rounding error of a gradient, in units of eps.
_ROUNDINGS = 64


@pytree()
class GeometryMatch(Shown):
    """Distances between a point and the predicted minimisers, invariant under rotations.

    `logit_distance` = ‖V − V*‖_F / ‖W*H*‖_F, both modulo a common shift of the logits if the loss
    ignores it; `classifier_distance` = ‖WWᵀ − W*W*ᵀ‖_F / max(‖W*W*ᵀ‖_F, ‖WWᵀ‖_F);
    `penalty_distance` is the difference of the penalties of W and H relative to the minimiser's,
    which also measures features outside the row space of W. If the minimiser is the origin, logits
    are relative to f*/μ, the largest norm at any point not above the origin, penalties are relative
    to f*, and the classifier's distance is NaN. No distance depends on the units of loss and
    logits. `nc2` and `nc3` are the values at the minimiser itself: zero for a simplex ETF,
    √(2 − 2√((K−1)/K)) for the orthogonal frame of MSE without bias, NaN at the origin.

    `matches` is None if no minimiser is known, if two tie (`GlobalMinimum.tied`), or if the
    minimiser's penalties are so small a part of f* that rounding hides its difference from the
    origin. False means that the point is not the predicted minimiser.
    """

    logit_distance: float
    classifier_distance: float
    penalty_distance: float
    nc2: float
    nc3: float
    kind: str = static()
    matches: bool | None = static()

    _printed = ("matches", "kind", "logit_distance", "classifier_distance", "penalty_distance")

    @property
    def is_origin(self) -> bool:
        """Has the point collapsed to the origin? Then directions in it are those of rounding."""
        return self.kind == "origin" and self.matches is True


@by_variant
def compare_geometry(
    problem: Problem,
    params: Params,
    minimum: GlobalMinimum | None = None,
    tol: float = 1e-3,
) -> GeometryMatch:
    """Measure how far a point is from the predicted minimisers, for any geometry of them.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        minimum: `global_minimum(problem)`, computed if None.
        tol: The largest relative distance that counts as a match.

    Returns:
        The distances, and whether they match (None if no minimiser is known).

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    return match_with(problem, params, minimum or global_minimum(problem), tol)


def match_with(
    problem: Problem, params: Params, minimum: GlobalMinimum, tol: float
) -> GeometryMatch:
    """The distances to a given minimiser."""
    if minimum.kind == "unknown":
        nan = float("nan")
        return GeometryMatch(nan, nan, nan, nan, nan, "unknown", None)
    target = minimum.params(None, params.W.dtype)
    with np.errstate(all="ignore"):  # a point that is not finite has distances that are not
        found = _distances(problem, params, target, minimum.value)
    logit_distance, classifier_distance, penalty_distance, nc2, nc3, share = map(float, found)
    distances = logit_distance, penalty_distance
    if minimum.rank:  # the origin has no Gram matrix to compare
        distances += (classifier_distance,)
    # Rounding changes gradients by eps, and logits by eps f*/μ; the logits are `share` of f*/μ.
    noise = _ROUNDINGS * float(np.finfo(params.W.dtype).eps)
    is_resolved = share * tol >= noise if minimum.rank else minimum.value > 0
    matches = all(x <= tol for x in distances) if is_resolved and not minimum.tied else None
    return GeometryMatch(
        logit_distance, classifier_distance, penalty_distance, nc2, nc3, minimum.kind, matches
    )


def collapse_metrics(problem: Problem, params: Params, match: GeometryMatch) -> NCMetrics:
    """The NC metrics of a point, all NaN where it has collapsed to the origin."""
    found = nc_metrics(problem, params)
    return undefined(found) if match.is_origin else found


def undefined(metrics: NCMetrics) -> NCMetrics:
    """All of them NaN."""
    return jax.tree.map(lambda x: np.full_like(np.asarray(x), np.nan), metrics)


def _distances(problem: Problem, params: Params, target: Params, value: float) -> tuple[Any, ...]:
    """The fields of a `GeometryMatch` in order, and the penalties of W* and H* over f*."""
    predicted = nc_metrics(problem, target)
    # Double precision on the host: nothing is compiled, and the point loses no digits.
    params, target = (jax.tree.map(lambda x: np.asarray(x, float), x) for x in (params, target))
    roots = np.ones(problem.num_columns)
    if problem.column_weights is not None:
        roots = np.sqrt(np.asarray(problem.column_weights, float))
    # Columns times √c_i, so that norms are those of the repeated columns.
    Z, Z_star = (x.W @ x.H for x in (params, target))
    V, V_star = (
        z if x.b is None else z + np.outer(x.b, roots) for z, x in ((Z, params), (Z_star, target))
    )
    if problem.loss.shift_invariant:
        V, V_star, Z_star = (x - np.mean(x, axis=0) for x in (V, V_star, Z_star))
    lam_w, lam_h = float(problem.lam_w), float(problem.lam_h)
    here, there = (
        0.5 * (lam_w * np.sum(x.W**2) + lam_h * np.sum(x.H**2)) for x in (params, target)
    )
    gram, gram_star = params.W @ params.W.T, target.W @ target.W.T
    gram_size = max(np.linalg.norm(gram_star), np.linalg.norm(gram))
    logit_size = np.linalg.norm(Z_star) if there else value / float(problem.mu())
    return (
        np.linalg.norm(V - V_star) / logit_size,
        np.linalg.norm(gram - gram_star) / gram_size if there else np.nan,
        np.abs(here - there) / (there or value),
        predicted.nc2,
        predicted.nc3,
        there / np.float64(value),
    )
