"""Treat trees of arrays, such as weights, as vectors: products, checks, memory limits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ufm.model.params import Params
from ufm.model.problem import Problem

Product = Callable[[Any], Any]

#: Message for a product with entries that are not finite.
NOT_FINITE = (
    "the Hessian at this point is not finite: move the point, or look at the function's second "
    "derivatives there (sqrt or norm at 0, log of 0, overflow)"
)


def function_product(function: Callable[..., Any], point: Any, args: Any) -> Product:
    """Products with ∇²function(·, *args) at a tree, by forward-over-reverse differentiation.

    Quantities that do not depend on the direction are computed once.
    """
    # As in SciPy. Unpacking would split an array into rows, and a named tuple into fields.
    further = args if type(args) is tuple else (args,)

    def scalar(x: Any) -> Array:
        value = function(x, *further)
        if shape := jnp.shape(value):
            raise ValueError(f"function must return a scalar, got shape {shape}: sum or average it")
        return value

    return jax.linearize(jax.grad(scalar), point)[1]


def array_tree(point: Any) -> Any:
    """Convert the leaves to JAX arrays. Raises `ValueError` for other leaves, such as functions."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(point):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int | complex):
            raise ValueError(
                f"the point{jax.tree_util.keystr(path)} is a {type(leaf).__name__}, not an array: "
                "pass the arrays alone and put the rest in the function (with equinox: "
                "params, static = eqx.partition(model, eqx.is_inexact_array), then eqx.combine)"
            )
    return jax.tree.map(jnp.asarray, point)


def flat(product: Product, point: Any) -> Callable[[Array], Array]:
    """Convert a product on trees to a product on vectors."""
    _, unravel = ravel_pytree(point)
    return lambda x: ravel_pytree(product(unravel(x)))[0]


def unflatten(problem: Problem, x: Array) -> Params:
    """Flatten to a vector, or to a batch along leading axes, in the order (W row by row, H, b)."""
    outputs, dim, columns = problem.num_outputs, problem.dim, problem.num_columns
    batch = x.shape[:-1]
    W, H, b = jnp.split(x, (outputs * dim, dim * (outputs + columns)), axis=-1)
    return Params(
        W.reshape(*batch, outputs, dim),
        H.reshape(*batch, dim, columns),
        b if problem.has_bias else None,
    )


def check_tree(point: Any) -> tuple[int, Any]:
    """The number of parameters and their dtype. Raises `ValueError` if a point has no Hessian."""
    leaves = jax.tree.leaves(point)
    kinds = sorted({str(leaf.dtype) for leaf in leaves})
    if kinds not in (["float32"], ["float64"]):
        raise ValueError(
            "the point must consist of arrays that are all float32 or all float64, got "
            + (" and ".join(kinds) or "no array")
        )
    size = sum(leaf.size for leaf in leaves)
    if size == 0:
        raise ValueError("the point has no parameters: it has no Hessian")
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves):
        raise ValueError("the point is not finite: it has no Hessian")
    return size, leaves[0].dtype


def check_memory(name: str, value: int, per_unit: int, size: int, dtype: Any, limit: int) -> None:
    """Raise `ValueError` if `per_unit` vectors of `size` per unit of `name` exceed the memory."""
    unit = per_unit * size * dtype.itemsize
    needed = value * unit
    if needed > limit:
        raise ValueError(
            f"{name}={value} keeps {value * per_unit} vectors of {size} numbers, "
            f"{needed / 2**30:.3g} GiB, more than max_bytes ({limit / 2**30:.3g} GiB): "
            f"at most {limit // unit} fit, or raise max_bytes"
        )
