r"""Variables in which both decays are about equal: W/β and βH with β = (λ_H/λ_W)^¼.

Logits depend only on the product of W and H, so this is the same problem with the decays β²λ_W and
λ_H/β². If λ_W ≫ λ_H, a minimum has ‖W‖ ≪ ‖H‖, and one trust region cannot fit both. β is rounded to
a power of two, so that changing variables is exact; if the decays are within a factor of four, β =
1.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.params import Params
from ufm.model.problem import Problem


def balance(problem: Problem, like: Array) -> Array:
    """Compute β; 1 if a decay is zero."""
    lam_w, lam_h = (jnp.asarray(x, like.dtype) for x in (problem.lam_w, problem.lam_h))
    return _fourth_root(lam_h, lam_w)


def _fourth_root(x: Array, y: Array) -> Array:
    """(x/y)^¼ rounded to a power of two; 1 if it is not a number."""
    power = jnp.round(0.25 * (jnp.log2(x) - jnp.log2(y)))
    power = jnp.where(jnp.isfinite(power), power, 0.0).astype(jnp.int32)
    return jnp.ldexp(jnp.ones_like(x), power)


def balanced_problem(problem: Problem, beta: Array) -> Problem:
    """The problem that W/β and βH solve."""
    lam_w, lam_h = (jnp.asarray(x, beta.dtype) for x in (problem.lam_w, problem.lam_h))
    return dataclasses.replace(problem, lam_w=beta**2 * lam_w, lam_h=lam_h / beta**2)


def scaled(x: Params, factor: Array) -> Params:
    """W · factor, H / factor and the rest. A gradient scales inversely to its point."""
    return dataclasses.replace(x, W=factor * x.W, H=x.H / factor)
