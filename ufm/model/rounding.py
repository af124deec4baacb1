r"""Bounds on rounding errors, shared by the stopping rules and the certificates.

Sums of m terms are charged m eps times the sum of absolute values, whatever the order; elementary
functions (K + 16) eps, by way of the losses' `rounding`.

A compiler may compute one array twice with different digits (x·y − z in one rounding or two), so
that what is a difference of larger numbers, as Γ may be, has no unique floating-point value:
`GradientVersions` bounds how far two such versions may lie apart.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.losses import Loss
from ufm.model.problem import (
    Params,
    Problem,
    feature_gradient,
    logit_gradient,
    logits,
    logits_from,
    matmul,
    penalty,
    per_column,
    scale_by_weights,
    weighted_sum,
)

Scalar = Float[Array, ""]
#: Allowance for the constants of first-order estimates that are not counted out term by term.
_SAFETY = 4


def machine_epsilon(like: Array) -> float:
    """2⁻⁵² in float64: the distance from 1 to the next larger number."""
    return float(jnp.finfo(like.dtype).eps)


def logit_sizes(problem: Problem, params: Params) -> Float[Array, "K N"]:
    """|z_ki| + |b_k|: the numbers whose sum a logit is."""
    Z = logits_from(problem, matmul(params.W, params.H), None)
    return jnp.abs(Z) if params.b is None else jnp.abs(Z) + jnp.abs(params.b)[:, None]


def _gradient_errors(problem: Problem, params: Params, V: Float[Array, "K N"]) -> Array:
    """Estimated errors of the columns of Γ, in units of eps: ω_i `Loss.gradient_rounding`."""
    sizes = logit_sizes(problem, params)
    errors = per_column(problem.loss.gradient_rounding, problem, V, sizes)
    return scale_by_weights(problem, errors[None, :])


def gradient_noise(problem: Problem, params: Params) -> Scalar:
    """An upper estimate of the rounding error of ‖∇f‖: below it a gradient norm means nothing.

    eps times the norms of what the three gradients add up, times the square root of the longest
    sum (rounding errors of a long sum behave as a random walk; Higham & Mary, 2019), and the error
    of Γ itself, which may be a small difference (`Loss.gradient_rounding`).
    """
    dtype = params.W.dtype
    V = logits(problem, params)
    gamma = logit_gradient(problem, V)
    gamma_error = jnp.linalg.norm(_gradient_errors(problem, params, V))
    size_w, size_h = jnp.linalg.norm(params.W), jnp.linalg.norm(params.H)
    longest = max(problem.num_columns, problem.dim, problem.num_classes) ** 0.5
    terms = jnp.linalg.norm(feature_gradient(problem, gamma)) * (size_h + size_w)
    terms += jnp.asarray(problem.lam_w, dtype) * size_w + jnp.asarray(problem.lam_h, dtype) * size_h
    own = size_h + size_w
    if params.b is not None:
        terms += jnp.linalg.norm(gamma)
        terms += jnp.asarray(problem.lam_b, dtype) * jnp.linalg.norm(params.b)
        own += problem.num_columns**0.5
    return machine_epsilon(params.W) * (longest * terms + gamma_error * own)


class GradientVersions(NamedTuple):
    """How far two versions of Γ computed from the same point may lie apart."""

    #: In ‖·‖_F after Γ ↦ G, hence in the dual norm.
    norm: Scalar
    #: In the Euclidean norm of the row sums.
    row_sums: Scalar


def gradient_versions(problem: Problem, params: Params, V: Float[Array, "K N"]) -> GradientVersions:
    """First-order bounds, by the error that the losses declare for their gradients."""
    unit = _SAFETY * machine_epsilon(V)
    errors = _gradient_errors(problem, params, V)
    return GradientVersions(
        norm=unit * jnp.linalg.norm(feature_gradient(problem, errors)),
        row_sums=unit * jnp.sum(errors),
    )


def row_sums(
    gamma: Float[Array, "K N"], versions: GradientVersions
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Γ1 and its error; that of the versions as a vector of their norm, spread evenly."""
    sizes = jnp.sum(jnp.abs(gamma), axis=1)
    summation = (sum(gamma.shape) + 64) * machine_epsilon(gamma) * sizes
    return jnp.sum(gamma, axis=1), summation + versions.row_sums / gamma.shape[0] ** 0.5


def bounded_spectral_norm(
    G: Float[Array, "K N"], norm_of_entries: Scalar
) -> tuple[Scalar, Scalar, Float[Array, " K"], Float[Array, " N"]]:
    """σ₁, an upper bound on it that allows for rounding, and the top singular pair.

    The entries of G carry an error of (K + 64) eps relative to `norm_of_entries`. By the
    eigenvalues of GGᵀ: for the largest singular value the squaring costs no accuracy.
    """
    classes, columns = G.shape
    eps = machine_epsilon(G)
    eigenvalues, vectors = jnp.linalg.eigh(matmul(G, G.T))
    square, left = jnp.maximum(eigenvalues[-1], 0.0), vectors[:, -1]
    error = eps * (columns * jnp.sum(G**2) + 16 * classes * square)
    right = matmul(left, G)
    size = jnp.linalg.norm(right)
    bound = jnp.sqrt(square + error) * (1.0 + 8 * eps) + (classes + 64) * eps * norm_of_entries
    return jnp.sqrt(square), bound, left, right / jnp.where(size > 0, size, 1.0)


def value_rounding(
    problem: Problem, params: Params, V: Float[Array, "K N"], gamma: Float[Array, "K N"]
) -> Scalar:
    """Bound on the error of the computed f at exactly these parameters."""
    eps, loss = machine_epsilon(V), problem.loss
    K, N, d = problem.num_classes, problem.num_columns, problem.dim
    # Logits: inner products of length d, then what the loss makes of their error.
    absolute = logits_from(problem, matmul(jnp.abs(params.W), jnp.abs(params.H)), None)
    if params.b is not None:
        absolute = absolute + jnp.abs(params.b)[:, None]
    error = (d + 8) * eps * absolute
    second, _ = loss.smoothness()
    curved = jnp.asarray(second, V.dtype) * jnp.sum(scale_by_weights(problem, error**2))
    logit_part = jnp.sum(jnp.abs(gamma) * error) + curved
    # Loss evaluation, summation, penalties.
    evaluation = weighted_sum(problem, per_column(loss.rounding, problem, V))
    summation = weighted_sum(problem, jnp.abs(per_column(loss.value, problem, V)))
    longest = max(K * d, d * N) + 8
    total = logit_part + eps * (
        (K + 16) * evaluation + (N + 8) * summation + longest * penalty(problem, params)
    )
    # First-order bounds mean nothing once logits are wrong by a tenth.
    return jnp.where(_quadratic(loss) | (jnp.max(error) < 0.1), total, jnp.inf)


def _quadratic(loss: Loss) -> bool:
    return not loss.contrastive and loss.has_conjugate
