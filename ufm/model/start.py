"""Random starts.

The numbers are those of `jax.random`, drawn on the host if the key is known. Compiling a program to
draw them would take longer than a run, for every shape.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ufm._support.namespace import namespace
from ufm._support.pytree import hyperparameter, require, stacked, whole_number
from ufm._support.quick_jit import is_traced
from ufm._support.random_numbers import generator
from ufm.losses import Hyper
from ufm.model.params import Params, Scalar
from ufm.model.problem import Problem, without_loss
from ufm.model.variant import by_variant


@by_variant
def init_params(
    problem: Problem,
    key: Key[Array, ""],
    scale: Hyper = 0.1,
    num_starts: int | None = None,
    dtype: Any = None,
) -> Params:
    """Draw a Gaussian start: independent entries of W, H and b.

    Args:
        problem: The problem.
        key: Random key. Start i depends only on it and on i, so that a longer batch begins with a
            shorter one.
        scale: Standard deviation of every entry.
        num_starts: Number of starts along a new leading axis; None adds no axis.
        dtype: float32 or float64; None is JAX's default.

    Returns:
        W (K, d), H (d, N), samples ordered by class, and b (K,) or None.

    Raises:
        ValueError: `scale` is negative or not finite, or `num_starts` is below 1.
    """
    if num_starts is not None:
        num_starts = whole_number("num_starts", num_starts)
    scale = hyperparameter("scale", scale)
    require("scale", scale, lambda x: x >= 0, "non-negative and finite")
    problem, dtype = without_loss(problem), dtype or jnp.result_type(float)
    random, words = generator(key, problem.num_parameters * (num_starts or 1))
    if is_traced((problem, scale)) or random is jax.random:
        return _program(problem, jnp.asarray(scale, dtype), key, num_starts=num_starts)
    draw = functools.partial(_draw, problem, np.asarray(scale, dtype), random)
    if num_starts is None:
        return Params(*jax.device_put(draw(words)))
    return Params(*stacked([draw(random.fold_in(words, i)) for i in range(num_starts)]))


@functools.partial(jax.jit, static_argnames="num_starts")
def _program(problem: Problem, size: Scalar, key: Any, *, num_starts: int | None) -> Params:
    """Draw one start or a batch of starts in one program."""
    draw = functools.partial(_draw, problem, size, jax.random)
    if num_starts is None:
        return Params(*draw(key))
    starts = jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(jnp.arange(num_starts))
    return Params(*starts)


def _draw(problem: Problem, size: Any, random: Any, key: Any) -> tuple[Any, Any, Any]:
    """Draw W, H and b of a start, by `jax.random` or its equivalent on the host."""
    dtype, xp, outputs = size.dtype, namespace(size), problem.num_outputs
    key_w, key_h, key_b = random.split(key, 3)
    W = size * random.normal(key_w, (outputs, problem.dim), dtype)
    H = size * random.normal(key_h, (problem.dim, problem.num_columns), dtype)
    if problem.column_weights is not None:
        H = H * xp.sqrt(xp.asarray(problem.column_weights, dtype))[None, :]
    b = size * random.normal(key_b, (outputs,), dtype) if problem.has_bias else None
    return W, H, b
