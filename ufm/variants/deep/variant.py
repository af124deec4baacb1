"""The variant of the model with hidden layers: what it answers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.quick_jit import is_traced
from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.losses import Hyper
from ufm.model.params import Params, Scalar
from ufm.model.problem import Problem, check_shapes
from ufm.model.variant import Variant, register
from ufm.variants.deep.derivatives import deep_objective, products, value_gradient_state
from ufm.variants.deep.factors import end_to_end, mean_decay, without_hidden
from ufm.variants.deep.solver import METHODS
from ufm.variants.deep.start import draw_start


class DeepLinear(Variant):
    """Z = W F_1 ⋯ F_L H with a decay for each factor."""

    name = "hidden layers"
    methods = METHODS
    shares = frozenset({"trajectory"})

    def accepts(self, problem: Problem) -> bool:
        return bool(problem.lam_hidden) and not problem.constraints

    def default_tol(self, problem: Problem) -> Any:
        """min(1e-10, 1e-6 Λ), with the geometric mean Λ of the decays; 1e-10 if it is 0."""
        mean = mean_decay(problem)
        xp = jnp if is_traced(problem) else np
        return xp.where(mean > 0, xp.minimum(1e-10, 1e-6 * mean), 1e-10)

    def init_params(
        self,
        problem: Problem,
        key: Key[Array, ""],
        scale: Hyper = 0.1,
        num_starts: int | None = None,
        dtype: Any = None,
    ) -> Params:
        return draw_start(problem, key, scale, num_starts, dtype)

    def objective(self, problem: Problem, params: Params) -> Scalar:
        check_shapes(problem, params)
        return deep_objective(problem, params)

    def hvp(
        self, problem: Problem, params: Params, direction: Params, part: str = "all"
    ) -> Params:
        check_shapes(problem, params)
        check_shapes(problem, direction)
        if part != "all":
            raise ValueError(f"part must be 'all' for problems with hidden layers, got {part!r}")
        return products(problem, params, value_gradient_state(problem, params)[2], direction)

    def nc_metrics(self, problem: Problem, params: Params) -> NCMetrics:
        """Of W̃ = W F_1 ⋯ F_L and H."""
        check_shapes(problem, params)
        return nc_metrics(without_hidden(problem), end_to_end(params))


register(DeepLinear())
