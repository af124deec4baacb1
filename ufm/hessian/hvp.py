"""Hessian-vector products in closed form; the formula is in `ufm.linearisation`.

>>> hvp(problem, params, direction)
>>> hvp(problem, params, direction, part="gauss_newton")
"""

from ufm.hessian.split import part_product
from ufm.linearisation import linearise
from ufm.params import Params
from ufm.problem import Problem, check_shapes


def hvp(problem: Problem, params: Params, direction: Params, part: str = "all") -> Params:
    """∇²f(params), or one part of it, applied to a direction of the same shapes.

    The parts, "gauss_newton", "residual" and "decay", are those of `ufm.hessian.split` and add up.
    """
    check_shapes(problem, params)
    check_shapes(problem, direction)
    return part_product(problem, linearise(problem, params), direction, part)
