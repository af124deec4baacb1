r"""Trust-region Newton for the unconstrained feature model: class means and deviations apart.

Split every matrix with a column per sample into class means and deviations
(`ufm.model.class_means`). Where the deviations within classes are small, as they become in every
run of a convex loss, the Hessian falls apart into

- the Hessian of the K-column problem of the class means, n times cheaper to multiply with, and
- λ_H I + Wᵀ S_i W on the deviations of sample i, positive definite where the loss is convex.

So a step minimises the model of each part by conjugate gradients (`_split`), the first within a
trust region: this is how runs leave strict saddles, since all negative curvature of a collapsed
point lies in the class means. Near a minimum the Hessian is singular along rotations, but the
gradient has no component there, so that conjugate gradients never see it (Morse–Bott). The error
of the split model vanishes with the deviations: convergence stays superlinear. Where the model
fails the next steps use the whole Hessian: one, and twice as many with every further failure.

Where the decay is far below the curvature of the loss, f is a steep and narrow valley along the
points that share their logits. Steps that keep the logits to first order leave it by the product of
the changes of W and H. Where f would fall without that product, and where steps have failed again
and again, the features are solved for anew, with W and b of the step: steps in the valley may then
be as long as anywhere, where 10⁻³ would be too long at μ = 1e-12. A run that lasts is moved to the
point with the same logits and the least decay now and then (`_same_logits`). All this happens in
variables in which both decays are about equal (`_balance`).

Along a step f costs no matrix product (`_line`). Any other step that falls far short of the model
is halved, one that reaches the trust region's boundary is doubled, while f falls. Far-out starts
saturate the softmax: f is piecewise linear there and quadratic models are good for nothing; the
start, and any point after a failed step, is first halved along the ray (√τ W, √τ H, τb), from the
least decay at the same logits if W and H are penalised very differently.

Where the predicted decrease drowns in the rounding of f, the decrease is measured by gradients,
½ (g + g⁺)ᵀs, exact for quadratics: gradients fall to 1e-13 and below instead of stalling near the
square root of rounding.

A step is one or two trials. The first is made by the model or lies on the ray; where it falls short
or could be longer, a second replaces it, on the line or with the features solved for anew. Both are
turns of one loop, as is the evaluation of the start: f and its curvature are in the program once,
and compiling is what a user waits for.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.evaluation import evaluated
from ufm.model.hessian_product import Linearisation, linearise, linearise_at
from ufm.model.params import along
from ufm.model.problem import Params, Problem, data_loss, dot, gradient_at, norm, penalty
from ufm.solvers._branches import either, only_if
from ufm.solvers._line import (
    Line,
    along_ray,
    along_step,
    on_ray,
    scale_while_falling,
    straight_end,
    value_on,
)
from ufm.solvers._loop import Point
from ufm.solvers._model import ModelStep
from ufm.solvers._same_logits import is_lopsided, least_decay
from ufm.solvers._split import minimise_split

default_max_steps = 5_000
#: A step may cost hundreds of products: do not wait long for progress that rounding forbids.
patience = 20
init_products = 0
evaluates_start = balanced = True
#: Actual over predicted decrease: below the first a step is halved, above the second a step that
#: ends on the boundary is doubled (Nocedal & Wright, algorithm 4.1).
_SHORT, _GOOD = 0.25, 0.75
#: A step shortened to less than this counts as cut, and so many cuts mark a problem as hard.
_CUT, _HARD = 0.3, 4
#: The decay is minimised at the same logits after this many steps, and after twice, four times, …
#: as many: oftener, the run would lose its trust region too often.
_FIRST_SLIDE = 32
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
    #: Steps so far; the first evaluates the start.
    steps: Array
    radius: Array
    #: The largest ‖∇f‖ so far, or 1: gradients are small or not against this.
    largest: Array
    rescale: Array
    #: Steps so far that failed or were cut.
    cuts: Array
    #: Steps with the whole Hessian still to do, and how many the next failure causes.
    whole_steps: Array
    next_whole_steps: Array

    @property
    def started(self) -> Array:
        return self.steps > 0

    @property
    def slides(self) -> Array:
        """This step minimises the decay at the same logits."""
        return (self.steps >= _FIRST_SLIDE) & (self.steps & (self.steps - 1) == 0)


class _Trial(NamedTuple):
    """A point that a step may end at, and how it was found."""

    point: Point
    at: Linearisation
    #: From the old point to this one, or to the trial that this one replaces.
    model: ModelStep
    fall: Array
    #: The old point moved along the ray, or to the least decay at its logits.
    on_the_ray: Array
    #: The first trial fell short of the model, or could be longer: a second one replaces it.
    short: Array
    longer: Array
    is_second: Array
    #: The second trial is this many steps along the line,
    length: Array
    #: or it has the features solved for anew.
    bent: Array
    products: Array

    @property
    def is_replaced(self) -> Array:
        return (self.short | self.longer) & ~self.is_second


def init(problem: Problem, point: Point) -> _State:
    """The first step finds value and gradient of the start, and where its radius begins."""
    at = _without_params(jax.eval_shape(linearise, problem, point.params))
    zero, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    return _State(
        at=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), at),
        steps=zero,
        radius=jnp.zeros_like(point.value),
        largest=jnp.ones_like(point.value),
        rescale=no,
        cuts=zero,
        whole_steps=zero,
        next_whole_steps=zero + 1,
    )


def _without_params(at: Linearisation) -> Linearisation:
    """What is kept beside the point, which has them."""
    return at._replace(params=None)


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    """The best of one or two trials, if it is better than the point."""
    state = state._replace(largest=jnp.maximum(state.largest, norm(point.grad)))
    # One loop for both trials, so that the program evaluates f in one place.
    trial = jax.lax.while_loop(
        lambda trial: trial.is_replaced | (trial.products == 0),
        lambda trial: _next_trial(problem, point, state, trial),
        _no_trial(point, state),
    )
    drowned = _drowned(point, trial.model)
    finite = jnp.isfinite(trial.point.value) & jnp.isfinite(norm(trial.point.grad))
    falls = trial.fall > jnp.where(drowned, _ACCEPT * trial.model.decrease, 0.0)
    accepted = (finite & falls) | trial.on_the_ray | ~state.started
    radius = _next_radius(state.radius, trial, drowned)
    radius = jnp.where(trial.on_the_ray, state.radius, radius)
    radius = jnp.where(state.started & ~state.slides, radius, norm(trial.point.grad))
    new = either(accepted, (trial.point, trial.at), (point, state.at))
    return new[0], _next_state(problem, state, new[1], radius, accepted, trial), trial.products


def _no_trial(point: Point, state: _State) -> _Trial:
    zero, no = jnp.zeros_like(point.value), jnp.zeros((), bool)
    none, still = jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, point.params)
    model = ModelStep(still, zero, zero, none, no)
    return _Trial(point, state.at, model, zero, no, no, no, no, zero + 1, no, none)


def _next_trial(problem: Problem, point: Point, state: _State, trial: _Trial) -> _Trial:
    """From the point itself by the model or along the ray; after a first trial, what replaces it.

    The second trial lies on the line through the first, or solves for the features there.
    """
    second, size = trial.is_replaced, norm(point.grad)
    radius = jnp.minimum(state.radius, 0.5 * norm(point.params) + 1.0)
    here = state.at._replace(params=point.params)
    length, bent = _scaled_step(problem, point, here, state, trial)
    slides = state.slides | (state.rescale & is_lopsided(problem, point.params))
    slides &= ~second
    slid = only_if(slides, lambda: least_decay(problem, point.params), point.params)
    on_the_ray = ~second & ((length < 1.0) | slides)
    whole = (state.whole_steps > 0) | (problem.num_columns == problem.num_classes)
    goal = jnp.minimum(0.5, jnp.sqrt(size / state.largest)) * size
    # The features alone: to a tenth of the old or new gradient.
    features_goal = 0.1 * jnp.minimum(norm(trial.point.grad.H), size)
    found = minimise_split(
        problem,
        trial.point,
        trial.at._replace(params=trial.point.params),
        radius,
        jnp.where(second, features_goal, goal),
        whole & ~second,
        features=second,
        wanted=jnp.where(second, bent, state.started & ~on_the_ray),
    )
    target = jax.lax.cond(
        on_the_ray,
        lambda: on_ray(slid, length),
        lambda: jax.tree.map(jnp.add, along(length, trial.model.step, point.params), found.step),
    )
    new, new_at = _evaluate(problem, target)
    model = either(second, trial.model, found)
    drowned = _drowned(point, model)
    chord = jax.tree.map(jnp.subtract, target, point.params)
    # Exact for quadratics, and where values drown.
    by_gradients = -0.5 * (dot(point.grad, chord) + dot(new.grad, chord))
    fall = jnp.where(drowned, by_gradients, point.value - new.value)
    short = ~(fall >= _SHORT * model.decrease)  # NaN included
    longer = (fall > _GOOD * model.decrease) & model.at_boundary & ~drowned
    judged = state.started & ~on_the_ray
    return _Trial(
        point=new,
        at=_without_params(new_at),
        model=model,
        fall=fall,
        on_the_ray=on_the_ray,
        short=jnp.where(second, trial.short, short & judged),
        longer=jnp.where(second, trial.longer, longer & judged),
        is_second=second,
        length=jnp.where(on_the_ray, 1.0, length),
        bent=bent,
        products=trial.products + found.products + 1,
    )


def _evaluate(problem: Problem, params: Params) -> tuple[Point, Linearisation]:
    """Value, gradient and curvature at a point; what they share is computed once."""
    seen = evaluated(problem, params)
    value = data_loss(problem, seen.V) + penalty(problem, params)
    point = Point(params, value, gradient_at(problem, params, seen.gamma))
    return point, linearise_at(problem, seen)


def _scaled_step(
    problem: Problem, point: Point, at: Linearisation, state: _State, trial: _Trial
) -> tuple[Array, Array]:
    """How far to go: along the ray for a first trial, along the line for a second.

    And whether to solve for the features instead.
    """
    second = trial.is_replaced

    def ray() -> tuple[Line, Array]:
        return along_ray(problem, at), jnp.zeros((), bool)

    def through_trial() -> tuple[Line, Array]:
        line = along_step(problem, at, trial.model.step)
        straight = point.value - straight_end(problem, line) >= _SHORT * trial.model.decrease
        # Where steps have failed again and again, whatever the reason.
        curved = straight | _drowned(point, trial.model) | (state.cuts >= _HARD)
        return line, trial.short & curved

    def search() -> tuple[Array, Array]:
        line, bent = jax.lax.cond(second, through_trial, ray)
        length = scale_while_falling(
            lambda t: value_on(problem, line, t),
            trial.point.value,
            jnp.where(trial.longer, 2.0, 0.5),
            target=jnp.where(trial.short, point.value, jnp.inf),
            enough=jnp.where(second, 1.0, _SATURATED),
            wanted=jnp.where(second, ~bent, state.rescale),
        )
        return length, bent

    stay = jnp.ones_like(point.value), jnp.zeros((), bool)
    return only_if(second | state.rescale, search, stay)


def _drowned(point: Point, model: ModelStep) -> Array:
    """The decrease is lost in the rounding of f."""
    eps = float(jnp.finfo(point.value.dtype).eps)
    return model.decrease < 1e4 * eps * jnp.abs(point.value)


def _next_state(
    problem: Problem,
    state: _State,
    at: Linearisation,
    radius: Array,
    accepted: Array,
    trial: _Trial,
) -> _State:
    whole = (state.whole_steps > 0) | (problem.num_columns == problem.num_classes)
    cut = ~accepted | (trial.length < _CUT)
    next_whole = jnp.where(accepted, state.next_whole_steps, 2 * state.next_whole_steps)
    again = jnp.where(~accepted & ~whole, state.next_whole_steps, 0)
    return _State(
        at=at,
        steps=state.steps + 1,
        radius=radius,
        largest=state.largest,
        rescale=~accepted | ~state.started,
        cuts=state.cuts + cut.astype(jnp.int32),
        whole_steps=jnp.maximum(state.whole_steps - 1, again),
        next_whole_steps=jnp.minimum(next_whole, jnp.int32(_MOST_WHOLE_STEPS)),
    )


def _next_radius(radius: Array, trial: _Trial, drowned: Array) -> Array:
    model, bent, short, longer = trial.model, trial.bent, trial.short, trial.longer
    good = (trial.fall > _GOOD * model.decrease) & model.at_boundary
    cured = bent & (trial.fall >= _SHORT * model.decrease)
    cut = jnp.where(bent | drowned, 0.25, jnp.maximum(trial.length, 0.1))
    radius = jnp.where(short & ~cured, cut * model.length, radius)
    # Next to a saddle all decreases drown: there the gradients have to say that the model is good.
    growth = jnp.where(longer, 2.0 * trial.length, jnp.where(drowned & ~bent, 4.0, 2.0))
    return jnp.where(longer | (good & (drowned | bent)), growth * model.length, radius)
