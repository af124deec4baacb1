"""Which verbs the variant answers, and with what."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

from ufm._support.namespace import settled
from ufm._support.quick_jit import is_traced
from ufm.collapse.margin_loss import MarginLoss
from ufm.collapse.symmetric_solution import CollapseThreshold
from ufm.minimum.minority_thresholds import MinorityThresholds
from ufm.model.constraints import Ball, Budget, Sphere
from ufm.model.problem import Params, Problem
from ufm.model.problem_batch import problem_batch
from ufm.model.variant import Variant
from ufm.solvers.trust_region import TrustRegion
from ufm.variants.norms import comparison, curvature, minimum, start
from ufm.variants.norms import spectrum as spectra
from ufm.variants.norms.certificate import NormCertificate, certified
from ufm.variants.norms.closed_form import balanced_minimum, bound_of
from ufm.variants.norms.geometry import GEOMETRY
from ufm.variants.norms.gradient_descent import GradientDescent

_BOUNDED = (Sphere, Ball, Budget)
#: Rounding of gradients: a smaller tolerance cannot be reached.
_LEAST_TOL = 1e-15


class Norms(Variant):
    """Classifier rows or features of confined norm."""

    name = "factors of confined norm"
    shares = frozenset({"frame_metrics", "objective", "nc_metrics", "nearest_minimiser"})
    methods: Mapping[str, Any] = {
        "newton": TrustRegion(GEOMETRY),
        "gradient_descent": GradientDescent(),
    }

    def accepts(self, problem: Problem) -> bool:
        given = tuple(problem.constraints.values())
        return bool(given) and all(isinstance(x, _BOUNDED) for x in given)

    #: The minimum that is known without a run, up to its dimension; None otherwise.
    closed_form = staticmethod(balanced_minimum)
    init_params = staticmethod(start.feasible_start)
    global_minimum = staticmethod(minimum.global_minimum)
    compare_geometry = staticmethod(comparison.compare_geometry)
    hvp = staticmethod(curvature.hvp)
    dense_hessian = staticmethod(curvature.dense_hessian)
    inertia = staticmethod(curvature.inertia)
    spectrum = staticmethod(spectra.spectrum)

    def default_tol(self, problem: Problem) -> Any:
        """1e-10, or 1e-6 |φ'(s*)| where that is smaller: the forces at a low temperature are."""
        known = None
        if not is_traced(problem) and problem_batch(problem) is None:
            known = self.closed_form(problem)
        if known is None:
            return 1e-10
        phi = MarginLoss(settled(problem.loss), problem.num_classes)
        force = abs(float(phi.slope(np.asarray(known.margin))))
        return min(1e-10, max(1e-6 * force, _LEAST_TOL))

    def certify(
        self, problem: Problem, params: Params, tol: float | Array | None = None
    ) -> NormCertificate:
        """`ufm.certify`, with the closed form as a second bound."""
        traced = is_traced((problem, params)) or problem_batch(problem) is not None
        known = None if traced else self.closed_form(problem)
        return certified(problem, params, tol, bound_of(problem, known))

    def collapse_threshold(self, problem: Problem) -> CollapseThreshold:
        """μ = ∞: the origin is no minimum at any decay, because penalties are quadratic in ρ."""
        return CollapseThreshold(np.asarray(np.inf), np.asarray(False))

    def minority_thresholds(self, problem: Problem, exact_only: bool = False) -> MinorityThresholds:
        """No rows: no threshold is known."""
        total = float(np.sum(np.asarray(problem.samples(float))))
        why = "no decay at which classes merge is known for factors of confined norm"
        return MinorityThresholds(mu=np.nan, num_samples=total, rows=(), reason=why)
