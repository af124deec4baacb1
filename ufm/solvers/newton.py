r"""Trust-region Newton for the unconstrained feature model: class means and deviations apart.

Split every matrix with a column per sample into class means and deviations
(`ufm.model.class_means`). Where the deviations within classes are small, as they become in every
run of a convex loss, the Hessian falls apart into

- the Hessian of the K-column problem of the class means, n times cheaper to multiply with, and
- λ_H I + Wᵀ S_i W on the deviations of sample i, positive definite where the loss is convex.

So a step minimises the model of each part by conjugate gradients (`_model`), the first within a
trust region: this is how runs leave strict saddles, since all negative curvature of a collapsed
point lies in the class means. Near a minimum the Hessian is singular along rotations, but the
gradient has no component there, so that conjugate gradients never see it (Morse–Bott). The error
of the split model vanishes with the deviations: convergence stays superlinear. Where the model
fails the next steps use the whole Hessian: one, and twice as many with every further failure.

Along a step f costs no matrix product (`_line`). A step that falls far short of the model is
halved, one that reaches the trust region's boundary is doubled, while f falls. Far-out starts
saturate the softmax: f is piecewise linear there and quadratic models are good for nothing; the
start, and any point after a failed step, is first halved along the ray (√τ W, √τ H, τb).

Where the predicted decrease drowns in the rounding of f, the decrease is measured by gradients,
½ (g + g⁺)ᵀs, exact for quadratics: gradients fall to 1e-13 and below instead of stalling near the
square root of rounding.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.class_means import deviations, from_class_means, reduced_problem, to_class_means
from ufm.model.hessian_product import (
    Linearisation,
    curvature_product,
    hessian_product,
    linearise,
)
from ufm.model.params import along
from ufm.model.problem import (
    Params,
    Problem,
    dot,
    feature_gradient,
    logits_from,
    matmul,
    norm,
)
from ufm.solvers._line import along_ray, along_step, on_ray, scale_while_falling
from ufm.solvers._loop import Point, evaluate
from ufm.solvers._model import ModelStep, minimise_model

default_max_steps = 5_000
#: A step may cost hundreds of products: do not wait long for progress that rounding forbids.
patience = 20
init_products = 0
#: Products of one step; more would not pay before the model is made anew.
_MAX_PRODUCTS = 1_000
#: Actual over predicted decrease: below the first a step is halved, above the second a step that
#: ends on the boundary is doubled (Nocedal & Wright, algorithm 4.1).
_SHORT, _GOOD = 0.25, 0.75
#: A split model that promises more than twice what the whole quadratic model does has failed.
_FAITHFUL = 0.5
#: A step is taken if the gradient or f confirms this fraction of the decrease.
_ACCEPT = 1e-4
#: A loss that is linear along the ray falls by half when logits are halved, one of moderate logits
#: hardly at all: below this ratio it is worth going on. (To the origin itself it never is: a
#: strict saddle.)
_SATURATED = 0.9
#: Whole-Hessian steps after a failure double up to this number.
_MOST_WHOLE_STEPS = 16


class _State(NamedTuple):
    at: Linearisation
    radius: Array
    rescale: Array
    #: Steps with the whole Hessian still to do, and how many the next failure causes.
    whole_steps: Array
    next_whole_steps: Array


def init(problem: Problem, point: Point) -> _State:
    """The first radius is the length of the gradient; it grows with the steps taken."""
    one = jnp.ones((), jnp.int32)
    return _State(
        at=linearise(problem, point.params),
        radius=norm(point.grad),
        rescale=jnp.ones((), bool),
        whole_steps=0 * one,
        next_whole_steps=one,
    )


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    point, at = _rescaled(problem, point, state)
    radius = jnp.minimum(state.radius, 0.5 * norm(point.params) + 1.0)
    whole = (state.whole_steps > 0) | (problem.num_columns == problem.num_classes)
    model = _minimise(problem, point, at, radius, whole)
    rounding = float(jnp.finfo(radius.dtype).eps) * jnp.abs(point.value)
    drowned = model.decrease < 1e4 * rounding

    trial, trial_at = _evaluate(problem, along(1.0, model.step, point.params))
    ratio = (point.value - trial.value) / jnp.where(model.decrease > 0, model.decrease, 1.0)
    short = ~(ratio >= _SHORT) & ~drowned  # NaN included
    longer = (ratio > _GOOD) & model.at_boundary & ~drowned

    def search() -> tuple[Array, Point, Linearisation, Array]:
        line = along_step(problem, at, model.step)
        length = scale_while_falling(
            line.value,
            trial.value,
            jnp.where(longer, 2.0, 0.5),
            target=jnp.where(short, point.value, jnp.inf),
            wanted=short | longer,
        )
        found, found_at = _evaluate(problem, along(length, model.step, point.params))
        # Is it the split of the Hessian that is to blame, or that f is no quadratic?
        by_whole = -(dot(point.grad, model.step) + 0.5 * line.curvature)
        return length, found, found_at, short & ~(by_whole >= _FAITHFUL * model.decrease)

    def full() -> tuple[Array, Point, Linearisation, Array]:
        return jnp.ones_like(ratio), trial, trial_at, jnp.zeros((), bool)

    length, new, new_at, unfaithful = jax.lax.cond(short | longer, search, full)
    by_gradients = -0.5 * length * (dot(point.grad, model.step) + dot(new.grad, model.step))
    actual = jnp.where(drowned, by_gradients, point.value - new.value)
    finite = jnp.isfinite(new.value) & jnp.isfinite(norm(new.grad))
    accepted = finite & (actual > jnp.where(drowned, _ACCEPT * model.decrease, 0.0))
    point, at = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), (new, new_at), (point, at))

    failed = ~accepted | unfaithful
    most = jnp.int32(_MOST_WHOLE_STEPS)
    next_whole = jnp.where(failed, 2 * state.next_whole_steps, state.next_whole_steps)
    again = jnp.where(failed & ~whole, state.next_whole_steps, 0)
    radius = jnp.where(short, jnp.maximum(length, 0.1) * model.length, state.radius)
    radius = jnp.where(longer, 2.0 * length * model.length, radius)
    radius = jnp.where(drowned & ~accepted, 0.25 * model.length, radius)
    # Next to a saddle all decreases drown: there the gradients have to say that the model is good.
    good = drowned & model.at_boundary & (by_gradients > _GOOD * model.decrease)
    radius = jnp.where(good, 4.0 * model.length, radius)
    state = _State(
        at=at,
        radius=radius,
        rescale=~accepted,
        whole_steps=jnp.maximum(state.whole_steps - 1, again),
        next_whole_steps=jnp.minimum(next_whole, most),
    )
    # The line takes half of a product, the point found on it the other half.
    evaluations = 1 + (short | longer).astype(jnp.int32)
    return point, state, model.products + evaluations


def _rescaled(problem: Problem, point: Point, state: _State) -> tuple[Point, Linearisation]:
    """The point halved along its ray while f falls, if that was asked for."""
    factor = scale_while_falling(
        along_ray(problem, state.at),
        point.value,
        jnp.asarray(0.5, point.value.dtype),
        enough=_SATURATED,
        wanted=state.rescale,
    )

    def moved() -> tuple[Point, Linearisation]:
        return _evaluate(problem, on_ray(point.params, factor))

    return jax.lax.cond(factor < 1.0, moved, lambda: (point, state.at))


def _evaluate(problem: Problem, params: Params) -> tuple[Point, Linearisation]:
    """Value, gradient and curvature at a point; what they share is computed once."""
    return evaluate(problem, params), linearise(problem, params)


def _minimise(
    problem: Problem, point: Point, at: Linearisation, radius: Array, whole: Array | bool
) -> ModelStep:
    """A step by the whole Hessian or by its two parts; products in units of the whole one."""
    size = norm(point.grad)
    goal = jnp.minimum(0.5, jnp.sqrt(size)) * size
    everything = minimise_model(
        lambda x: hessian_product(problem, at, x),
        point.grad,
        radius,
        goal,
        min(problem.num_parameters, _MAX_PRODUCTS),
        wanted=whole,
    )
    if problem.num_columns == problem.num_classes:
        return everything
    means = _minimise_means(problem, point, at, radius, goal, ~whole)
    rest = _minimise_deviations(problem, point, at, radius, goal, ~whole)
    parts = Params(means.step.W, from_class_means(problem, means.step.H) + rest.step, means.step.b)
    columns = problem.num_columns
    products = _rounded_up(means.products * problem.num_classes, columns)
    return ModelStep(
        step=jax.tree.map(jnp.add, everything.step, parts),
        length=everything.length + means.length,
        decrease=everything.decrease + means.decrease + rest.decrease,
        # Two of the six matrix products that the whole Hessian takes.
        products=everything.products + products + _rounded_up(rest.products, 3),
        at_boundary=everything.at_boundary | means.at_boundary,
    )


def _rounded_up(count: Array, unit: int) -> Array:
    return (count + unit - 1) // unit


def _minimise_means(
    problem: Problem, point: Point, at: Linearisation, radius: Array, goal: Array, wanted: Any
) -> ModelStep:
    """The class means, W and b, by the Hessian of the K-column problem."""
    small = reduced_problem(problem, problem.dim)
    W, H, b = at.params.W, at.params.H, at.params.b
    mean = linearise(small, Params(W, to_class_means(problem, H), b))
    gradient = Params(point.grad.W, to_class_means(problem, point.grad.H), point.grad.b)
    return minimise_model(
        lambda x: hessian_product(small, mean, x),
        gradient,
        radius,
        goal,
        min(small.num_parameters, _MAX_PRODUCTS),
        wanted=wanted,
    )


def _minimise_deviations(
    problem: Problem, point: Point, at: Linearisation, radius: Array, goal: Array, wanted: Any
) -> ModelStep:
    """The deviations of the features from their class means, by λ_H I + WᵀS_iW."""
    W, lam_h = at.params.W, jnp.asarray(problem.lam_h, at.params.W.dtype)

    def product(B: Array) -> Array:
        change = logits_from(problem, matmul(W, B), None)
        dG = feature_gradient(problem, curvature_product(problem, at, change))
        return deviations(problem, matmul(W.T, dG)) + lam_h * B

    # Newton's step is about minus the deviations themselves: never longer than twice that.
    size = jnp.linalg.norm(deviations(problem, at.params.H))
    return minimise_model(
        product,
        deviations(problem, point.grad.H),
        2.0 * size + radius,
        goal,
        min(problem.dim * problem.num_columns, _MAX_PRODUCTS),
        wanted=wanted,
    )
