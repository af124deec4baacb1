"""How far a point is from the predicted minimiser: by logits and by the Gram matrices of both."""

from typing import Any

import numpy as np

from ufm._support.pytree import pytree
from ufm.collapse.metrics import nc_metrics
from ufm.minimum.geometry_match import GeometryMatch
from ufm.minimum.global_minimum import global_minimum
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.objective import objective
from ufm.model.problem import Params, Problem, check_shapes
from ufm.variants.norms.means import on_host

#: Values that differ by less than this fraction are those of two minimisers.
_SAME_VALUE = 1e-10


@pytree()
class NormMatch(GeometryMatch):
    """`GeometryMatch` with `feature_distance`, and penalties of the decayed factor only.

    `feature_distance` is that of class means, ‖H̄ᵀH̄ − H̄*ᵀH̄*‖_F/‖H̄*ᵀH̄*‖_F, or ‖H − H̄‖_F/‖H‖_F
    where deviations from them are larger. `matches` is None where minimisers are not unique, as
    where another geometry has the same value.
    """

    feature_distance: float = np.nan

    _printed = ("matches", "kind", "logit_distance", "classifier_distance", "feature_distance")


def compare_geometry(
    problem: Problem, params: Params, minimum: GlobalMinimum | None = None, tol: float = 1e-3
) -> NormMatch:
    """`ufm.compare_geometry` on norm sets."""
    check_shapes(problem, params)
    minimum = minimum or global_minimum(problem)
    if not minimum.is_exact:
        nan = float("nan")
        return NormMatch(nan, nan, nan, nan, nan, "unknown", None)
    target = minimum.params(None)
    predicted = nc_metrics(problem, target)
    here, there = (_seen(problem, x) for x in (params, target))
    with np.errstate(all="ignore"):  # a point that is not finite has distances that are not
        logit, classifier, features, penalty = (
            float(np.linalg.norm(x - y) / (np.linalg.norm(y) or 1.0))
            for x, y in zip(here, there, strict=True)
        )
        features = max(features, _spread(problem, params))
    found = all(x <= tol for x in (logit, classifier, features, penalty))
    excess = float(objective(problem, params)) - minimum.value
    other = minimum.tied or (not found and excess <= _SAME_VALUE * (1.0 + abs(minimum.value)))
    return NormMatch(
        logit_distance=logit,
        classifier_distance=classifier,
        penalty_distance=penalty,
        nc2=float(predicted.nc2),
        nc3=float(predicted.nc3),
        kind=minimum.kind,
        matches=None if other else found,
        feature_distance=features,
    )


def _means(problem: Problem, H: Any) -> np.ndarray:
    """√n_k h̄_k as columns."""
    weights = problem.column_weights
    counts = np.ones(H.shape[1]) if weights is None else np.asarray(weights)
    shares = np.sqrt(counts / np.asarray(class_sizes(problem))[problem.labels])
    return (H * shares) @ np.eye(problem.num_classes)[problem.labels]


def _spread(problem: Problem, params: Params) -> float:
    """‖H − H̄‖/‖H‖: of H of norm ‖H‖, what is not in the class means."""
    H = np.asarray(params.H, float)
    within = np.linalg.norm(H) ** 2 - np.linalg.norm(_means(problem, H)) ** 2
    return float(np.sqrt(max(within, 0.0)) / np.linalg.norm(H))


def _seen(problem: Problem, params: Params) -> tuple[Any, ...]:
    """What is compared: V of the means with weights √n_k, Gram matrices, and the penalty."""
    W, H, b = on_host(params)
    means = _means(problem, H)
    tau = 1.0 if problem.temperature is None else float(problem.temperature)
    V = W @ means / tau
    if b is not None:
        V = V + np.outer(b, np.sqrt(np.asarray(class_sizes(problem))))
    if problem.loss.shift_invariant:
        V = V - np.mean(V, axis=0)
    lam_w, lam_h = (0.0 if x is None else float(x) for x in (problem.lam_w, problem.lam_h))
    penalty = 0.5 * (lam_w * np.sum(W**2) + lam_h * np.sum(H**2))
    return V, W @ W.T, means.T @ means, np.array([penalty])
