"""Points with H ≥ 0, and random starts: moduli of Gaussians, so that all features are alive."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Key

from ufm.losses import Hyper
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.start import init_params as plain_start


def check_nonnegative(params: Params) -> None:
    """Raise `ValueError` if H has negative entries; tracers pass."""
    if not isinstance(params.H, Tracer) and bool(np.any(np.asarray(params.H) < 0)):
        least = float(np.min(np.asarray(params.H)))
        raise ValueError(f"params.H must be ≥ 0, its least entry is {least:.3g}: clip it first")


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
