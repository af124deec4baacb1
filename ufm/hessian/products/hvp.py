"""Hessian-vector products in closed form; the formula is in `ufm.model.hessian_product`.

>>> direction = jax.tree.map(jnp.ones_like, params)
>>> product = hvp(problem, params, direction)
>>> H = hessian_operator(problem, params)      # for many products at one point
>>> bool(jnp.allclose(H(direction).W, product.W))
True
"""

import functools

from ufm._support.pytree import pytree, static
from ufm._support.quick_jit import quick_jit
from ufm._support.shown import Shown
from ufm.hessian.products.split import part_product
from ufm.model.hessian_product import Linearisation, linearise
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.model.variant import by_variant


@by_variant
def hvp(problem: Problem, params: Params, direction: Params, part: str = "all") -> Params:
    """Apply ∇²f(params), or one part of it, to a direction.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        direction: A direction of the same shapes.
        part: "all", or "gauss_newton", "residual" or "decay", which add up to it.

    Returns:
        The product, of the same shapes.

    Raises:
        ValueError: The shapes do not fit the problem, or the part has another name.
    """
    check_shapes(problem, params)
    check_shapes(problem, direction)
    return part_product(problem, linearise(problem, params), direction, part)


@pytree()
class HessianOperator(Shown):
    """direction ↦ ∇²f direction at one point, with shared quantities computed once.

    Calls are compiled, and it can itself be an argument of compiled functions.
    """

    problem: Problem
    at: Linearisation
    part: str = static()

    def __call__(self, direction: Params) -> Params:
        check_shapes(self.problem, direction)
        return _apply(self.problem, self.at, direction, part=self.part)


@by_variant
def hessian_operator(problem: Problem, params: Params, part: str = "all") -> HessianOperator:
    """Make a compiled function that applies the Hessian at a point, or one part, to a direction.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        part: "all", or "gauss_newton", "residual" or "decay", which add up to it.

    Returns:
        A callable, which can itself be an argument of compiled functions.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    return HessianOperator(problem, linearise(problem, params), part)


@functools.partial(quick_jit, static_argnames=("part",))
def _apply(problem: Problem, at: Linearisation, direction: Params, *, part: str) -> Params:
    return part_product(problem, at, direction, part)
