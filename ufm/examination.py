"""All that can be said of somebody's last layer: what it is, and how far from the prediction.

>>> examination = examine(load_classifier("last_layer.npz"))
>>> examination.certificate.verdict, examination.metrics.nc1, examination.nearest.relative
"""

import dataclasses

from ufm.certificate import Certificate, certify
from ufm.classifier import Classifier
from ufm.geometry import NCMetrics, nc_metrics
from ufm.minimum import GlobalMinimum, global_minimum
from ufm.nearest import NearestMinimiser, nearest_minimiser


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

    `tol` as for `certify`, whose errors it raises.
    """
    problem, params = layer.problem, layer.params
    minimum = global_minimum(problem)
    return Examination(
        layer=layer,
        tol=tol,
        certificate=certify(problem, params, tol),
        metrics=nc_metrics(problem, params),
        minimum=minimum,
        nearest=nearest_minimiser(problem, params, minimum),
    )
