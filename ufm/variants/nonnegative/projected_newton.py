r"""Newton's method on H ≥ 0: a trust region over the free variables, and a step to the bounds.

With the gradient g of f, an entry of H is *fixed* if it is 0 and g ≥ 0 there, and *binding* if it
is positive but a gradient step would reach 0 (Bertsekas, 1982):

    0 < H_ri ≤ g_ri/σ,   σ = λ_H + l₂ ‖W‖²_F/N,

where σ bounds the curvature of f in each column of H, l₂ being that of the loss. The model of f in
all other entries, W and b is minimised within a trust region by conjugate gradients; the step is
clipped at 0, and binding entries go to 0, along which f falls by at least ½ Σ g H. So close to a
minimum the zeros of H are found, and then the steps are Newton's.

The run stops at the norm of the projected gradient, P_T(−∇f), which leaves out fixed entries. It is
0 at points from which only second-order directions lead down, too (`ufm.variants.nonnegative`).
Entries are 0 exactly. Decays far apart are balanced as in the plain model; starts whose logits
saturate the loss are handled by the trust region alone, without the rescaling of
`ufm.solvers.newton`, and take more steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.evaluation import evaluated
from ufm.model.hessian_product import Linearisation, hessian_product, linearise, linearise_at
from ufm.model.objective import data_loss, gradient_at, penalty
from ufm.model.params import Params, dot, norm
from ufm.model.problem import Problem
from ufm.solvers._branches import either
from ufm.solvers._loop import Point
from ufm.solvers._model import minimise_model

default_max_steps = 5_000
patience = 20
init_products = 0
evaluates_start = balanced = True
#: Ratio of actual to predicted decrease: below the first number the radius shrinks; above the
#: second it grows after a step to the boundary (Nocedal & Wright, algorithm 4.1).
_SHORT, _GOOD = 0.25, 0.75
#: A step is accepted if f or the gradients confirm this fraction of the predicted decrease.
_ACCEPT = 1e-4
#: Largest number of products in a step.
_MAX_PRODUCTS = 1_000


class _State(NamedTuple):
    at: Linearisation
    #: ∇f with all its entries; that of the point is projected.
    gradient: Params
    radius: Array
    #: The largest projected gradient so far, or 1: the scale that gradients are compared with.
    largest: Array
    started: Array


def init(problem: Problem, point: Point) -> _State:
    """The first step computes the value and gradient of the start, and the first radius."""
    at = jax.eval_shape(linearise, problem, point.params)._replace(params=None)
    return _State(
        at=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), at),
        gradient=jax.tree.map(jnp.zeros_like, point.params),
        radius=jnp.zeros_like(point.value),
        largest=jnp.ones_like(point.value),
        started=jnp.zeros((), bool),
    )


def projected(params: Params, gradient: Params) -> Params:
    """−P_T(−∇f): the gradient without positive entries where H = 0."""
    H = jnp.where((params.H > 0) | (gradient.H < 0), gradient.H, 0.0)
    return Params(gradient.W, H, gradient.b)


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    """Try a step of the model; accept it if f falls as predicted."""
    params, size = point.params, norm(point.grad)
    largest = jnp.maximum(state.largest, size)
    short = _curvature_bound(problem, params) * params.H <= point.grad.H
    binding = (params.H > 0) & short
    free = ~binding & ((params.H > 0) | (point.grad.H < 0))

    def on_free(x: Params) -> Params:
        return Params(x.W, jnp.where(free, x.H, 0.0), x.b)

    at = state.at._replace(params=params)
    model = minimise_model(
        lambda x: on_free(hessian_product(problem, at, x)),
        on_free(point.grad),
        state.radius,
        jnp.minimum(0.5, jnp.sqrt(size / largest)) * size,
        min(problem.num_parameters, _MAX_PRODUCTS),
        wanted=state.started,
    )
    target = jax.tree.map(jnp.add, params, model.step)
    H = jnp.where(binding & state.started, 0.0, jnp.maximum(target.H, 0.0))
    target = Params(target.W, H, target.b)
    decrease = model.decrease + 0.5 * jnp.sum(jnp.where(binding, params.H * point.grad.H, 0.0))
    new, gradient, new_at = _evaluate(problem, target)
    eps = float(jnp.finfo(point.value.dtype).eps)
    drowned = decrease < 1e4 * eps * jnp.abs(point.value)
    chord = jax.tree.map(jnp.subtract, target, params)
    by_gradients = -0.5 * (dot(state.gradient, chord) + dot(gradient, chord))
    fall = jnp.where(drowned, by_gradients, point.value - new.value)
    ratio = fall / jnp.where(decrease > 0, decrease, 1.0)
    finite = jnp.isfinite(new.value) & jnp.isfinite(norm(gradient))
    accepted = (finite & (fall > _ACCEPT * decrease)) | ~state.started
    grown = (ratio > _GOOD) & model.at_boundary & finite
    radius = jnp.where(grown, 2.0 * state.radius, state.radius)
    radius = jnp.where(finite & (ratio >= _SHORT), radius, 0.25 * model.length)
    radius = jnp.where(state.started, radius, norm(new.grad))
    point, gradient, at = either(
        accepted, (new, gradient, new_at), (point, state.gradient, state.at)
    )
    return point, _State(at, gradient, radius, largest, jnp.ones((), bool)), model.products + 1


def _curvature_bound(problem: Problem, params: Params) -> Array:
    """σ ≥ the largest eigenvalue of λ_H I + WᵀS_iW for all columns."""
    dtype = params.W.dtype
    second = jnp.asarray(problem.loss.smoothness()[0], dtype)
    spread = second * jnp.sum(params.W**2) / jnp.sum(problem.samples(dtype))
    return jnp.asarray(problem.lam_h, dtype) + spread


def _evaluate(problem: Problem, params: Params) -> tuple[Point, Params, Linearisation]:
    """The point with its projected gradient, the whole gradient, and the curvature."""
    seen = evaluated(problem, params)
    value = data_loss(problem, seen.V) + penalty(problem, params)
    gradient = gradient_at(problem, params, seen.gamma)
    at = linearise_at(problem, seen)._replace(params=None)
    return Point(params, value, projected(params, gradient)), gradient, at
