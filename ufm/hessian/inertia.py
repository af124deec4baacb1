r"""Exact eigenvalue counts at any point, through the arrow structure, linear in N.

Given (W, b), the features of different samples do not interact, so the Hessian is N blocks of
size d bordered by (W, b) of size m = Kd + K:

    D_i = λ_H I + Wᵀ S_i W / c_i,          S_i = ω_i ∇²L(v_i, y_i)
    C_i = ∂²f / ∂(W,b) ∂ĥ_i,               M = ∂²f / ∂(W,b)²

and by Haynsworth, inertia(∇²f − σI) = Σ_i inertia(D_i − σI) + inertia(T_σ) with the Schur
complement T_σ = M − σI − Σ_i C_i (D_i − σI)^{-1} C_iᵀ. Counting at shift ± tol never factors at an
eigenvalue that symmetry forces (rotation zeros at 0); a shift that hits an eigenvalue of a block
is moved away, and the shifts used are returned.

    >>> counts = inertia(problem, params)      # negative, zero, positive
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._pytree import pytree
from ufm.params import Params, finite_or_zero
from ufm.problem import (
    Problem,
    check_shapes,
    feature_gradient,
    logit_gradient,
    logits,
    matmul,
)

#: Columns whose Schur terms are formed at once: bounds memory by 64 · m · d numbers.
_CHUNK = 64


@pytree()
class Inertia:
    """Eigenvalues of the Hessian below, within and above shift ± tol.

    `lower`, `upper` are the two shifts at which was counted: shift ∓ tol, moved where one hit an
    eigenvalue of a block. `reliable` is False where an eigenvalue lies within rounding of a shift.
    """

    negative: int
    zero: int
    positive: int
    lower: float
    upper: float
    reliable: bool


def inertia(
    problem: Problem, params: Params, shift: float = 0.0, tol: float | None = None
) -> Inertia:
    """Count the eigenvalues of ∇²f below, within and above shift ± tol, exactly.

    Two factorisations of size Kd + K, and N of size d. `tol=None` is 1e-6 (λ_W + λ_H). Raises
    `ValueError` for a point that is not finite or a tol that is not positive.
    """
    check_shapes(problem, params)
    if not all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(params)):
        raise ValueError("the point is not finite: no Hessian to count the eigenvalues of")
    width = 1e-6 * float(problem.lam_w + problem.lam_h) if tol is None else float(tol)
    if not width > 0:
        raise ValueError(f"tol must be positive (at 0 itself counts go wrong), got {width}")
    lower, below, sure_lower = _count(problem, params, shift - width, -1.0)
    upper, above, sure_upper = _count(problem, params, shift + width, 1.0)
    total = problem.num_parameters
    return Inertia(below, above - below, total - above, lower, upper, sure_lower and sure_upper)


def _count(problem: Problem, params: Params, shift: float, away: float) -> tuple[float, int, bool]:
    """(shift used, eigenvalues below it, is the count beyond rounding?)"""
    dtype = params.W.dtype
    blocks = np.asarray(_block_eigenvalues(problem, params))
    scale = float(np.max(np.abs(blocks)))
    eps = float(jnp.finfo(dtype).eps)
    # A block closer to singular than this makes the Schur complement meaningless.
    room = 1e3 * eps**0.75 * max(scale, abs(shift))
    step = room
    while np.min(np.abs(blocks - shift)) < room:
        shift += away * step
        step *= 2.0
    schur = _schur_complement(problem, params, jnp.asarray(shift, dtype))
    eigenvalues = np.asarray(jnp.linalg.eigvalsh(schur))
    noise = 16 * eps * len(eigenvalues) * float(np.max(np.abs(eigenvalues)))
    below = int(np.sum(blocks < shift)) + int(np.sum(eigenvalues < 0))
    return shift, below, bool(np.min(np.abs(eigenvalues)) > noise)


def _weights(problem: Problem, params: Params) -> tuple[Array, Array, Array, Array]:
    """Per column: label, logits, ω_i and 1/√c_i."""
    samples = problem.samples(params.W.dtype)
    V = logits(problem, params)
    return jnp.asarray(problem.labels), V.T, samples / jnp.sum(samples), jax.lax.rsqrt(samples)


@jax.jit
def _block_eigenvalues(problem: Problem, params: Params) -> Float[Array, "N d"]:
    lam_h = jnp.asarray(problem.lam_h, params.W.dtype)

    def one(column: Any) -> Array:
        label, v, weight, root = column
        S = weight * problem.loss.hessian(v, label)
        block = matmul(params.W.T, matmul(S, params.W)) * root**2
        return lam_h + jnp.linalg.eigvalsh(0.5 * (block + block.T))

    return jax.lax.map(one, _weights(problem, params), batch_size=_CHUNK)


@jax.jit
def _schur_complement(problem: Problem, params: Params, shift: Array) -> Float[Array, "m m"]:
    """T_σ, with (W row by row, then b) as its order."""
    W, K, d = params.W, problem.num_classes, problem.dim
    dtype = W.dtype
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))
    V = logits(problem, params)
    G = feature_gradient(problem, logit_gradient(problem, V))
    eye = jnp.eye(d, dtype=dtype)

    def one(column: Any) -> Array:
        (label, v, weight, root), g, h = column
        S = weight * problem.loss.hessian(v, label)
        # Change of the logits: J (A, c) for the border, root W B for the block.
        J = jnp.kron(jnp.eye(K, dtype=dtype), (root * h)[None, :])
        bilinear = jnp.kron(g[:, None], eye)
        if params.b is not None:
            J = jnp.concatenate([J, jnp.eye(K, dtype=dtype)], axis=1)
            bilinear = jnp.concatenate([bilinear, jnp.zeros((K, d), dtype)], axis=0)
        SJ = matmul(S, J)
        coupling = root * matmul(SJ.T, W) + bilinear
        block = (lam_h - shift) * eye + root**2 * matmul(W.T, matmul(S, W))
        return matmul(J.T, SJ) - matmul(coupling, jnp.linalg.solve(block, coupling.T))

    columns = (_weights(problem, params), G.T, params.H.T)
    total = _sum_over_columns(one, columns, problem.num_columns)
    decay = jnp.full(K * d, lam_w)
    if params.b is not None:
        decay = jnp.concatenate([decay, jnp.full(K, jnp.asarray(problem.lam_b, dtype))])
    T = total + jnp.diag(decay - shift)
    return 0.5 * (T + T.T)


def _sum_over_columns(one, columns, count: int) -> Array:
    """Σ_i one(column_i), in chunks: all terms at once would need N · m² numbers."""
    chunk = min(_CHUNK, count)
    whole = count // chunk

    def body(total: Array, part) -> tuple[Array, None]:
        return total + jnp.sum(jax.vmap(one)(part), axis=0), None

    head = jax.tree.map(lambda x: x[: whole * chunk].reshape(whole, chunk, *x.shape[1:]), columns)
    first = jax.tree.map(lambda x: x[0], columns)
    zero = jnp.zeros_like(one(first))
    total, _ = jax.lax.scan(body, zero, head)
    if whole * chunk < count:
        rest = jax.tree.map(lambda x: x[whole * chunk :], columns)
        total = total + jnp.sum(jax.vmap(one)(rest), axis=0)
    return total


def rotation_dimension(problem: Problem, params: Params) -> int:
    """Dimension of the orbit (WQ, QᵀH): zero eigenvalues that symmetry forces at critical points.

    With r the rank of [W; Hᵀ]: r(d−r) + r(r−1)/2, plus one for a free bias and a shift-invariant
    loss, which leaves b + c1 undetermined.
    """
    point = finite_or_zero(params)
    stacked = np.vstack([np.asarray(point.W), np.asarray(point.H).T])
    sizes = np.linalg.svd(stacked, compute_uv=False)
    # A part of size s rotates with curvature ‖∇f‖/s: below 1e-7 that is no zero of anything.
    rank = int(np.sum(sizes > max(1e-6 * float(sizes[0]), 1e-7)))
    d = problem.dim
    free_shift = (
        problem.has_bias and problem.loss.shift_invariant and float(problem.lam_b or 0) == 0
    )
    return rank * (d - rank) + rank * (rank - 1) // 2 + int(free_shift)
