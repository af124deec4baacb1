r"""How far a point is from the predicted minimisers, whatever their geometry and size.

The three distances below are relative to the minimiser, so that loss and logits may have any units:
under MSE with targets of 1e-4 as under cross-entropy just below its collapse threshold, where the
minimiser is small, a point of the right size in the wrong place is no match.

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

#: Roundings in units of eps that a gradient is taken to carry.
_ROUNDINGS = 64


@pytree()
class GeometryMatch(Shown):
    """How far a point is from the predicted minimisers, whatever their geometry and size.

    `logit_distance` = ‖V − V*‖_F / ‖W*H*‖_F, both up to a common shift of the logits where the loss
    ignores it; `classifier_distance` = ‖WWᵀ − W*W*ᵀ‖_F / max(‖W*W*ᵀ‖_F, ‖WWᵀ‖_F);
    `penalty_distance` is the difference of the penalties of W and H relative to the minimiser's,
    which sees features outside the row space of W. Where the minimiser is the origin, logits count
    relative to f*/μ, the most that any point no higher than the origin has, penalties relative to
    f*, and the classifier's distance is NaN. All are invariant under rotations and under the units
    of loss and logits. `nc2`, `nc3` are the values that the minimiser itself has: zero for a
    simplex ETF, √(2 − 2√((K−1)/K)) for the orthogonal frame of MSE without bias, NaN at the origin.

    `matches` is None where no minimiser is known, where two tie (`GlobalMinimum.tied`), and where
    rounding decides: the minimiser's penalties are so small a part of f* that it cannot be told
    from the origin. False says that the point is not the predicted minimiser.
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


def compare_geometry(
    problem: Problem,
    params: Params,
    minimum: GlobalMinimum | None = None,
    tol: float = 1e-3,
) -> GeometryMatch:
    """Measure how far a point is from the predicted minimisers, whatever their geometry.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        minimum: `global_minimum(problem)`, computed if None.
        tol: The largest relative distance that counts as a match.

    Returns:
        The distances, and whether they match; None where no minimiser is known.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    minimum = minimum or global_minimum(problem)
    if minimum.kind == "unknown":
        nan = float("nan")
        return GeometryMatch(nan, nan, nan, nan, nan, "unknown", None)
    target = minimum.params(jax.random.key(0), params.W.dtype)
    with np.errstate(all="ignore"):  # a point that is not finite has distances that are not
        found = _distances(problem, params, target, minimum.value)
    logit_distance, classifier_distance, penalty_distance, nc2, nc3, share = map(float, found)
    distances = logit_distance, penalty_distance
    if minimum.rank:  # the origin has no Gram matrix to compare
        distances += (classifier_distance,)
    # Rounding moves gradients by eps, and logits by as much of f*/μ, of which they are `share`.
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
    """The numbers of a `GeometryMatch`, in its order, and the penalties of W* and H* over f*."""
    predicted = nc_metrics(problem, target)
    # On the host and in double precision: nothing to compile, and no digits of the point are lost.
    params, target = (jax.tree.map(lambda x: np.asarray(x, float), x) for x in (params, target))
    roots = 1.0
    if problem.column_weights is not None:
        roots = np.sqrt(np.asarray(problem.column_weights, float))
    Z, Z_star = (x.W @ x.H / roots for x in (params, target))
    V, V_star = (z if x.b is None else z + x.b[:, None] for z, x in ((Z, params), (Z_star, target)))
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
