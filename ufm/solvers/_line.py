r"""f along a line through a point, for the price of K·N numbers a trial.

The logits of (W + tA, H + tB, b + tc) are V + tq + t²C with q = AH + WB + c1ᵀ and C = AB, and the
penalty is a quadratic in t: three matrix products, then none however many t are tried. On the ray
(√τ W, √τ H, τb) towards the origin both are polynomials in τ without any product.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.hessian_product import Linearisation
from ufm.model.problem import Params, Problem, data_loss, logits_from, matmul, penalty

Function = Callable[[Array], Array]
#: A factor of two, and no further than this many of them.
_MAX_TRIALS = 60


class Line(NamedTuple):
    """t ↦ f(point + t step)."""

    value: Function
    #: f(point + step) if the logits were V + q, without the product of the two changes.
    straight: Array


def along_step(problem: Problem, at: Linearisation, step: Params) -> Line:
    """The line through a point of known logits."""
    W, H = at.params.W, at.params.H
    first = logits_from(problem, matmul(step.W, H) + matmul(W, step.H), step.b)
    second = logits_from(problem, matmul(step.W, step.H), None)
    here, there = penalty(problem, at.params), penalty(problem, step)
    both = penalty(problem, jax.tree.map(jnp.add, at.params, step))

    def value(t: Array) -> Array:
        # Twice the penalty is a squared norm, so that 2⟨x, s⟩ = |x + s|² − |x|² − |s|².
        penalties = here + t * (both - here - there) + t**2 * there
        return data_loss(problem, at.V + t * (first + t * second)) + penalties

    return Line(value, data_loss(problem, at.V + first) + both)


def along_ray(problem: Problem, at: Linearisation) -> Function:
    """τ ↦ f(√τ W, √τ H, τ b) = g(τV) + τ (λ_W/2 ‖W‖² + λ_H/2 ‖H‖²) + τ² λ_b/2 ‖b‖²."""
    without_bias = penalty(problem, Params(at.params.W, at.params.H, None))
    bias = penalty(problem, at.params) - without_bias
    return lambda t: data_loss(problem, t * at.V) + t * without_bias + t**2 * bias


def on_ray(params: Params, t: Array) -> Params:
    """(√τ W, √τ H, τ b)."""
    root = jnp.sqrt(t)
    return Params(root * params.W, root * params.H, None if params.b is None else t * params.b)


def scale_while_falling(
    value: Function,
    at_one: Array,
    factor: Array,
    *,
    target: Array | float = jnp.inf,
    enough: float = 1.0,
    wanted: Array,
) -> Array:
    """The t of 1, factor, factor², … after which `value` no longer falls; 1 unless `wanted`.

    It falls if it is less than `enough` times the last. Until something below `target` has been
    found, the search goes on regardless. Values that are not finite count as +∞.
    """

    def finite(x: Array) -> Array:
        return jnp.where(jnp.isfinite(x), x, jnp.inf)

    def go_on(state: tuple[Array, ...]) -> Array:
        _, current, _, tried, trials = state
        searching = jnp.minimum(current, tried) >= target
        return wanted & ((tried < enough * current) | searching) & (trials < _MAX_TRIALS)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        _, _, t, tried, trials = state
        return t, tried, factor * t, finite(value(factor * t)), trials + 1

    # As if 1 had just been tried, after something infinite: the loop has the only trial in the
    # program, and none is made unless wanted.
    one = jnp.ones_like(at_one)
    start = (one, jnp.full_like(at_one, jnp.inf), one, finite(at_one), jnp.int32(-1))
    return jax.lax.while_loop(go_on, advance, start)[0]
