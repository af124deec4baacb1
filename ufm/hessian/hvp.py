"""Hessian-vector products in closed form; the formula is in `ufm.linearisation`.

>>> hvp(problem, params, direction)
"""

from ufm.linearisation import hessian_product, linearise
from ufm.problem import Params, Problem, check_shapes


def hvp(problem: Problem, params: Params, direction: Params) -> Params:
    """∇²f(params) applied to a direction of the same shapes."""
    check_shapes(problem, params)
    check_shapes(problem, direction)
    return hessian_product(problem, linearise(problem, params), direction)
