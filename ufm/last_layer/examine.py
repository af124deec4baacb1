"""Examine a trained last layer: certificate, metrics, and distance from the prediction.

A layer in memory is examined as any point is. A large one is read in blocks
(`ufm.last_layer.streaming`), and only a global minimum is proven: neither directions of descent nor
curvatures are sought.

>>> layer = as_classifier(solution.params.W, solution.params.H, problem.labels, loss="ce",
...                       lam_w=5e-3, b=solution.params.b, lam_b=1e-2)
>>> examination = examine(layer)
>>> examination.certificate.verdict, float(examination.nearest.relative) < 1e-6
(<Verdict.GLOBAL_MINIMUM: 0>, True)
"""

import dataclasses
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ufm._support.shown import Shown
from ufm._support.threads import in_this_precision, one_blas_thread
from ufm.certificates.certificate import Certificate, certify, check_tolerance
from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.collapse.target_metrics import TargetMetrics, target_metrics
from ufm.collapse.uncentred import FrameMetrics, frame_metrics
from ufm.last_layer.centring import centred_layer
from ufm.last_layer.read import Classifier
from ufm.last_layer.streaming.certificate import Blocks, certificate_of, is_hidden
from ufm.last_layer.streaming.deviations import deviations, metrics_of
from ufm.last_layer.streaming.gap_sums import Streamed, gap_sums, precision
from ufm.last_layer.streaming.layer import LargeLayer, centred_large_layer
from ufm.last_layer.streaming.passes import OnRows
from ufm.minimum.geometry_match import GeometryMatch, compare_geometry, undefined
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.minimum.minimiser import nothing_known
from ufm.minimum.nearest_minimiser import NearestMinimiser, nearest_minimiser
from ufm.model.constraints import NonNegative
from ufm.model.objective import objective
from ufm.model.problem import Problem
from ufm.model.variant import answers

#: Called with the name of what is computed next.
OnStage = Callable[[str], None]
#: Largest m·K² with m different targets for which f* is computed: a second.
_MOST_TARGETS = 10_000


@dataclasses.dataclass(frozen=True, repr=False)
class Examination(Shown):
    """A last layer with its certificate, NC metrics and predicted minimum.

    `tol` is the requested relative tolerance, None the default of `certify`. `nearest` is None if
    no minimiser is known (`minimum.reason` says why).

    All fields concern `layer` as given. `centred` is the examination of the layer with the mean of
    its features moved into a free bias, which changes no logit and no NC metric
    (`ufm.last_layer.centring`). It is None if the mean is zero, or all features are equal. For a
    layer on top of a ReLU it is the relevant one.

    `targets` has the collapse onto soft labels, and is None for classes, and in sets.

    Of a layer in sets (`ufm.last_layer.sets`) `match` compares it with the predicted minimisers by
    logits and Gram matrices, `frames` has the cosines of non-negative class means, and `centred` is
    None. Both are None for others.

    `blocks` is what `write_dossier` needs of a layer that was read in blocks, else None.
    """

    layer: Classifier | LargeLayer
    tol: float | None
    certificate: Certificate
    metrics: NCMetrics
    minimum: GlobalMinimum
    nearest: NearestMinimiser | None
    centred: "Examination | None" = None
    blocks: Blocks | None = None
    targets: TargetMetrics | None = None
    match: GeometryMatch | None = None
    frames: FrameMetrics | None = None

    _printed = ("certificate", "metrics", "minimum", "nearest", "centred", "layer")


def examine(
    layer: Classifier | LargeLayer,
    tol: float | None = None,
    on_rows: OnRows | None = None,
    on_stage: OnStage | None = None,
) -> Examination:
    """Certify a last layer, measure its collapse, and find the nearest predicted minimiser.

    The layer is examined as given, and also with the mean of its features moved into a free bias.

    Args:
        layer: From `as_classifier` or `load_classifier`.
        tol: The tolerance of the gap, as for `certify`.
        on_rows: As for `load_classifier`.
        on_stage: Called with what is computed next: at K = 1000 a stage takes seconds.

    Returns:
        The certificate, the NC metrics, the global minimum and the nearest minimiser.

    Raises:
        ValueError: f overflows at the point, or `certify` refuses `tol`.
    """
    check_tolerance(tol)
    tell = on_stage or (lambda stage: None)
    if isinstance(layer, LargeLayer):
        return _examine_large(layer, tol, on_rows, tell)
    value = float(objective(layer.problem, layer.params))
    _check_value(value)
    tell("metrics")
    metrics = nc_metrics(layer.problem, layer.params)
    moved = centred_layer(layer)
    centred = None
    if moved is not None:
        centred = _examined(moved, tol, metrics, lambda stage: tell(f"{stage}, centred features"))
    return dataclasses.replace(_examined(layer, tol, metrics, tell), centred=centred)


def _check_value(value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"f is {value} at this point: entries of W and H are too large, rescale")


def _examined(
    layer: Classifier, tol: float | None, metrics: NCMetrics, tell: OnStage
) -> Examination:
    problem, params = layer.problem, layer.params
    tell("global minimum")
    minimum = _minimum(problem)
    in_sets = problem.variant is not None
    match = None
    if in_sets or minimum.kind == "origin":
        match = compare_geometry(problem, params, minimum)
        metrics = undefined(metrics) if match.is_origin else metrics
    tell("certificate")
    certificate = certify(problem, params, tol)
    tell("nearest minimiser")
    near = answers(problem, "nearest_minimiser")
    of_targets = problem.has_targets and answers(problem, "target_metrics")
    # Of a cosine head NC2 and NC3 say the same.
    uncentred = isinstance(problem.features, NonNegative) and not problem.has_targets
    return Examination(
        layer=layer,
        tol=tol,
        certificate=certificate,
        metrics=metrics,
        minimum=minimum,
        nearest=nearest_minimiser(problem, params, minimum) if near else None,
        targets=target_metrics(problem, params) if of_targets else None,
        match=match if in_sets else None,
        frames=frame_metrics(problem, params) if uncentred else None,
    )


def _minimum(problem: Problem) -> GlobalMinimum:
    """f*, but not for soft labels with so many different rows that it takes longer than the rest.

    No averaging over classes then makes the problem smaller.
    """
    groups, outputs = problem.num_classes, problem.num_outputs
    if problem.has_targets and groups * outputs**2 > _MOST_TARGETS:
        return nothing_known(
            problem, f"not computed for {groups} different targets; the gap is to a proven bound"
        )
    return global_minimum(problem)


# Threads of LAPACK would wait for those of XLA.
@one_blas_thread()
def _examine_large(
    layer: LargeLayer, tol: float | None, on_rows: OnRows | None, tell: OnStage
) -> Examination:
    moved, dtype = centred_large_layer(layer), precision(layer)
    layers = [x for x in (layer, moved) if x is not None]
    views = _large_views(layers, tol, gap_sums(layer, dtype, on_rows), tell)
    hidden = any(is_hidden(x, view.certificate) for x, view in zip(layers, views, strict=True))
    if hidden and dtype == np.float32:
        # Single precision is not enough: read the features once more.
        views = _large_views(layers, tol, gap_sums(layer, np.dtype(float), on_rows), tell)
    first, *other = views
    return dataclasses.replace(first, centred=other[0] if other else None)


def _large_views(
    layers: list[LargeLayer], tol: float | None, sums: Streamed, tell: OnStage
) -> list[Examination]:
    tell("certificate and global minimum")
    metrics = metrics_of(layers[0], sums)

    def view(layer: LargeLayer) -> Examination:
        return _large_view(layer, tol, metrics, sums)

    with ThreadPoolExecutor(max_workers=len(layers)) as pool:
        return list(pool.map(in_this_precision(view), layers))


def _large_view(
    layer: LargeLayer, tol: float | None, metrics: NCMetrics, sums: Streamed
) -> Examination:
    apart, (small, means) = deviations(layer, sums), layer.columns()
    certificate = certificate_of(layer, sums, apart, tol)
    blocks = Blocks(apart.mean_gradients, metrics)
    _check_value(float(certificate.value))
    minimum = global_minimum(layer.problem)
    reduced = dataclasses.replace(minimum, problem=small)
    if minimum.kind == "origin":
        match = compare_geometry(small, means, reduced)
        penalty = 0.5 * float(small.lam_h) * apart.within
        if match.is_origin and penalty <= 1e-3 * minimum.value:
            metrics = undefined(metrics)
    nearest = nearest_minimiser(small, means, reduced, apart.within)
    return Examination(layer, tol, certificate, metrics, minimum, nearest, blocks=blocks)
