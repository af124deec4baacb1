r"""NC1, NC2 and NC4 without a classifier, and the distance to the predicted minimisers.

NC1 is that of `ufm.collapse.metrics`; NC2 is its distance of the centred class means, instead of
classifiers, from a simplex ETF; NC4 is the share of samples whose nearest class mean is that of
another class. NC3 is NaN.

    >>> contrastive = ContrastiveProblem(class_counts=(5, 5, 5, 5), dim=3)
    >>> found = nc_metrics(contrastive, global_minimum(contrastive).params(key))
    >>> max(float(x) for x in (found.nc1, found.nc2, found.nc4)) < 1e-12
    True
"""

from typing import Any

import numpy as np

from ufm._support.namespace import namespace
from ufm._support.quick_jit import is_traced
from ufm.collapse.metrics import (
    NCMetrics,
    are_distinct,
    decisions,
    mean_directions,
    metrics_of_means,
)
from ufm.minimum.geometry_match import GeometryMatch
from ufm.model.params import Params
from ufm.variants.contrastive.dual_bound import cosines
from ufm.variants.contrastive.minimum import ContrastiveMinimum, minimum_of
from ufm.variants.contrastive.objective import check_point
from ufm.variants.contrastive.problem import ContrastiveProblem


def metrics_at(problem: ContrastiveProblem, params: Params) -> NCMetrics:
    """NC1, NC2 and NC4 at a point; see `ufm.nc_metrics`."""
    check_point(problem, params)
    if is_traced(params):
        return _metrics_of(problem, params.H)
    with np.errstate(all="ignore"):  # what is undefined is NaN
        return _metrics_of(problem, np.asarray(params.H))


def _metrics_of(problem: ContrastiveProblem, H: Any) -> NCMetrics:
    xp, labels = namespace(H), problem.labels
    members = np.eye(problem.num_classes, dtype=H.dtype)[labels]
    means = H @ (members / members.sum(axis=0))
    global_mean = xp.mean(H, axis=1, keepdims=True)
    centred, deviations = means - global_mean, H - means @ members.T
    directions, inverse = mean_directions(centred)
    _, differ = decisions(members.T, H - global_mean, centred)
    count = np.asarray(H.shape[1], H.dtype)
    return metrics_of_means(
        centred.T,
        centred,
        labelled=False,
        distinct=are_distinct(centred, np.ones((), H.dtype)),
        within=xp.sum(deviations**2) / count,
        variance=xp.sum((directions.T @ deviations) ** 2, axis=1) / count,
        inverse=inverse,
        nc4=xp.mean(differ.astype(H.dtype)),
    )


def match_of(
    problem: ContrastiveProblem,
    params: Params,
    minimum: ContrastiveMinimum | None = None,
    tol: float = 1e-3,
) -> GeometryMatch:
    """The distance of the cosines X = HᵀH from those of the minimiser; see `ufm.compare_geometry`.

    `logit_distance` is ‖X − X*‖_F/‖X*‖_F over the pairs that f depends on: the logits are X/τ. With
    fixed batches X* need not be unique, and nothing is said of a match. The other distances belong
    to a classifier and to weight decay, and are NaN.
    """
    check_point(problem, params)
    minimum = minimum or minimum_of(problem)
    nan = float("nan")
    if minimum.kind == "unknown":
        return GeometryMatch(nan, nan, nan, nan, nan, "unknown", None)
    target = minimum.params(None, np.float64)
    seen = _seen(problem)
    X, X_star = (cosines(np.asarray(x.H, float)) * seen for x in (params, target))
    distance = float(np.linalg.norm(X - X_star) / np.linalg.norm(X_star))
    unique = problem.batches is None
    nc2 = float(metrics_at(problem, target).nc2)
    return GeometryMatch(
        distance, nan, nan, nc2, nan, minimum.kind, distance <= tol if unique else None
    )


def _seen(problem: ContrastiveProblem) -> np.ndarray:
    """Which pairs f depends on: all but those of two samples that are no anchors."""
    counts = np.array(problem.class_counts)[problem.labels]
    return (counts[:, None] > 1) | (counts[None, :] > 1)
