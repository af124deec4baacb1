r"""Trust-region Newton–CG with exact Hessian products (Steihaug, 1983; Nocedal & Wright, ch. 7).

Each step minimises the quadratic model gᵀs + ½ sᵀ∇²f s over ‖s‖ ≤ Δ by conjugate gradients, stopped
at the boundary, at negative curvature (which it follows to the boundary: that is how it leaves
strict saddles) or when the residual is below min(0.1, √‖g‖) ‖g‖, which makes the convergence
superlinear. Near a minimum the Hessian is singular along rotations, but the gradient has no
component there, so that conjugate gradients never see it (Morse–Bott).

Where the predicted decrease drowns in the rounding of f, the decrease is measured by gradients,
½ (g + g⁺)ᵀs, exact for quadratics: so gradients fall to 1e-13 and below instead of stalling near
the square root of rounding.

Far-out starts saturate the softmax: f is piecewise linear there, and quadratic models are good for
nothing. So at the start, and after a rejected step, the best point of the ray

    (W, H, b) → (√τ W, √τ H, τ b),  0 < τ ≤ 1,
    f = g(τV) + τ (λ_W/2 ‖W‖² + λ_H/2 ‖H‖²) + τ² λ_b/2 ‖b‖²

is taken if it is lower; trying one costs no matrix product. Steps are no longer than half the
point plus one, so that none lands on the origin, a strict saddle, by way of the penalty alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ufm.linearisation import hessian_product, linearise
from ufm.problem import Params, Problem, data_loss, dot, logits, norm, penalty
from ufm.solvers._loop import Point, evaluate

default_max_steps = 5_000
#: A step may cost hundreds of products: do not wait long for progress that rounding forbids.
patience = 20
init_products = 0
#: Products of one step; more would not pay before the model is made anew.
_MAX_PRODUCTS = 1_000
#: Factors τ tried on the ray: a quarter of a decade apart.
_FACTORS = np.geomspace(1e-10, 10**-0.25, 40)
# Trust-region constants of Nocedal & Wright, algorithm 4.1, with a faster expansion.
_ACCEPT, _SHRINK_BELOW, _GROW_ABOVE, _SHRINK, _GROW = 1e-4, 0.25, 0.75, 0.25, 3.0


class _State(NamedTuple):
    radius: Array
    rescale: Array


class _Model(NamedTuple):
    """Conjugate gradients in progress."""

    step: Params
    product: Params
    residual: Params
    direction: Params
    residual_squared: Array
    products: Array
    finished: Array


def init(problem: Problem, point: Point) -> _State:
    """The first radius is the length of the gradient; it trebles while the model is good."""
    del problem
    return _State(norm(point.grad), jnp.ones((), bool))


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    point = jax.lax.cond(state.rescale, _rescaled, lambda _, same: same, problem, point)
    cap = 0.5 * norm(point.params) + 1.0
    model = _minimise_model(problem, point, jnp.minimum(state.radius, cap))
    length = norm(model.step)
    predicted = -(dot(point.grad, model.step) + 0.5 * dot(model.step, model.product))
    new = evaluate(problem, _along(1.0, model.step, point.params))
    rounding = float(jnp.finfo(length.dtype).eps) * jnp.abs(point.value)
    by_gradients = -0.5 * (dot(point.grad, model.step) + dot(new.grad, model.step))
    actual = jnp.where(predicted < 1e4 * rounding, by_gradients, point.value - new.value)
    finite = jnp.isfinite(new.value) & jnp.isfinite(norm(new.grad))
    ratio = jnp.where(finite & (predicted > 0), actual / predicted, -1.0)
    accepted = ratio > _ACCEPT
    used = jnp.minimum(state.radius, cap)
    grown = jnp.where(length >= 0.99 * used, _GROW * used, state.radius)
    radius = jnp.where(ratio > _GROW_ABOVE, grown, state.radius)
    radius = jnp.where(ratio < _SHRINK_BELOW, _SHRINK * length, radius)
    kept = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, point)
    # One pass to linearise, one at the new point, and one where a rescaling was tried.
    products = model.products + 2 + state.rescale.astype(jnp.int32)
    return kept, _State(radius, ~accepted), products


def _rescaled(problem: Problem, point: Point) -> Point:
    """The lowest of the points along the ray towards the origin, if it is lower than this one."""
    params = point.params
    V = logits(problem, params)
    at_zero_bias = penalty(problem, Params(params.W, params.H, None))
    bias = penalty(problem, params) - at_zero_bias
    factors = jnp.asarray(_FACTORS, V.dtype)
    values = jax.lax.map(
        lambda t: data_loss(problem, t * V) + t * at_zero_bias + t**2 * bias, factors
    )
    best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
    factor = factors[best]
    root = jnp.sqrt(factor)
    shorter = Params(
        root * params.W, root * params.H, None if params.b is None else factor * params.b
    )
    new = evaluate(problem, shorter)
    better = (new.value < point.value) & jnp.isfinite(norm(new.grad))
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), new, point)


def _minimise_model(problem: Problem, point: Point, radius: Array) -> _Model:
    at = linearise(problem, point.params)
    size = norm(point.grad)
    goal = jnp.minimum(0.1, jnp.sqrt(size)) * size

    def advance(model: _Model) -> _Model:
        product = hessian_product(problem, at, model.direction)
        curvature = dot(model.direction, product)
        length = model.residual_squared / jnp.where(curvature > 0, curvature, 1.0)
        inside = _along(length, model.direction, model.step)
        leaves = (curvature <= 0) | (norm(inside) >= radius)
        to_boundary = _distance_to_boundary(model.step, model.direction, radius)
        length = jnp.where(leaves, to_boundary, length)
        residual = _along(length, product, model.residual)
        squared = dot(residual, residual)
        ratio = squared / model.residual_squared
        return _Model(
            step=_along(length, model.direction, model.step),
            product=_along(length, product, model.product),
            residual=residual,
            direction=jax.tree.map(lambda p, r: ratio * p - r, model.direction, residual),
            residual_squared=squared,
            products=model.products + 1,
            finished=leaves | (jnp.sqrt(squared) <= goal),
        )

    zero = jax.tree.map(jnp.zeros_like, point.grad)
    start = _Model(
        step=zero,
        product=zero,
        residual=point.grad,
        direction=jax.tree.map(jnp.negative, point.grad),
        residual_squared=size**2,
        products=jnp.zeros((), jnp.int32),
        finished=~(size > 0),
    )
    limit = min(problem.num_parameters, _MAX_PRODUCTS)
    return jax.lax.while_loop(
        lambda model: ~model.finished & (model.products < limit), advance, start
    )


def _along(length: Any, direction: Params, origin: Params) -> Params:
    """origin + length · direction."""
    return jax.tree.map(lambda d, x: x + length * d, direction, origin)


def _distance_to_boundary(step: Params, direction: Params, radius: Array) -> Array:
    """The τ ≥ 0 with ‖step + τ direction‖ = radius."""
    along, squared = dot(step, direction), dot(direction, direction)
    room = jnp.maximum(radius**2 - dot(step, step), 0.0)
    # Whichever form of the root does not cancel.
    root = jnp.sqrt(along**2 + squared * room)
    far = room / jnp.where(along + root > 0, along + root, 1.0)
    return jnp.where(along > 0, far, (root - along) / jnp.where(squared > 0, squared, 1.0))
