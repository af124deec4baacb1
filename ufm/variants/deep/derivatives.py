r"""Objective, gradient and Hessian product of a deep linear model, each in one sweep.

With X_l = F_l X_{l−1}, from X_0 = H to X_M = Z, and B_{l−1} = F_lᵀ B_l, from B_M = G,

    ∂_{F_l} = B_l X_{l−1}ᵀ + λ_l F_l,   ∂_H = B_0 + λ_H H,   ∂_b = Γ1 + λ_b b,

and the Hessian product is the derivative of these by the product rule, with dG from the curvature
of the losses: 6M − 6 matrix products.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.evaluation import Evaluated
from ufm.model.hessian_product import Linearisation, curvature_product
from ufm.model.objective import (
    data_loss,
    feature_gradient,
    logit_gradient,
    logits_from,
    matmul,
    per_column,
)
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.factors import decays_of, factors_of, with_factors

Scalar = Float[Array, ""]


class Swept(NamedTuple):
    """A point with X_0, …, X_{M−1}, B_1, …, B_M, and the curvature of the loss at every column."""

    forward: tuple[Array, ...]
    backward: tuple[Array, ...]
    curvature: Any


def penalty(problem: Problem, params: Params) -> Scalar:
    """Half the sum of λ‖F‖² over all factors and the bias."""
    dtype = params.W.dtype
    pairs = zip(decays_of(problem), factors_of(params), strict=True)
    total = sum(0.5 * jnp.asarray(decay, dtype) * jnp.sum(F**2) for decay, F in pairs)
    if params.b is not None:
        total += 0.5 * jnp.asarray(problem.lam_b, dtype) * jnp.sum(params.b**2)
    return jnp.asarray(total)


def _forward(params: Params) -> tuple[Array, ...]:
    """X_0 = H, X_1, …, X_M = Z."""
    found = [params.H]
    for F in (*reversed(params.hidden), params.W):
        found.append(matmul(F, found[-1]))
    return tuple(found)


@quick_jit
def deep_objective(problem: Problem, params: Params) -> Scalar:
    """f."""
    V = logits_from(problem, _forward(params)[-1], params.b)
    return data_loss(problem, V) + penalty(problem, params)


def sweep(problem: Problem, params: Params) -> tuple[Scalar, Params, Swept, Evaluated]:
    """f, its gradient, what products need of the point, and the logits with Γ and G."""
    dtype = params.W.dtype
    *forward, Z = _forward(params)
    V = logits_from(problem, Z, params.b)
    gamma = logit_gradient(problem, V)
    G = feature_gradient(problem, gamma)
    backward, gradients = [G], []
    decays = [jnp.asarray(x, dtype) for x in decays_of(problem)]
    factors = factors_of(params)
    for F, decay, X in zip(factors[:-1], decays[:-1], reversed(forward), strict=True):
        gradients.append(matmul(backward[-1], X.T) + decay * F)
        backward.append(matmul(F.T, backward[-1]))
    gradients.append(backward.pop() + decays[-1] * params.H)
    grad_b = None
    if params.b is not None:
        grad_b = jnp.sum(gamma, axis=1) + jnp.asarray(problem.lam_b, dtype) * params.b
    value = data_loss(problem, V) + penalty(problem, params)
    curvature = per_column(problem.loss.curvature, problem, V)
    at = Swept(tuple(forward), tuple(reversed(backward)), curvature)
    return value, with_factors(gradients, grad_b), at, Evaluated(params, V, gamma, G)


def product(problem: Problem, params: Params, at: Swept, direction: Params) -> Params:
    """Apply ∇²f to a direction."""
    dtype, factors, changes = params.W.dtype, factors_of(params), factors_of(direction)
    moved = [direction.H]
    steps = zip(reversed(factors[:-1]), reversed(changes[:-1]), at.forward, strict=True)
    for F, dF, X in steps:
        moved.append(matmul(dF, X) + matmul(F, moved[-1]))
    change = logits_from(problem, moved.pop(), direction.b)
    known = Linearisation(params, change, change, at.curvature)  # only the curvature is used
    d_gamma = curvature_product(problem, known, change)
    dB = feature_gradient(problem, d_gamma)
    decays, images = [jnp.asarray(x, dtype) for x in decays_of(problem)], []
    for i, (F, dF) in enumerate(zip(factors[:-1], changes[:-1], strict=True)):
        X, dX, B = at.forward[-1 - i], moved[-1 - i], at.backward[-1 - i]
        images.append(matmul(dB, X.T) + matmul(B, dX.T) + decays[i] * dF)
        dB = matmul(F.T, dB) + matmul(dF.T, B)
    images.append(dB + decays[-1] * direction.H)
    out_b = None
    if direction.b is not None:
        out_b = jnp.sum(d_gamma, axis=1) + jnp.asarray(problem.lam_b, dtype) * direction.b
    return with_factors(images, out_b)


@quick_jit
def total_decay(problem: Problem, params: Params) -> Scalar:
    """`penalty` as a program."""
    return penalty(problem, params)


@quick_jit
def value_gradient_state(
    problem: Problem, params: Params
) -> tuple[Scalar, Params, Swept, Evaluated]:
    """`sweep` as a program."""
    return sweep(problem, params)


@quick_jit
def products(problem: Problem, params: Params, at: Swept, direction: Params) -> Params:
    """`product` as a program."""
    return product(problem, params, at, direction)
