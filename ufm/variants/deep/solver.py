r"""Newton's method and gradient descent for a deep linear model.

Newton's method is that of `ufm.solvers.trust_region` on the whole space, in variables in which all
decays are equal (`ufm.variants.deep.factors`). Averaging the features of a class never raises f if
the loss is convex, and every critical point is of this kind. A run with a convex loss therefore
begins by it, and then works with one column for each class, at a cost independent of the number of
samples.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.class_means import from_class_means, to_class_means
from ufm.model.evaluation import Evaluated
from ufm.model.objective import per_column, scale_by_weights
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.rounding import machine_epsilon
from ufm.solvers import gradient_descent
from ufm.solvers._loop import Point
from ufm.solvers.trust_region import TrustRegion
from ufm.variants.deep.derivatives import Swept, product, sweep
from ufm.variants.deep.factors import (
    decays_of,
    factors_of,
    inner_widths,
    mean_decay,
    of_class_means,
    with_factors,
)


class WholeSpace:
    """The geometry of factors that are free."""

    def evaluate(self, problem: Problem, params: Params) -> tuple[Array, Params, Swept]:
        value, grad, at, _ = sweep(problem, params)
        return value, grad, at

    def product(self, problem: Problem, params: Params, at: Swept, direction: Params) -> Params:
        return product(problem, params, at, direction)

    def retract(self, problem: Problem, params: Params, step: Params) -> Params:
        del problem
        return jax.tree.map(jnp.add, params, step)

    def gradient_noise(self, problem: Problem, params: Params) -> Array:
        return gradient_noise(problem, params)


def gradient_noise(problem: Problem, params: Params) -> Array:
    """Estimate from above the rounding error of ‖∇f‖, as `ufm.model.rounding.gradient_noise`."""
    return noise_at(problem, params, sweep(problem, params))


def noise_at(
    problem: Problem, params: Params, swept: tuple[Array, Params, Swept, Evaluated]
) -> Array:
    """Do the same from what the sweep found."""
    _, _, at, seen = swept
    sizes = jnp.abs(seen.V)
    if params.b is not None:
        sizes = sizes + jnp.abs(params.b)[:, None]
    errors = per_column(problem.loss.gradient_rounding, problem, seen.V, sizes)
    gamma_error = jnp.linalg.norm(scale_by_weights(problem, errors[None, :]))
    sums = [jnp.linalg.norm(B) for B in at.backward], [jnp.linalg.norm(X) for X in at.forward]
    factors = [jnp.linalg.norm(F) for F in factors_of(params)]
    size = jnp.linalg.norm(seen.G)
    # ∂_{F_l} is L_lᵀ G R_lᵀ, so that an error of G enters by the norms of the other factors.
    others = sum(_product(factors[:i] + factors[i + 1 :]) for i in range(len(factors)))
    terms = sum(x * y for x, y in zip(*sums, strict=True)) + size * _product(factors[:-1])
    for decay, F in zip(decays_of(problem), factors, strict=True):
        terms += jnp.asarray(decay, size.dtype) * F
    if params.b is not None:
        terms += jnp.linalg.norm(seen.gamma)
        terms += jnp.asarray(problem.lam_b, size.dtype) * jnp.linalg.norm(params.b)
        others += problem.num_columns**0.5
    longest = max(problem.num_columns, problem.num_outputs, *inner_widths(problem)) ** 0.5
    return machine_epsilon(params.W) * (longest * terms + gamma_error * others)


def _product(numbers: list[Array]) -> Array:
    return functools.reduce(jnp.multiply, numbers)


class _Reduced(NamedTuple):
    """The point of the reduced problem, and the state of the method there."""

    point: Point
    state: Any


class Newton(TrustRegion):
    """The trust-region method on the reduced problem, for the loop of all solvers."""

    def init(self, problem: Problem, point: Point) -> Any:
        small = _reduced(problem)
        start = _scaled(problem, point.params, False)
        if _collapses(problem):
            start = dataclasses.replace(start, H=to_class_means(problem, start.H))
        there = Point(start, point.value, jax.tree.map(jnp.zeros_like, start))
        return _Reduced(there, super().init(small, there))

    def step(self, problem: Problem, point: Point, state: Any) -> tuple[Point, Any, Array]:
        del point
        small = _reduced(problem)
        there, inner, products = super().step(small, *state)
        params, grad = there.params, there.grad
        if _collapses(problem):
            params, grad = (
                dataclasses.replace(x, H=from_class_means(problem, x.H)) for x in (params, grad)
            )
            columns = problem.num_columns
            products = (products * problem.num_classes + columns - 1) // columns
        params, grad = _scaled(problem, params, True), _scaled(problem, grad, False)
        return Point(params, there.value, grad), _Reduced(there, inner), products


def _collapses(problem: Problem) -> bool:
    return bool(problem.loss.is_convex()) and problem.num_columns > problem.num_classes


def _reduced(problem: Problem) -> Problem:
    """All decays Λ, and one column for each class if features collapse."""
    mean = mean_decay(problem)
    hidden = (mean,) * len(problem.lam_hidden)
    found = dataclasses.replace(problem, lam_w=mean, lam_h=mean, lam_hidden=hidden)
    return of_class_means(found) if _collapses(problem) else found


def _scaled(problem: Problem, x: Params, back: bool) -> Params:
    """F̃ = √(λ/Λ) F of a point; `back` inverts it. A gradient scales inversely to its point."""
    dtype = x.W.dtype
    mean = jnp.asarray(mean_decay(problem), dtype)
    scales = [jnp.sqrt(jnp.asarray(decay, dtype) / mean) for decay in decays_of(problem)]
    pairs = zip(factors_of(x), scales, strict=True)
    return with_factors([F / scale if back else scale * F for F, scale in pairs], x.b)


@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """Gradient descent on all columns."""

    default_max_steps: int = gradient_descent.default_max_steps
    patience: int = gradient_descent.patience
    init_products: int = 0
    evaluates_start: bool = True
    balanced: bool = False

    def gradient_noise(self, problem: Problem, params: Params) -> Array:
        return gradient_noise(problem, params)

    def init(self, problem: Problem, point: Point) -> Array:
        # The first step has no gradient: it evaluates the start, and doubles the trial step.
        return 0.5 * gradient_descent.init(problem, point)

    def step(self, problem: Problem, point: Point, trial: Array) -> tuple[Point, Array, Array]:
        return gradient_descent.step(problem, point, trial, _evaluate)


def _evaluate(problem: Problem, params: Params) -> Point:
    value, grad, _, _ = sweep(problem, params)
    return Point(params, value, grad)


METHODS = {"newton": Newton(WholeSpace()), "gradient_descent": GradientDescent()}
