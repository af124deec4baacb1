r"""The quadratic model of a Newton step: whole, in its two parts, or of the features alone.

The parts are the Hessian of the K-column problem on the class means, W and b, and λ_H I + WᵀS_iW
on the deviations of sample i from them. Two loops of conjugate gradients serve all three models.
"""

from typing import Any

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
from ufm.model.objective import feature_gradient, logits_from, matmul
from ufm.model.problem import Params, Problem
from ufm.solvers._branches import either, only_if
from ufm.solvers._loop import Point
from ufm.solvers._model import ModelStep, minimise_model

#: Largest number of products in a step; with more, updating the model pays better.
_MAX_PRODUCTS = 1_000


def minimise_split(
    problem: Problem,
    point: Point,
    at: Linearisation,
    radius: Array,
    goal: Array,
    whole: Array,
    *,
    features: Array | bool = False,
    wanted: Array | bool = True,
) -> ModelStep:
    """A step by the whole Hessian, by its two parts, or by the Hessian of the features alone.

    Products are counted in units of a product with the whole Hessian.
    """
    parts = ~(whole | features)
    rest = _minimise_columns(problem, point, at, radius, goal, whole, parts, wanted)
    # Two of the six matrix products of the whole Hessian.
    rest = rest._replace(products=jnp.where(whole, rest.products, _rounded_up(rest.products, 3)))
    if problem.num_columns == problem.num_classes:
        return rest
    means = _minimise_means(problem, point, at, radius, goal, wanted & parts)
    products = _rounded_up(means.products * problem.num_classes, problem.num_columns)
    return ModelStep(
        step=jax.tree.map(jnp.add, means.step, rest.step),
        length=jnp.where(whole, rest.length, means.length),
        decrease=means.decrease + rest.decrease,
        products=products + rest.products,
        at_boundary=jnp.where(whole, rest.at_boundary, means.at_boundary),
    )


def _rounded_up(count: Array, unit: int) -> Array:
    return jax.lax.div(count + (unit - 1), jnp.asarray(unit, count.dtype))


def _minimise_means(
    problem: Problem, point: Point, at: Linearisation, radius: Array, goal: Array, wanted: Any
) -> ModelStep:
    """The class means, W and b, by the Hessian of the K-column problem."""
    small = reduced_problem(problem, problem.dim)

    def of_means(x: Params) -> Params:
        return Params(x.W, to_class_means(problem, x.H), x.b)

    mean = linearise(small, of_means(at.params))
    found = minimise_model(
        lambda x: hessian_product(small, mean, x),
        of_means(point.grad),
        radius,
        goal,
        min(small.num_parameters, _MAX_PRODUCTS),
        wanted=wanted,
    )
    change = found.step
    return found._replace(step=Params(change.W, from_class_means(problem, change.H), change.b))


def _minimise_columns(
    problem: Problem,
    point: Point,
    at: Linearisation,
    radius: Array,
    goal: Array,
    whole: Array,
    parts: Array,
    wanted: Any,
) -> ModelStep:
    """All variables by the `whole` Hessian, or else features at fixed W, b by λ_H I + WᵀS_iW.

    If the model splits into `parts`, the latter are the features' deviations from class means.
    """
    W, H = at.params.W, at.params.H
    lam_w, lam_h = (jnp.asarray(x, W.dtype) for x in (problem.lam_w, problem.lam_h))

    def restricted(X: Array) -> Array:
        return jax.lax.cond(parts, lambda: deviations(problem, X), lambda: X)

    def product(x: Params) -> Params:
        """`hessian_product`, with the four matrix products of W and b only for the whole."""
        change = matmul(W, x.H)
        change = only_if(whole, lambda: change + matmul(x.W, H), change)
        d_gamma = curvature_product(problem, at, logits_from(problem, change, x.b))
        dG = feature_gradient(problem, d_gamma)
        alone = Params(x.W, restricted(matmul(W.T, dG)) + lam_h * x.H, x.b)

        def all_three() -> Params:
            out_b = None
            if x.b is not None:
                out_b = jnp.sum(d_gamma, axis=1) + jnp.asarray(problem.lam_b, W.dtype) * x.b
            out_W = matmul(dG, H.T) + matmul(at.G, x.H.T) + lam_w * x.W
            return Params(out_W, alone.H + matmul(x.W.T, at.G), out_b)

        # Otherwise W and b stay fixed: their directions are zero.
        return only_if(whole, all_three, alone)

    grad = Params(point.grad.W, restricted(point.grad.H), point.grad.b)
    only_features = Params(jnp.zeros_like(grad.W), grad.H, jax.tree.map(jnp.zeros_like, grad.b))
    # Newton's step is about minus the deviations, so it is limited to twice their norm.
    size = jnp.where(parts, jnp.linalg.norm(deviations(problem, at.params.H)), 0.0)
    return minimise_model(
        product,
        either(whole, grad, only_features),
        radius + 2.0 * size,
        goal,
        min(problem.num_parameters, _MAX_PRODUCTS),
        wanted=wanted,
    )
