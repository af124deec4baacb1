r"""Trust-region Newton for the unconstrained feature model: class means and deviations apart.

Split every matrix with a column per sample into class means and deviations
(`ufm.model.class_means`). If the deviations within classes are small, as they become in every run
with a convex loss, the Hessian splits into

- the Hessian of the K-column problem of the class means, n times cheaper to multiply with, and
- λ_H I + Wᵀ S_i W on the deviations of sample i, positive definite where the loss is convex.

A step minimises the model of each part by conjugate gradients (`_split`), the first within a trust
region. This is how runs leave strict saddles, since all negative curvature of a collapsed point
lies in the class means. Near a minimum the Hessian is singular along rotations, but the gradient
has no component there, so that conjugate gradients are unaffected (Morse–Bott). The error of the
split model vanishes with the deviations, so that convergence is superlinear. After a failure of the
model the next step uses the whole Hessian; every further failure doubles the number of such steps.

If the decay is far below the curvature of the loss, f has a steep and narrow valley along the
points that share their logits. A step that keeps the logits to first order leaves the valley by the
product of the changes of W and H. If f would fall without that product, or if steps have failed
repeatedly, the features are solved for again, with W and b of the step. Steps in the valley may
then have any length, whereas otherwise 10⁻³ would be too long at μ = 1e-12. After 32 steps, after
64, 128, and so on, the run moves to the point with the same logits and the least decay
(`_same_logits`). All computations use variables in which both decays are about equal (`_balance`).

Evaluating f along a step costs no matrix product (`_line`). Any other step that falls far short of
the model is halved, and a step that reaches the trust region's boundary is doubled, while f falls.
Starts far from the origin saturate the softmax: f is piecewise linear there, and quadratic models
fail. The start, and any point after a failed step, is therefore first halved along the ray
(√τ W, √τ H, τb). Where the penalties of W and H are far from equal, it first moves to the least
decay at the same logits.

If the rounding error of f hides the predicted decrease, gradients measure the decrease as
½ (g + g⁺)ᵀs, which is exact for quadratics. Gradients then fall to 1e-13 and below instead of
stalling near the square root of rounding.

A step consists of one or two trials. The first uses the model or lies on the ray. If it falls short
or could be longer, a second replaces it, on the line or with the features solved for again. Both
are iterations of one loop, as is the evaluation of the start, so that the program contains f and
its curvature once: the time to compile is the time that a user waits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.evaluation import evaluated
from ufm.model.hessian_product import Linearisation, linearise, linearise_at
from ufm.model.objective import data_loss, gradient_at, penalty
from ufm.model.params import along
from ufm.model.problem import Params, Problem, dot, norm
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
#: A step may cost hundreds of products, so stall early if rounding prevents progress.
patience = 20
init_products = 0
evaluates_start = balanced = True
#: Ratio of actual to predicted decrease: below the first number a step is halved; above the second
#: a step that ends on the boundary is doubled (Nocedal & Wright, algorithm 4.1).
_SHORT, _GOOD = 0.25, 0.75
#: A step shortened below the first number counts as cut; this many cuts mark a problem as hard.
_CUT, _HARD = 0.3, 4
#: The decay is first minimised at fixed logits after this many steps, then whenever the number of
#: steps has doubled. The trust region starts anew each time, so that more often would do harm.
_FIRST_SLIDE = 32
#: A step is accepted if the gradient or f confirms this fraction of the predicted decrease.
_ACCEPT = 1e-4
#: When logits are halved, a loss that is linear along the ray falls by half, and a loss at moderate
#: logits hardly at all. Below this ratio halving continues. (It never reaches the origin, which is
#: a strict saddle.)
_SATURATED = 0.9
#: The number of whole-Hessian steps after a failure doubles up to this number.
_MOST_WHOLE_STEPS = 16


class _State(NamedTuple):
    at: Linearisation
    #: The number of steps so far. The first step evaluates the start.
    steps: Array
    radius: Array
    #: The largest ‖∇f‖ so far, or 1: the scale that gradients are compared with.
    largest: Array
    rescale: Array
    #: Number of steps so far that failed or were cut.
    cuts: Array
    #: Remaining steps with the whole Hessian, and their number after the next failure.
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
    """A candidate for the end of a step, and how it was found."""

    point: Point
    at: Linearisation
    #: Difference to the old point, or from there to the trial that this one replaces.
    model: ModelStep
    fall: Array
    #: Whether the old point was moved along the ray, or to the least decay at its logits.
    on_the_ray: Array
    #: Whether a second trial replaces the first, which fell short of the model or could be longer.
    short: Array
    longer: Array
    is_second: Array
    #: The second trial lies at this multiple of the step on the line,
    length: Array
    #: or solves for the features again.
    bent: Array
    products: Array

    @property
    def is_replaced(self) -> Array:
        return (self.short | self.longer) & ~self.is_second


def init(problem: Problem, point: Point) -> _State:
    """The first step computes the value and gradient of the start, and the first radius."""
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
    """Drop the parameters, which the point itself has."""
    return at._replace(params=None)


def step(problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
    """Make one or two trials; accept the best if it is better than the point."""
    state = state._replace(largest=jnp.maximum(state.largest, norm(point.grad)))
    # One loop makes both trials, so that the program evaluates f in one place.
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
    """Make a first trial by the model or along the ray, or a second trial that replaces it.

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
    # The features alone, to a tenth of the old or new gradient.
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
    # Exact for quadratics, and reliable where rounding hides the change of f.
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
    """Value, gradient and curvature at a point, with shared parts computed once."""
    seen = evaluated(problem, params)
    value = data_loss(problem, seen.V) + penalty(problem, params)
    point = Point(params, value, gradient_at(problem, params, seen.gamma))
    return point, linearise_at(problem, seen)


def _scaled_step(
    problem: Problem, point: Point, at: Linearisation, state: _State, trial: _Trial
) -> tuple[Array, Array]:
    """How far to go along the ray (first trial) or along the line (second trial).

    Also decide whether to solve for the features instead.
    """
    second = trial.is_replaced

    def ray() -> tuple[Line, Array]:
        return along_ray(problem, at), jnp.zeros((), bool)

    def through_trial() -> tuple[Line, Array]:
        line = along_step(problem, at, trial.model.step)
        straight = point.value - straight_end(problem, line) >= _SHORT * trial.model.decrease
        # Steps have failed repeatedly, for any reason.
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
    """Whether rounding of f hides the decrease."""
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
    # Close to a saddle rounding hides every decrease, so gradients must confirm the model.
    growth = jnp.where(longer, 2.0 * trial.length, jnp.where(drowned & ~bent, 4.0, 2.0))
    return jnp.where(longer | (good & (drowned | bent)), growth * model.length, radius)
