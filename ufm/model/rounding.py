r"""Bounds on rounding errors, shared by the stopping rules and the certificates.

A sum of m terms is charged m eps times the sum of absolute values, for any order of summation.
Elementary functions are charged (K + 16) eps, through the `rounding` method of the losses.

A compiler may compute one array twice with different digits (x·y − z with one rounding or two). A
difference of larger numbers, such as Γ, then has no unique floating-point value. `GradientVersions`
bounds the distance between two such versions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.model.evaluation import Evaluated
from ufm.model.objective import (
    feature_gradient,
    logits_from,
    matmul,
    penalty,
    per_column,
    scale_by_weights,
    weighted_sum,
)
from ufm.model.params import Params
from ufm.model.problem import Problem

Scalar = Float[Array, ""]
#: Allowance for the constants of first-order estimates that are not derived term by term.
_SAFETY = 4


def value_floor(star: Any) -> Any:
    """The size below which f − f* is nothing but rounding: four units in the last place of f*.

    What either of the two numbers carries at least; on the host, for what is shown of results.
    """
    return _SAFETY * float(np.finfo(float).eps) * np.abs(star)


def resolved(difference: Any, star: Any) -> Any:
    """f − f*, 0 where rounding explains it."""
    return np.where(np.abs(difference) <= value_floor(star), 0.0, difference)


def machine_epsilon(like: Array) -> float:
    """2⁻⁵² in float64: the distance from 1 to the next larger number."""
    return float(jnp.finfo(like.dtype).eps)


def logit_sizes(problem: Problem, params: Params) -> Float[Array, "K N"]:
    """|z_ki| + |b_k|, the absolute values of the two terms of each logit."""
    Z = logits_from(problem, matmul(params.W, params.H), None)
    return jnp.abs(Z) if params.b is None else jnp.abs(Z) + jnp.abs(params.b)[:, None]


def gradient_noise(problem: Problem, at: Evaluated) -> Scalar:
    """Estimate from above the rounding error of ‖∇f‖, below which a gradient norm is meaningless.

    The estimate is eps times the norms of the terms in the three gradients, times the square root
    of the longest sum (rounding errors of a long sum behave as a random walk; Higham & Mary, 2019),
    plus the error of Γ itself, which may be a small difference: ω_i `Loss.gradient_rounding`.
    """
    params = at.params
    lam_w, lam_h, lam_b = problem.decays(at.V.dtype)
    sizes = logit_sizes(problem, params)
    errors = per_column(problem.loss.gradient_rounding, problem, at.V, sizes)
    gamma_error = jnp.linalg.norm(scale_by_weights(problem, errors[None, :]))
    size_w, size_h = jnp.linalg.norm(params.W), jnp.linalg.norm(params.H)
    longest = max(problem.num_columns, problem.dim, problem.num_outputs) ** 0.5
    terms = jnp.linalg.norm(at.G) * (size_h + size_w)
    terms += lam_w * size_w + lam_h * size_h
    own = size_h + size_w
    if params.b is not None:
        terms += jnp.linalg.norm(at.gamma)
        terms += lam_b * jnp.linalg.norm(params.b)
        own += problem.num_columns**0.5
    return machine_epsilon(params.W) * (longest * terms + gamma_error * own)


class ColumnSums(NamedTuple):
    """Averages over the samples of the losses and of the terms that bound their rounding errors."""

    #: g(V), and the average of |L| and of `Loss.rounding`.
    value: Scalar
    size: Scalar
    evaluation: Scalar
    #: Averages of Σ_k |∇L|_k a_k and ‖a‖², where a_k sums the absolute terms of a logit; max a.
    slope: Scalar
    square: Scalar
    largest: Scalar
    #: Errors of Γ in units of eps, e_i = ω_i `Loss.gradient_rounding`: Σ e_i and Σ e_i²/c_i.
    errors: Scalar
    square_errors: Scalar


def column_sums(problem: Problem, at: Evaluated) -> ColumnSums:
    """Compute all averages in one pass over the columns."""
    params, loss = at.params, problem.loss
    absolute = logits_from(problem, matmul(jnp.abs(params.W), jnp.abs(params.H)), None)
    if params.b is not None:
        absolute = absolute + jnp.abs(params.b)[:, None]

    def numbers(z: Array, label: Array, size: Array, absolute: Array) -> tuple[Array, ...]:
        value = loss.value(z, label)
        slope = jnp.sum(jnp.abs(loss.gradient(z, label)) * absolute)
        error = loss.gradient_rounding(z, label, size)
        return value, jnp.abs(value), loss.rounding(z, label), slope, jnp.sum(absolute**2), error

    *numbers_, error = per_column(numbers, problem, at.V, logit_sizes(problem, params), absolute)
    own = feature_gradient(problem, scale_by_weights(problem, error[None, :]))
    rows = jnp.stack([*numbers_, error, error * feature_gradient(problem, own)[0]])
    value, size, evaluation, slope, square, errors, square_errors = jax.vmap(
        lambda row: weighted_sum(problem, row)
    )(rows)
    largest = jnp.max(absolute)
    return ColumnSums(value, size, evaluation, slope, square, largest, errors, square_errors)


class GradientVersions(NamedTuple):
    """Bounds on the distance between two versions of Γ computed from the same point."""

    #: In ‖·‖_F after Γ ↦ G, hence in the dual norm.
    norm: Scalar
    #: In the Euclidean norm of the row sums.
    row_sums: Scalar


def gradient_versions(sums: ColumnSums) -> GradientVersions:
    """Compute first-order bounds from the gradient errors that the losses declare."""
    unit = _SAFETY * machine_epsilon(sums.value)
    return GradientVersions(unit * jnp.sqrt(sums.square_errors), unit * sums.errors)


def row_sums(
    gamma: Float[Array, "K N"], versions: GradientVersions
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Γ1 and its error bound, in which the versions' error is spread evenly over the rows."""
    sizes = jnp.sum(jnp.abs(gamma), axis=1)
    summation = (sum(gamma.shape) + 64) * machine_epsilon(gamma) * sizes
    return jnp.sum(gamma, axis=1), summation + versions.row_sums / gamma.shape[0] ** 0.5


def bounded_spectral_norm(
    G: Float[Array, "K N"], norm_of_entries: Scalar | None = None
) -> tuple[Scalar, Scalar, Float[Array, " K"]]:
    """σ₁, an upper bound on it that allows for rounding, and the top left singular vector.

    The entries of G have an error of (K + 64) eps relative to `norm_of_entries`, by default ‖G‖_F.
    The eigenvalues of GGᵀ give σ₁: squaring loses no accuracy in the largest singular value.
    """
    classes, columns = G.shape
    eps, gram = machine_epsilon(G), matmul(G, G.T)
    eigenvalues, vectors = jnp.linalg.eigh(gram)
    square, total = jnp.maximum(eigenvalues[-1], 0.0), jnp.trace(gram)
    error = eps * (columns * total + 16 * classes * square)
    entries = jnp.sqrt(total) if norm_of_entries is None else norm_of_entries
    bound = jnp.sqrt(square + error) * (1.0 + 8 * eps) + (classes + 64) * eps * entries
    return jnp.sqrt(square), bound, vectors[:, -1]


def value_rounding(problem: Problem, params: Params, sums: ColumnSums) -> Scalar:
    """Bound the error of the computed f at exactly these parameters."""
    eps, loss = machine_epsilon(sums.value), problem.loss
    K, N, d = problem.num_outputs, problem.num_columns, problem.dim
    # Logits: inner products of length d, then the loss's response to their error.
    unit = (d + 8) * eps
    second = jnp.asarray(loss.smoothness()[0], sums.value.dtype)
    logit_part = unit * sums.slope + second * (unit**2 * sums.square)
    # Loss evaluation, summation, penalties.
    longest = max(K * d, d * N) + 8
    total = logit_part + eps * (
        (K + 16) * sums.evaluation + (N + 8) * sums.size + longest * penalty(problem, params)
    )
    # First-order bounds are invalid once the error of a logit reaches a tenth.
    return jnp.where(loss.quadratic | (unit * sums.largest < 0.1), total, jnp.inf)
