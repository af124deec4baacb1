"""Examine a trained last layer: certificate, metrics, and distance from the prediction.

>>> layer = as_classifier(solution.params.W, solution.params.H, problem.labels, loss="ce",
...                       lam_w=5e-3, b=solution.params.b, lam_b=1e-2)
>>> examination = examine(layer)
>>> examination.certificate.verdict, float(examination.nearest.relative) < 1e-6
(<Verdict.GLOBAL_MINIMUM: 0>, True)
"""

import dataclasses
import math

from ufm._support.shown import Shown
from ufm.certificates.certificate import Certificate, certify, check_tolerance
from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.last_layer.centring import centred_layer
from ufm.last_layer.read import Classifier
from ufm.minimum.geometry_match import compare_geometry, undefined
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.minimum.nearest_minimiser import NearestMinimiser, nearest_minimiser
from ufm.model.problem import objective


@dataclasses.dataclass(frozen=True, repr=False)
class Examination(Shown):
    """A last layer with its certificate, NC metrics and predicted minimum.

    `tol` is the requested relative tolerance, None the default of `certify`. `nearest` is None if
    no minimiser is known (`minimum.reason` says why).

    All fields concern `layer` as given. `centred` is the examination of the layer with the mean of
    its features moved into a free bias, which changes no logit and no NC metric
    (`ufm.last_layer.centring`). It is None if the mean is zero, or all features are equal. For a
    layer on top of a ReLU it is the relevant one.
    """

    layer: Classifier
    tol: float | None
    certificate: Certificate
    metrics: NCMetrics
    minimum: GlobalMinimum
    nearest: NearestMinimiser | None
    centred: "Examination | None" = None

    _printed = ("certificate", "metrics", "minimum", "nearest", "centred", "layer")


def examine(layer: Classifier, tol: float | None = None) -> Examination:
    """Certify a last layer, measure its collapse, and find the nearest predicted minimiser.

    The layer is examined as given, and also with the mean of its features moved into a free bias.

    Args:
        layer: From `as_classifier` or `load_classifier`.
        tol: The tolerance of the gap, as for `certify`.

    Returns:
        The certificate, the NC metrics, the global minimum and the nearest minimiser.

    Raises:
        ValueError: f overflows at the point, or `certify` refuses `tol`.
    """
    check_tolerance(tol)
    value = float(objective(layer.problem, layer.params))
    if not math.isfinite(value):
        raise ValueError(f"f is {value} at this point: entries of W and H are too large, rescale")
    metrics = nc_metrics(layer.problem, layer.params)
    moved = centred_layer(layer)
    centred = None if moved is None else _examined(moved, tol, metrics)
    return dataclasses.replace(_examined(layer, tol, metrics), centred=centred)


def _examined(layer: Classifier, tol: float | None, metrics: NCMetrics) -> Examination:
    problem, params = layer.problem, layer.params
    minimum = global_minimum(problem)
    if minimum.kind == "origin" and compare_geometry(problem, params, minimum).is_origin:
        metrics = undefined(metrics)
    return Examination(
        layer=layer,
        tol=tol,
        certificate=certify(problem, params, tol),
        metrics=metrics,
        minimum=minimum,
        nearest=nearest_minimiser(problem, params, minimum),
    )
