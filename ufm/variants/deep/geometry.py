r"""Compare a point of a deep linear model with the best known point, up to permutations of classes.

A structure of less than full symmetry has many copies, one for each way to choose its classes. So
the distances are those of singular values s of Z, ‖s − s*‖/‖s*‖, of the squared ones of W̃, and of
the decay of all factors; a point matches if f also agrees.
"""

import numpy as np

from ufm.collapse.metrics import nc_metrics
from ufm.minimum.geometry_match import GeometryMatch
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.variants.deep.derivatives import deep_objective, total_decay
from ufm.variants.deep.factors import chain, end_to_end, factors_of, mean_decay, without_hidden
from ufm.variants.deep.minimum import deep_global_minimum


def compare(
    problem: Problem, params: Params, minimum: GlobalMinimum | None = None, tol: float = 1e-3
) -> GeometryMatch:
    """As `ufm.compare_geometry`, by singular values: structures have a copy for each choice of
    classes.
    """
    check_shapes(problem, params)
    minimum = minimum or deep_global_minimum(problem)
    if minimum.kind == "unknown":
        nan = float("nan")
        return GeometryMatch(nan, nan, nan, nan, nan, "unknown", None)
    target = minimum.params(None, params.W.dtype)
    with np.errstate(all="ignore"):  # a point that is not finite has distances that are not
        return _compared(problem, params, target, minimum, tol)


def _compared(
    problem: Problem, params: Params, target: Params, minimum: GlobalMinimum, tol: float
) -> GeometryMatch:
    here, there = _sizes(params), _sizes(target)
    grams = [_sizes(x, of_classifier=True) ** 2 for x in (params, target)]
    decays = [float(total_decay(problem, x)) for x in (params, target)]
    # The largest norm of Z of points that are not above the origin, if the best is the origin.
    samples = float(np.sum(np.asarray(class_sizes(problem))))
    size = float(np.linalg.norm(there)) if minimum.rank else samples**0.5
    scale = decays[1] if minimum.rank else minimum.value
    distances = (
        float(np.linalg.norm(here - there)) / size,
        float(np.linalg.norm(grams[0] - grams[1]) / np.linalg.norm(grams[1]))
        if minimum.rank
        else np.nan,
        abs(decays[0] - decays[1]) / scale,
    )
    value = abs(float(deep_objective(problem, params)) - minimum.value) / abs(minimum.value)
    known = [x for x in (*distances, value) if minimum.rank or not np.isnan(x)]
    matches = all(x <= tol for x in known) if float(mean_decay(problem)) > 0 else None
    metrics = nc_metrics(without_hidden(problem), end_to_end(target))
    return GeometryMatch(*distances, float(metrics.nc2), float(metrics.nc3), minimum.kind, matches)


def _sizes(params: Params, of_classifier: bool = False) -> np.ndarray:
    factors = [np.asarray(F) for F in factors_of(params)]
    matrix = chain(factors[:-1] if of_classifier else factors)
    if not np.all(np.isfinite(matrix)):
        return np.full(min(matrix.shape), np.nan)
    return np.linalg.svd(matrix, compute_uv=False)
