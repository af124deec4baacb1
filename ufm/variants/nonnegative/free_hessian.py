r"""The Hessian of f on the free variables: W, b and the entries of H that no bound holds.

An entry is held if it is 0 and its gradient is not negative. Where all held entries have positive
gradients, f behaves near the point as it does on the free variables.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ufm.hessian import Inertia, dense_hessian, hvp
from ufm.hessian.confined import inertia_of
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.variants.nonnegative.starts import check_nonnegative


def free_entries(problem: Problem, params: Params) -> Bool[Array, "d N"]:
    """The entries of H that are not held at 0. Raises `ValueError` if any are negative."""
    check_nonnegative(params)
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
    plain = dataclasses.replace(problem, features=None)
    kept, _ = kept_variables(plain, params)
    return dense_hessian(plain, params, part)[np.ix_(kept, kept)]


def kept_variables(
    problem: Problem, params: Params
) -> tuple[Bool[np.ndarray, " P"], Bool[np.ndarray, "d N"]]:
    """Which variables are free, in the order of `ufm.dense_hessian`, and which entries of H."""
    free = np.asarray(free_entries(problem, params))
    kept = np.full(problem.num_parameters, True)
    kept[params.W.size : params.W.size + free.size] = free.ravel()
    return kept, free


def cone_inertia(
    problem: Problem,
    params: Params,
    shift: float = 0.0,
    tol: float | None = None,
    *,
    modulo_rotations: bool = False,
) -> Inertia:
    """`ufm.inertia` on the free variables, by LAPACK."""
    if modulo_rotations:
        raise ValueError("modulo_rotations is not for features H ≥ 0: leave it out")
    return inertia_of(np.linalg.eigvalsh(cone_dense_hessian(problem, params)), shift, tol)
