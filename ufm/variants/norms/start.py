"""Feasible random starts: vectors of confined norm uniform on their sphere, the others Gaussian."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ufm._support.pytree import hyperparameter, require
from ufm._support.quick_jit import quick_jit
from ufm.losses import Hyper
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.variants.norms.sets import Bounded, sets

_gaussian: Any = inspect.unwrap(init_params)


def feasible_start(
    problem: Problem,
    key: Key[Array, ""],
    scale: Hyper = 0.1,
    num_starts: int | None = None,
    dtype: Any = None,
) -> Params:
    """`ufm.init_params`: on the boundary where a norm is bounded; `scale` is for the rest."""
    scale = hyperparameter("scale", scale)
    require("scale", scale, lambda x: x >= 0, "non-negative and finite")
    drawn = _gaussian(problem, key, 1.0, num_starts, dtype)
    return _moved(problem, drawn, jnp.asarray(scale, drawn.W.dtype))


@quick_jit
def _moved(problem: Problem, drawn: Params, scale: Array) -> Params:
    """The same directions on the boundary of the sets, or `scale` times as long."""

    def moved(set_: Any, x: Array) -> Array:
        return (
            set_.on_boundary().project(x) if isinstance(set_, Bounded) else set_.project(scale * x)
        )

    def one(start: Params) -> Params:
        W, H = (moved(*x) for x in zip(sets(problem, scale.dtype), (start.W, start.H), strict=True))
        return Params(W, H, None if start.b is None else scale * start.b)

    return one(drawn) if drawn.W.ndim == 2 else jax.vmap(one)(drawn)
