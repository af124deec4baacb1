"""The variant of the model with hidden layers: what it answers."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm._support.quick_jit import is_traced
from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.collapse.origin import origin
from ufm.hessian import Inertia
from ufm.hessian.confined import inertia_of
from ufm.model.params import Params, Scalar
from ufm.model.problem import Problem, check_shapes
from ufm.model.variant import Variant, register
from ufm.variants.deep.certificate import deep_certify
from ufm.variants.deep.derivatives import deep_objective, products, value_gradient_state
from ufm.variants.deep.factors import (
    decays_of,
    end_to_end,
    mean_decay,
    with_factors,
    without_hidden,
)
from ufm.variants.deep.geometry import compare
from ufm.variants.deep.hessian import all_eigenvalues, dense
from ufm.variants.deep.minimum import deep_global_minimum, deep_narrow_bound
from ufm.variants.deep.solver import METHODS
from ufm.variants.deep.spectrum import deep_spectrum
from ufm.variants.deep.start import draw_start
from ufm.variants.deep.thresholds import collapse_threshold_of, minority_thresholds_of


class DeepLinear(Variant):
    """Z = W F_1 ⋯ F_L H with a decay for each factor."""

    name = "hidden layers"
    methods = METHODS
    init_params = staticmethod(draw_start)
    certify = staticmethod(deep_certify)
    global_minimum = staticmethod(deep_global_minimum)
    narrow_bound = staticmethod(deep_narrow_bound)
    compare_geometry = staticmethod(compare)
    collapse_threshold = staticmethod(collapse_threshold_of)
    minority_thresholds = staticmethod(minority_thresholds_of)
    spectrum = staticmethod(deep_spectrum)
    shares = frozenset(
        {"critical_points", "explore", "frame_metrics", "layer_spectra", "trajectory"}
    )

    def accepts(self, problem: Problem) -> bool:
        return bool(problem.lam_hidden) and not problem.constraints

    def default_tol(self, problem: Problem) -> Any:
        """min(1e-10, 1e-6 Λ), with the geometric mean Λ of the decays; 1e-10 if it is 0."""
        mean = mean_decay(problem)
        xp = jnp if is_traced(problem) else np
        return xp.where(mean > 0, xp.minimum(1e-10, 1e-6 * mean), 1e-10)

    def objective(self, problem: Problem, params: Params) -> Scalar:
        check_shapes(problem, params)
        return deep_objective(problem, params)

    def origin(self, problem: Problem) -> Params:
        """All factors 0, and b as without hidden layers."""
        zeros = {name: np.zeros(shape) for name, shape in problem.shapes.items()}
        layers = range(len(problem.lam_hidden))
        factors = [zeros["W"], *(zeros[f"hidden[{i}]"] for i in layers), zeros["H"]]
        b = origin(without_hidden(problem)).b
        return with_factors(factors, b)

    def hvp(self, problem: Problem, params: Params, direction: Params, part: str = "all") -> Params:
        check_shapes(problem, params)
        check_shapes(problem, direction)
        _check_part(part)
        return products(problem, params, value_gradient_state(problem, params)[2], direction)

    def dense_hessian(
        self, problem: Problem, params: Params, part: str = "all"
    ) -> Float[np.ndarray, "P P"]:
        """In the order W, F_1, …, F_L, H row by row, b."""
        _check_part(part)
        return dense(problem, params)

    def inertia(
        self,
        problem: Problem,
        params: Params,
        shift: float = 0.0,
        tol: float | None = None,
        *,
        modulo_rotations: bool = False,
    ) -> Inertia:
        """From all eigenvalues, those of class means if features have collapsed."""
        if modulo_rotations:
            raise ValueError("modulo_rotations is for problems without hidden layers: leave it out")
        tol = 1e-6 * sum(float(x) for x in decays_of(problem)) if tol is None else tol
        values, times = all_eigenvalues(problem, params)
        return inertia_of(values, shift, tol, times)

    def nc_metrics(self, problem: Problem, params: Params) -> NCMetrics:
        """Of W̃ = W F_1 ⋯ F_L and H."""
        check_shapes(problem, params)
        return nc_metrics(without_hidden(problem), end_to_end(params))


def _check_part(part: str) -> None:
    if part != "all":
        raise ValueError(f"part must be 'all' for problems with hidden layers, got {part!r}")


register(DeepLinear())
