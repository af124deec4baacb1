r"""The objective f, its parts and its gradient, in the notation of `ufm.model.problem`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.model.variant import by_variant

Scalar = Float[Array, ""]

#: By default accelerators multiply float32 matrices in reduced precision.
matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def logits_from(problem: Problem, Z: Float[Array, "K N"], b: Any) -> Float[Array, "K N"]:
    """V = Z diag(1/√c)/τ + b1ᵀ, with τ = 1 without a temperature."""
    Z = _cooled(problem, _over_roots(problem, Z))
    return Z if b is None else Z + b[:, None]


def _cooled(problem: Problem, X: Float[Array, "K N"]) -> Float[Array, "K N"]:
    """X/τ."""
    if problem.temperature is None:
        return X
    return X / jnp.asarray(problem.temperature, X.dtype)


def _over_roots(problem: Problem, X: Float[Array, "m N"]) -> Float[Array, "m N"]:
    """X diag(1/√c)."""
    if problem.column_weights is None:
        return X
    return X * jax.lax.rsqrt(problem.samples(X.dtype))[None, :]


def logits(problem: Problem, params: Params) -> Float[Array, "K N"]:
    """V, the logits of every column, shape (K, N)."""
    return logits_from(problem, matmul(params.W, params.H), params.b)


def per_column(function: Any, problem: Problem, *arrays: Float[Array, "K N"]) -> Any:
    """Map a method of the loss, `function(z, label, *rest)`, over the columns."""
    first, *rest = arrays
    mapped = jax.vmap(function, in_axes=(1, 0) + (1,) * len(rest), out_axes=-1)
    return mapped(first, jax.device_put(problem.labels), *rest)


def weighted_sum(problem: Problem, values: Float[Array, " N"]) -> Scalar:
    """Σ_i ω_i x_i, the average over samples."""
    if problem.column_weights is None:
        return jnp.mean(values)
    samples = problem.samples(values.dtype)
    return jnp.sum(samples * values) / jnp.sum(samples)


@quick_jit
def data_loss(problem: Problem, V: Float[Array, "K N"]) -> Scalar:
    """g(V)."""
    return weighted_sum(problem, per_column(problem.loss.value, problem, V))


@quick_jit
def logit_gradient(problem: Problem, V: Float[Array, "K N"]) -> Float[Array, "K N"]:
    """Γ = ∇g(V): column i is ω_i ∇L(v_i, y_i)."""
    return scale_by_weights(problem, per_column(problem.loss.gradient, problem, V))


def scale_by_weights(problem: Problem, X: Float[Array, "K N"]) -> Float[Array, "K N"]:
    """Multiply column i by ω_i."""
    if problem.column_weights is None:
        return X / problem.num_columns
    samples = problem.samples(X.dtype)
    return X * (samples / jnp.sum(samples))[None, :]


def feature_gradient(problem: Problem, gamma: Float[Array, "K N"]) -> Float[Array, "K N"]:
    """G = Γ diag(1/√c)/τ, the gradient in Z."""
    return _cooled(problem, _over_roots(problem, gamma))


def penalty(problem: Problem, params: Params) -> Scalar:
    """λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖²."""
    lam_w, lam_h, lam_b = problem.decays(params.W.dtype)
    total = 0.5 * lam_w * jnp.sum(params.W**2) + 0.5 * lam_h * jnp.sum(params.H**2)
    if params.b is not None:
        total += 0.5 * lam_b * jnp.sum(params.b**2)
    return total


@by_variant
def objective(problem: Problem, params: Params) -> Scalar:
    """f(W, H, b) = mean loss of the logits WH + b1ᵀ + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖².

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.

    Returns:
        The value, a scalar.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    return _objective(problem, params)


@quick_jit
def _objective(problem: Problem, params: Params) -> Scalar:
    return data_loss(problem, logits(problem, params)) + penalty(problem, params)


def gradient_at(problem: Problem, params: Params, gamma: Float[Array, "K N"]) -> Params:
    """The gradient of f, given Γ at the point."""
    lam_w, lam_h, lam_b = problem.decays(params.W.dtype)
    G = feature_gradient(problem, gamma)
    grad_b = None
    if params.b is not None:
        grad_b = jnp.sum(gamma, axis=1) + lam_b * params.b
    return Params(
        matmul(G, params.H.T) + lam_w * params.W,
        matmul(params.W.T, G) + lam_h * params.H,
        grad_b,
    )


@quick_jit
def value_and_gradient(problem: Problem, params: Params) -> tuple[Scalar, Params]:
    """f and its gradient, a `Params`, from one pass over the columns."""
    check_shapes(problem, params)
    V = logits(problem, params)
    value = data_loss(problem, V) + penalty(problem, params)
    return value, gradient_at(problem, params, logit_gradient(problem, V))


def features(problem: Problem, params: Params) -> Float[Array, "d N"]:
    """The features h_i themselves: H, or Ĥ diag(1/√c) with weighted columns."""
    return _over_roots(problem, params.H)
