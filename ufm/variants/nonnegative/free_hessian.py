r"""The Hessian of f on the free variables: W, b and the entries of H that no bound holds.

An entry is held if it is 0 and its gradient is not negative. Where all held entries have positive
gradients, f behaves near the point as it does on the free variables.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ufm.hessian import dense_hessian, hvp
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes


def free_entries(problem: Problem, params: Params) -> Bool[Array, "d N"]:
    """The entries of H that are not held at 0."""
    _, gradient = value_and_gradient(problem, params)
    return (params.H > 0) | (gradient.H < 0)


def cone_hvp(problem: Problem, params: Params, direction: Params, part: str = "all") -> Params:
    """`ufm.hvp` on the free variables: held entries of direction and product count as 0."""
    check_shapes(problem, params)
    check_shapes(problem, direction)
    free, plain = free_entries(problem, params), dataclasses.replace(problem, features=None)

    def on_free(x: Params) -> Params:
        return Params(x.W, jnp.where(free, x.H, 0.0), x.b)

    return on_free(hvp(plain, params, on_free(direction), part))


def cone_dense_hessian(
    problem: Problem, params: Params, part: str = "all"
) -> Float[np.ndarray, "F F"]:
    """`ufm.dense_hessian` without the rows and columns of held entries."""
    found = dense_hessian(dataclasses.replace(problem, features=None), params, part)
    free = np.asarray(free_entries(problem, params)).ravel()
    others = len(found) - params.W.size - free.size
    kept = np.concatenate([np.full(params.W.size, True), free, np.full(others, True)])
    return found[np.ix_(kept, kept)]
