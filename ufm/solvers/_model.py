r"""Minimise a quadratic model gᵀs + ½ sᵀAs over ‖s‖ ≤ Δ by conjugate gradients.

The method is that of Steihaug (1983; Nocedal & Wright, algorithm 7.2). It stops at the boundary, at
negative curvature, which it follows to the boundary, or at a small residual. It works on any
pytree. Recurrences give the lengths of step and direction (Conn, Gould & Toint, 2000, §7.5.4), so
that an iteration costs the product, two inner products and three updates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.params import along, dot


class ModelStep(NamedTuple):
    """An approximate minimiser of the model."""

    step: Any
    length: Array
    #: Decrease of the model.
    decrease: Array
    products: Array
    at_boundary: Array


class _Iteration(NamedTuple):
    step: Any
    residual: Any
    direction: Any
    # ‖r‖², ‖s‖², sᵀd, ‖d‖².
    residual_squared: Array
    step_squared: Array
    step_direction: Array
    direction_squared: Array
    decrease: Array
    products: Array
    at_boundary: Array
    finished: Array


def minimise_model(
    product: Callable[[Any], Any],
    gradient: Any,
    radius: Array,
    goal: Array,
    max_products: int,
    *,
    wanted: Array | bool = True,
) -> ModelStep:
    """Minimise until ‖g + As‖ ≤ goal or ‖s‖ = radius; the zero step unless `wanted`.

    (`wanted` avoids a `lax.cond`, of which a batch in lock step would run both branches.)
    """

    def advance(now: _Iteration) -> _Iteration:
        image = product(now.direction)
        curvature = dot(now.direction, image)
        length = now.residual_squared / jnp.where(curvature > 0, curvature, 1.0)
        leaves = (curvature <= 0) | (_squared(now, length) >= radius**2)
        length = jnp.where(leaves, _distance_to_boundary(now, radius), length)
        residual = along(length, image, now.residual)
        squared = dot(residual, residual)
        ratio = squared / now.residual_squared
        return _Iteration(
            step=along(length, now.direction, now.step),
            residual=residual,
            direction=jax.tree.map(lambda p, r: ratio * p - r, now.direction, residual),
            residual_squared=squared,
            step_squared=_squared(now, length),
            # New residuals are orthogonal to the step.
            step_direction=ratio * (now.step_direction + length * now.direction_squared),
            direction_squared=squared + ratio**2 * now.direction_squared,
            decrease=now.decrease + length * (now.residual_squared - 0.5 * length * curvature),
            products=now.products + 1,
            at_boundary=leaves,
            finished=leaves | (jnp.sqrt(squared) <= goal),
        )

    squared = dot(gradient, gradient)
    zero, none = jnp.zeros_like(squared), jnp.zeros((), bool)
    start = _Iteration(
        step=jax.tree.map(jnp.zeros_like, gradient),
        residual=gradient,
        direction=jax.tree.map(jnp.negative, gradient),
        residual_squared=squared,
        step_squared=zero,
        step_direction=zero,
        direction_squared=squared,
        decrease=zero,
        products=jnp.zeros((), jnp.int32),
        at_boundary=none,
        finished=~((jnp.sqrt(squared) > goal) & wanted),
    )
    end = jax.lax.while_loop(
        lambda now: ~now.finished & (now.products < max_products), advance, start
    )
    length = jnp.sqrt(jnp.maximum(end.step_squared, 0.0))
    return ModelStep(end.step, length, end.decrease, end.products, end.at_boundary)


def _squared(now: _Iteration, length: Array) -> Array:
    """‖s + length · d‖²."""
    along_it = 2.0 * now.step_direction + length * now.direction_squared
    return now.step_squared + length * along_it


def _distance_to_boundary(now: _Iteration, radius: Array) -> Array:
    """The τ ≥ 0 with ‖s + τd‖ = radius."""
    room = jnp.maximum(radius**2 - now.step_squared, 0.0)
    root = jnp.sqrt(now.step_direction**2 + now.direction_squared * room)
    # sᵀd ≥ 0 in conjugate gradients, so this form of the root does not cancel.
    total = now.step_direction + root
    return room / jnp.where(total > 0, total, 1.0)
