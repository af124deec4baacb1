r"""Trust-region Newton on a feasible set: spheres, the non-negative orthant, more factors.

A step minimises the quadratic model ⟨g, s⟩ + ½⟨s, As⟩ over tangent vectors ‖s‖ ≤ Δ by conjugate
gradients, where g is the Riemannian (or projected) gradient and A the Hessian with multipliers, and
follows it by a retraction (Absil, Baker & Gallivan, 2007; Absil, Mahony & Sepulchre, 2008, alg.
10-11). The feasible set comes from a variant of the model as a `Geometry`; with the whole space it
is the trust-region method of Nocedal & Wright, algorithm 4.1.

If the rounding error of f hides the predicted decrease, gradients measure the decrease, as in
`ufm.solvers.newton`. A step evaluates f in one place, also at the start, so that the program
contains f and its curvature once.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.problem import Params, Problem, dot, norm
from ufm.solvers._branches import either
from ufm.solvers._loop import Point
from ufm.solvers._model import minimise_model

#: Ratio of actual to predicted decrease: below the first number the radius shrinks; above the
#: second it grows after a step to the boundary (Nocedal & Wright, algorithm 4.1).
_SHORT, _GOOD = 0.25, 0.75
#: A step is accepted if f or the gradients confirm this fraction of the predicted decrease.
_ACCEPT = 1e-4
#: Largest number of products in a step; with more, updating the model pays better.
_MAX_PRODUCTS = 1_000


@runtime_checkable
class Geometry(Protocol):
    """A feasible set with f on it. Points and directions are `Params`; directions are tangent."""

    def evaluate(self, problem: Problem, params: Params) -> tuple[Array, Params, Any]:
        """f, its Riemannian or projected gradient, and what `product` needs of the point."""
        ...

    def product(self, problem: Problem, params: Params, at: Any, direction: Params) -> Params:
        """The Hessian, with multipliers, of a tangent direction, projected to tangent vectors."""
        ...

    def retract(self, problem: Problem, params: Params, step: Params) -> Params:
        """The feasible point that a tangent step leads to; the nearest one for a zero step."""
        ...

    def gradient_noise(self, problem: Problem, params: Params) -> Array:
        """An estimate from above of the rounding error of the gradient's norm."""
        ...


class _State(NamedTuple):
    at: Any
    radius: Array
    #: The largest ‖g‖ so far, or 1: the scale that gradients are compared with.
    largest: Array
    started: Array


@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """The method on a feasible set, for the loop of all solvers."""

    geometry: Geometry
    default_max_steps: int = 5_000
    patience: int = 20
    init_products: int = 0
    evaluates_start: bool = True
    balanced: bool = False

    def gradient_noise(self, problem: Problem, params: Params) -> Array:
        return self.geometry.gradient_noise(problem, params)

    def init(self, problem: Problem, point: Point) -> _State:
        """The first step moves the start into the set, and computes f and the first radius."""
        at = jax.eval_shape(self.geometry.evaluate, problem, point.params)[2]
        return _State(
            at=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), at),
            radius=jnp.zeros_like(point.value),
            largest=jnp.ones_like(point.value),
            started=jnp.zeros((), bool),
        )

    def step(self, problem: Problem, point: Point, state: _State) -> tuple[Point, _State, Array]:
        """Try a step of the model; accept it if the point is better."""
        size = norm(point.grad)
        largest = jnp.maximum(state.largest, size)
        model = minimise_model(
            lambda x: self.geometry.product(problem, point.params, state.at, x),
            point.grad,
            state.radius,
            jnp.minimum(0.5, jnp.sqrt(size / largest)) * size,
            min(problem.num_parameters, _MAX_PRODUCTS),
            wanted=state.started,
        )
        target = self.geometry.retract(problem, point.params, model.step)
        value, grad, at = self.geometry.evaluate(problem, target)
        new = Point(target, value, grad)
        eps = float(jnp.finfo(value.dtype).eps)
        drowned = model.decrease < 1e4 * eps * jnp.abs(point.value)
        chord = jax.tree.map(jnp.subtract, target, point.params)
        by_gradients = -0.5 * (dot(point.grad, chord) + dot(grad, chord))
        fall = jnp.where(drowned, by_gradients, point.value - value)
        ratio = fall / jnp.where(model.decrease > 0, model.decrease, 1.0)
        finite = jnp.isfinite(value) & jnp.isfinite(norm(grad))
        accepted = (finite & (fall > _ACCEPT * model.decrease)) | ~state.started
        grown = (ratio > _GOOD) & model.at_boundary & finite
        radius = jnp.where(grown, 2.0 * state.radius, state.radius)
        radius = jnp.where(finite & (ratio >= _SHORT), radius, 0.25 * model.length)
        radius = jnp.where(state.started, radius, jnp.minimum(norm(grad), 1.0))
        point, at = either(accepted, (new, at), (point, state.at))
        state = _State(at, radius, largest, jnp.ones((), bool))
        return point, state, model.products + 1
