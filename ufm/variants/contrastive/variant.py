"""The answers of contrastive problems to the public verbs, on the sphere and on its part H ≥ 0."""

from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from ufm._support.quick_jit import is_traced
from ufm.model.params import Params, Scalar
from ufm.model.problem import check_shapes
from ufm.model.variant import Variant, register
from ufm.solvers.trust_region import TrustRegion
from ufm.variants.contrastive.certificate import certified
from ufm.variants.contrastive.geometry import NonNegativeSphere, UnitSphere
from ufm.variants.contrastive.metrics import match_of, metrics_at
from ufm.variants.contrastive.minimum import minimum_of
from ufm.variants.contrastive.objective import (
    check_point,
    hessian_product,
    random_start,
    value_at,
)
from ufm.variants.contrastive.problem import ContrastiveProblem


class Contrastive(Variant):
    name = "a supervised contrastive loss"
    shares = frozenset({"frame_metrics"})
    methods = MappingProxyType({"newton": TrustRegion(UnitSphere())})

    init_params = staticmethod(random_start)
    certify = staticmethod(certified)
    global_minimum = staticmethod(minimum_of)
    nc_metrics = staticmethod(metrics_at)
    compare_geometry = staticmethod(match_of)

    def accepts(self, problem: Any) -> bool:
        return isinstance(problem, ContrastiveProblem) and problem.features is None

    def default_tol(self, problem: ContrastiveProblem) -> Any:
        """1e-10, or 1e-6 of a rival's probability at a simplex ETF, above rounding if less.

        At low temperatures this is the scale of all gradients.
        """
        classes, xp = problem.num_classes, jnp if is_traced(problem) else np
        tau = xp.asarray(problem.temperature)
        rival = xp.exp(-classes / ((classes - 1) * tau))
        return xp.clip(1e-6 * rival, xp.minimum(1e-14 / tau, 1e-10), 1e-10)

    def objective(self, problem: ContrastiveProblem, params: Params) -> Scalar:
        check_point(problem, params)
        return value_at(problem, params)

    def hvp(
        self, problem: ContrastiveProblem, params: Params, direction: Params, part: str = "all"
    ) -> Params:
        """The Riemannian Hessian of the tangent part of a direction."""
        if part != "all":
            raise ValueError(f"part must be 'all' in a problem with {self.name}, got {part!r}")
        check_point(problem, params)
        check_shapes(problem, direction)
        return hessian_product(problem, params, direction)


class NonNegativeContrastive(Contrastive):
    name = "a supervised contrastive loss of features H ≥ 0"
    methods = MappingProxyType({"newton": TrustRegion(NonNegativeSphere())})

    def accepts(self, problem: Any) -> bool:
        return isinstance(problem, ContrastiveProblem) and problem.features is not None


SPHERE, NON_NEGATIVE = Contrastive(), NonNegativeContrastive()
register(SPHERE)
register(NON_NEGATIVE)
