"""All that can be said of somebody's last layer: what it is, and how far from the prediction.

>>> examination = examine(load_classifier("last_layer.npz"))
>>> examination.certificate.verdict, examination.metrics.nc1, examination.nearest.relative
"""

import dataclasses
import math

from ufm.certificate import Certificate, certify, check_tolerance
from ufm.classifier import Classifier
from ufm.geometry import NCMetrics, nc_metrics
from ufm.minimum import GlobalMinimum, global_minimum
from ufm.nearest import NearestMinimiser, nearest_minimiser
from ufm.problem import objective


@dataclasses.dataclass(frozen=True)
class Examination:
    """A last layer with its certificate, NC metrics and predicted minimum.

    `tol` is the relative tolerance asked for, None the default of `certify`. `nearest` is None
    where no minimiser is known (`minimum.reason` says why).
    """

    layer: Classifier
    tol: float | None
    certificate: Certificate
    metrics: NCMetrics
    minimum: GlobalMinimum
    nearest: NearestMinimiser | None


def examine(layer: Classifier, tol: float | None = None) -> Examination:
    """Certify a last layer, measure its collapse, and find the nearest predicted minimiser.

    `tol` as for `certify`, whose errors it raises; `ValueError` too where f overflows.
    """
    problem, params = layer.problem, layer.params
    check_tolerance(tol)
    value = float(objective(problem, params))
    if not math.isfinite(value):
        raise ValueError(f"f is {value} at this point: entries of W and H are too large, rescale")
    minimum = global_minimum(problem)
    return Examination(
        layer=layer,
        tol=tol,
        certificate=certify(problem, params, tol),
        metrics=nc_metrics(problem, params),
        minimum=minimum,
        nearest=nearest_minimiser(problem, params, minimum),
    )
