"""Random starts with H ≥ 0: moduli of Gaussians, so that every feature is alive at first."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from ufm.losses import Hyper
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.start import init_params as plain_start


def nonnegative_start(
    problem: Problem,
    key: Key[Array, ""],
    scale: Hyper = 0.1,
    num_starts: int | None = None,
    dtype: Any = None,
) -> Params:
    """The start of the plain model, with |H| for H."""
    plain = dataclasses.replace(problem, features=None)
    found = plain_start(plain, key, scale, num_starts, dtype)
    return dataclasses.replace(found, H=jnp.abs(found.H))
