"""The objective, random starts and Hessian products of contrastive problems."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ufm._support.namespace import namespace
from ufm._support.pytree import hyperparameter, require, stacked, whole_number
from ufm._support.quick_jit import quick_jit
from ufm._support.random_numbers import generator
from ufm.model.params import Params, Scalar
from ufm.model.problem import check_shapes
from ufm.variants.contrastive.geometry import NonNegativeSphere, UnitSphere, tangent_part
from ufm.variants.contrastive.problem import ContrastiveProblem

#: Norms may differ from 1 by the rounding of features in single precision.
_UNIT = 1e-5


def geometry_of(problem: ContrastiveProblem) -> UnitSphere:
    """The feasible set of a problem."""
    return UnitSphere() if problem.features is None else NonNegativeSphere()


def check_point(problem: ContrastiveProblem, params: Params) -> None:
    """Raise `ValueError` for wrong shapes or, of known numbers, for a point off the sphere."""
    check_shapes(problem, params)
    if isinstance(params.H, Tracer):
        return
    H = np.asarray(params.H, float)
    if np.any(np.abs(np.linalg.norm(H, axis=-2) - 1.0) > _UNIT):
        raise ValueError("params.H must have columns of norm 1: use problem.point(H)")
    if problem.features is not None and np.any(H < 0):
        raise ValueError("params.H has negative entries, but the problem has H ≥ 0")


@quick_jit
def value_at(problem: ContrastiveProblem, params: Params) -> Scalar:
    """f of the directions of the features."""
    return geometry_of(problem).evaluate(problem, params)[0]


@quick_jit
def hessian_product(problem: ContrastiveProblem, params: Params, direction: Params) -> Params:
    """The Riemannian Hessian of the tangent part of a direction."""
    geometry = geometry_of(problem)
    H = geometry.nearest(params.H)
    at = geometry.evaluate(problem, params)[2]
    B = tangent_part(H, direction.H, at.free)
    return geometry.product(problem, params, at, Params(direction.W, B, None))


def random_start(
    problem: ContrastiveProblem,
    key: Any,
    scale: Any = 0.1,
    num_starts: int | None = None,
    dtype: Any = None,
) -> Params:
    """Uniformly random features on the sphere, or on its part H ≥ 0, whatever the scale."""
    if num_starts is not None:
        num_starts = whole_number("num_starts", num_starts)
    require("scale", hyperparameter("scale", scale), lambda x: x > 0, "positive and finite")
    dtype = dtype or jnp.result_type(float)
    random, words = generator(key, problem.num_parameters * (num_starts or 1))

    def draw(key: Any) -> tuple[Any, Any, None]:
        H = random.normal(key, problem.shapes["H"], dtype)
        xp = namespace(H)
        H = H if problem.features is None else xp.abs(H)
        norms = xp.linalg.norm(H, axis=0, keepdims=True)
        return xp.zeros((0, problem.dim), dtype), H / norms, None

    if num_starts is None:
        return Params(*jax.device_put(draw(words)))
    if random is jax.random:
        places = jnp.arange(num_starts)
        return Params(*jax.vmap(lambda i: draw(random.fold_in(words, i)))(places))
    return Params(*stacked([draw(random.fold_in(words, i)) for i in range(num_starts)]))
