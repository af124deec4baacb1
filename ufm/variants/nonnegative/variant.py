"""Who answers for problems with H ≥ 0."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ufm.model.constraints import NonNegative
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import Variant, register
from ufm.solvers._loop import Method
from ufm.variants.nonnegative import projected_gradient, projected_newton
from ufm.variants.nonnegative.certificate import cone_certify
from ufm.variants.nonnegative.free_hessian import cone_dense_hessian, cone_hvp, cone_inertia
from ufm.variants.nonnegative.match import cone_match
from ufm.variants.nonnegative.minimum import cone_minimum
from ufm.variants.nonnegative.spectrum import cone_spectrum
from ufm.variants.nonnegative.starts import check_nonnegative, nonnegative_start
from ufm.variants.nonnegative.thresholds import cone_minority, cone_threshold


class NonNegativeFeatures(Variant):
    """H ≥ 0 and both factors decayed; a bias, class counts and column weights as they are."""

    name = "non-negative features"
    shares = frozenset({"frame_metrics", "nc_metrics", "objective", "origin"})
    methods: Mapping[str, Method] = MappingProxyType(
        {"newton": projected_newton, "gradient_descent": projected_gradient}
    )

    init_params = staticmethod(nonnegative_start)
    certify = staticmethod(cone_certify)
    global_minimum = staticmethod(cone_minimum)
    hvp = staticmethod(cone_hvp)
    dense_hessian = staticmethod(cone_dense_hessian)
    inertia = staticmethod(cone_inertia)
    spectrum = staticmethod(cone_spectrum)
    compare_geometry = staticmethod(cone_match)
    collapse_threshold = staticmethod(cone_threshold)
    minority_thresholds = staticmethod(cone_minority)

    def accepts(self, problem: Problem) -> bool:
        only = problem.classifier is None and not problem.lam_hidden
        return only and isinstance(problem.features, NonNegative)

    def check_start(self, params: Params) -> None:
        check_nonnegative(params)

    def default_tol(self, problem: Problem) -> Any:
        mu = problem.mu(np.float64)
        return np.where(mu > 0, np.minimum(1e-10, 1e-6 * mu), 1e-10)


register(NonNegativeFeatures())
