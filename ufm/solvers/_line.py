r"""Evaluate f along a line through a point, at the cost of K·N numbers per trial.

The logits of (W + tA, H + tB, b + tc) are V + tq + t²C with q = AH + WB + c1ᵀ and C = AB, and the
penalty is a quadratic in t: three matrix products suffice for any number of trials. On the ray
(√τ W, √τ H, τb) towards the origin both are polynomials in τ and need no product. Both cases are a
`Line`, so that a program contains one search.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.hessian_product import Linearisation
from ufm.model.objective import data_loss, logits_from, matmul, penalty
from ufm.model.problem import Params, Problem

#: Step factors grow or shrink by two, at most this many times.
_MAX_TRIALS = 60


class Line(NamedTuple):
    """t ↦ g(V + tq + t²C) + p₀ + p₁t + p₂t²: f along a line or a ray."""

    logits: tuple[Array, Array, Array]
    penalties: tuple[Array, Array, Array]


def along_step(problem: Problem, at: Linearisation, step: Params) -> Line:
    """t ↦ f(point + t step), given the logits of the point."""
    W, H = at.params.W, at.params.H
    first = logits_from(problem, matmul(step.W, H) + matmul(W, step.H), step.b)
    second = logits_from(problem, matmul(step.W, step.H), None)
    here, there = penalty(problem, at.params), penalty(problem, step)
    both = penalty(problem, jax.tree.map(jnp.add, at.params, step))
    # Twice the penalty is a squared norm, so 2⟨x, s⟩ = |x + s|² − |x|² − |s|².
    return Line((at.V, first, second), (here, both - here - there, there))


def along_ray(problem: Problem, at: Linearisation) -> Line:
    """τ ↦ f(√τ W, √τ H, τ b) = g(τV) + τ (λ_W/2 ‖W‖² + λ_H/2 ‖H‖²) + τ² λ_b/2 ‖b‖²."""
    without_bias = penalty(problem, Params(at.params.W, at.params.H, None))
    bias = penalty(problem, at.params) - without_bias
    zeros = jnp.zeros_like(at.V)
    return Line((zeros, at.V, zeros), (jnp.zeros_like(bias), without_bias, bias))


def value_on(problem: Problem, line: Line, t: Array) -> Array:
    """f at t."""
    (V, first, second), (here, slope, curvature) = line
    return data_loss(problem, V + t * (first + t * second)) + here + t * (slope + t * curvature)


def straight_end(problem: Problem, line: Line) -> Array:
    """f at t = 1 for the logits V + q, without the product of the changes of W and H."""
    V, first, _ = line.logits
    return data_loss(problem, V + first) + sum(line.penalties)


def on_ray(params: Params, t: Array) -> Params:
    """(√τ W, √τ H, τ b)."""
    root = jnp.sqrt(t)
    return Params(root * params.W, root * params.H, None if params.b is None else t * params.b)


def scale_while_falling(
    value: Callable[[Array], Array],
    at_one: Array,
    factor: Array,
    *,
    target: Array | float = jnp.inf,
    enough: Array | float = 1.0,
    wanted: Array,
) -> Array:
    """The t among 1, factor, factor², … after which `value` stops falling; 1 unless `wanted`.

    A value falls if it is less than `enough` times the previous one. The search continues in any
    case until a value below `target` has been found. Values that are not finite count as +∞.
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

    # Start as if 1 had just been tried, after an infinite value: the program then contains a single
    # trial, inside the loop, and makes it only if wanted.
    one = jnp.ones_like(at_one)
    start = (one, jnp.full_like(at_one, jnp.inf), one, finite(at_one), jnp.int32(-1))
    return jax.lax.while_loop(go_on, advance, start)[0]
