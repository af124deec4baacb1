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

Where the decay is far below the curvature of the loss, f is a steep and narrow valley along the
points that share their logits. Steps that keep the logits to first order leave it by the product of
the changes of W and H. Where f would fall without that product, and where steps have failed again
and again, the features are solved for anew, with W and b of the step: steps in the valley may then
be as long as anywhere, where 10⁻³ would be too long at μ = 1e-12. All this happens in variables in
which both decays are about equal (`_balance`).

Along a step f costs no matrix product (`_line`). Any other step that falls far short of the model
is halved, one that reaches the trust region's boundary is doubled, while f falls. Far-out starts
saturate the softmax: f is piecewise linear there and quadratic models are good for nothing; the
start, and any point after a failed step, is first halved along the ray (√τ W, √τ H, τb), and made
one where W and H are penalised about alike, as they are at every minimum.

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
from ufm.solvers._balance import balance, balanced_problem, evening, scaled
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
#: A step shortened to less than this counts as cut, and so many cuts mark a problem as hard.
_CUT, _HARD = 0.3, 4
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
    #: The largest ‖∇f‖ so far, or 1: gradients are small or not against this.
    largest: Array
    rescale: Array
    #: Steps so far that failed or were cut.
    cuts: Array
    #: Steps with the whole Hessian still to do, and how many the next failure causes.
    whole_steps: Array
    next_whole_steps: Array


class _Found(NamedTuple):
    """What a step that falls short, or could be longer, is replaced by."""

    point: Point
    at: Linearisation
    fall: Array
    length: Array
    #: The features were solved for anew.
    bent: Array
    products: Array


def init(problem: Problem, point: Point) -> _State:
    """The first radius is the length of the gradient; it grows with the steps taken."""
    problem, point, _ = _balanced(problem, point)
    one = jnp.ones((), jnp.int32)
    return _State(
        at=linearise(problem, point.params),
        radius=norm(point.grad),
        largest=jnp.ones_like(point.value),
        rescale=jnp.ones((), bool),
        cuts=0 * one,
        whole_steps=0 * one,
        next_whole_steps=one,
    )


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    problem, point, beta = _balanced(problem, point)
    point, state, products = _balanced_step(problem, point, state)
    return _scaled_point(point, beta), state, products


def _balanced(problem: Problem, point: Point) -> tuple[Problem, Point, Array]:
    """Problem and point in the variables of `_balance`, and β."""
    beta = balance(problem, point.value)
    return balanced_problem(problem, beta), _scaled_point(point, 1.0 / beta), beta


def _scaled_point(point: Point, factor: Array) -> Point:
    return Point(scaled(point.params, factor), point.value, scaled(point.grad, 1.0 / factor))


def _balanced_step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    at, size = state.at, norm(point.grad)
    largest = jnp.maximum(state.largest, size)
    factor = scale_while_falling(
        along_ray(problem, at),
        point.value,
        jnp.asarray(0.5, size.dtype),
        enough=_SATURATED,
        wanted=state.rescale,
    )
    exchange = jnp.where(state.rescale, evening(problem, point.params), 1.0)
    on_the_ray = (factor < 1.0) | (exchange != 1.0)
    radius = jnp.minimum(state.radius, 0.5 * norm(point.params) + 1.0)
    goal = jnp.minimum(0.5, jnp.sqrt(size / largest)) * size
    whole = (state.whole_steps > 0) | (problem.num_columns == problem.num_classes)
    model = _minimise(problem, point, at, radius, goal, whole, ~on_the_ray)
    rounding = float(jnp.finfo(radius.dtype).eps) * jnp.abs(point.value)
    drowned = model.decrease < 1e4 * rounding

    def fall(new: Point) -> Array:
        """How far f falls; by gradients, exact for quadratics, where values drown."""
        chord = jax.tree.map(jnp.subtract, new.params, point.params)
        by_gradients = -0.5 * (dot(point.grad, chord) + dot(new.grad, chord))
        return jnp.where(drowned, by_gradients, point.value - new.value)

    ahead = along(1.0, model.step, point.params)
    target = _where(on_the_ray, on_ray(scaled(point.params, exchange), factor), ahead)
    trial, trial_at = _evaluate(problem, target)
    trial_fall = fall(trial)
    short = ~(trial_fall >= _SHORT * model.decrease) & ~on_the_ray  # NaN included
    longer = (trial_fall > _GOOD * model.decrease) & model.at_boundary & ~drowned

    def search() -> _Found:
        line = along_step(problem, at, model.step)
        straight = point.value - line.straight >= _SHORT * model.decrease
        # Where steps have failed again and again, whatever the reason.
        bent = short & (drowned | straight | (state.cuts >= _HARD))
        length = scale_while_falling(
            line.value,
            trial.value,
            jnp.where(longer, 2.0, 0.5),
            target=jnp.where(short, point.value, jnp.inf),
            wanted=(short & ~bent) | longer,
        )
        change = _minimise_features(problem, trial, trial_at, radius, size, bent)
        there = along(length, model.step, point.params)
        new, new_at = _evaluate(problem, Params(there.W, there.H + change.step, there.b))
        # The line takes half of a product, the point found on it the other half.
        products = 1 + _rounded_up(change.products, 3)
        return _Found(new, new_at, fall(new), length, bent, products)

    def full() -> _Found:
        no, one = jnp.zeros((), bool), jnp.ones_like(trial_fall)
        return _Found(trial, trial_at, trial_fall, one, no, jnp.zeros((), jnp.int32))

    found = jax.lax.cond(short | longer, search, full)
    new = found.point
    finite = jnp.isfinite(new.value) & jnp.isfinite(norm(new.grad))
    falls = found.fall > jnp.where(drowned, _ACCEPT * model.decrease, 0.0)
    accepted = (finite & falls) | on_the_ray
    point, at = _where(accepted, (new, found.at), (point, at))

    cut = ~accepted | (found.length < _CUT)
    most = jnp.int32(_MOST_WHOLE_STEPS)
    next_whole = jnp.where(accepted, state.next_whole_steps, 2 * state.next_whole_steps)
    again = jnp.where(~accepted & ~whole, state.next_whole_steps, 0)
    state = _State(
        at=at,
        radius=jnp.where(
            on_the_ray,
            state.radius,
            _next_radius(state.radius, model, found, short, longer, drowned),
        ),
        largest=largest,
        rescale=~accepted,
        cuts=state.cuts + cut.astype(jnp.int32),
        whole_steps=jnp.maximum(state.whole_steps - 1, again),
        next_whole_steps=jnp.minimum(next_whole, most),
    )
    return point, state, model.products + 1 + found.products


def _next_radius(
    radius: Array, model: ModelStep, found: _Found, short: Array, longer: Array, drowned: Array
) -> Array:
    good = (found.fall > _GOOD * model.decrease) & model.at_boundary
    cured = found.bent & (found.fall >= _SHORT * model.decrease)
    cut = jnp.where(found.bent | drowned, 0.25, jnp.maximum(found.length, 0.1))
    radius = jnp.where(short & ~cured, cut * model.length, radius)
    # Next to a saddle all decreases drown: there the gradients have to say that the model is good.
    growth = jnp.where(longer, 2.0 * found.length, jnp.where(drowned & ~found.bent, 4.0, 2.0))
    return jnp.where(longer | (good & (drowned | found.bent)), growth * model.length, radius)


def _where(condition: Array, x: Any, y: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)


def _evaluate(problem: Problem, params: Params) -> tuple[Point, Linearisation]:
    """Value, gradient and curvature at a point; what they share is computed once."""
    return evaluate(problem, params), linearise(problem, params)


def _minimise(
    problem: Problem,
    point: Point,
    at: Linearisation,
    radius: Array,
    goal: Array,
    whole: Array | bool,
    wanted: Array | bool = True,
) -> ModelStep:
    """A step by the whole Hessian or by its two parts; products in units of the whole one."""
    everything = minimise_model(
        lambda x: hessian_product(problem, at, x),
        point.grad,
        radius,
        goal,
        min(problem.num_parameters, _MAX_PRODUCTS),
        wanted=wanted & whole,
    )
    if problem.num_columns == problem.num_classes:
        return everything
    means = _minimise_means(problem, point, at, radius, goal, wanted & ~whole)
    rest = _minimise_deviations(problem, point, at, radius, goal, wanted & ~whole)
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


def _minimise_features(
    problem: Problem, trial: Point, at: Linearisation, radius: Array, size: Array, wanted: Array
) -> ModelStep:
    """The features at given W and b, by λ_H I + WᵀS_iW, to a tenth of the old or new gradient."""
    W = at.params.W

    def product(B: Array) -> Array:
        change = logits_from(problem, matmul(W, B), None)
        dG = feature_gradient(problem, curvature_product(problem, at, change))
        return matmul(W.T, dG) + jnp.asarray(problem.lam_h, W.dtype) * B

    gradient = trial.grad.H
    goal = 0.1 * jnp.minimum(norm(gradient), size)
    most = min(problem.dim * problem.num_columns, _MAX_PRODUCTS)
    return minimise_model(product, gradient, radius, goal, most, wanted=wanted)


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
