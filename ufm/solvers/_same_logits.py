r"""The point with the same logits and the least weight decay, reached in one exact step.

The data loss does not change under

    (W, H, b) → (WA⁻¹, A(H + c√wᵀ), b − Wc),    A invertible, w the weights of the columns,

and, for a shift-invariant loss, under projecting b and the columns of W onto 1ᵀx = 0. At tiny
decays f has a flat curved valley along them, and to follow it takes thousands of steps. The least
decay along them has a closed form. For fixed A the best c is a ridge regression. For fixed c the
best A balances the factors, λ_W A⁻ᵀWᵀWA⁻¹ = λ_H AHHᵀAᵀ, so that AᵀA is the geometric mean of
(λ_W/λ_H) WᵀW and (HHᵀ)⁻¹ (Bhatia, *Positive Definite Matrices*, 2007, chapter 4).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem, norm
from ufm.solvers._branches import either

#: If the penalties of W and H differ by more than this factor, they are balanced at once.
_LOPSIDED = 1e4


def is_lopsided(problem: Problem, params: Params) -> Array:
    """Whether the penalties of W and H are very different; at a minimum they are equal."""
    of_w = jnp.asarray(problem.lam_w, params.W.dtype) * jnp.sum(params.W**2)
    of_h = jnp.asarray(problem.lam_h, params.W.dtype) * jnp.sum(params.H**2)
    return (of_w > _LOPSIDED * of_h) | (of_h > _LOPSIDED * of_w)


def least_decay(problem: Problem, params: Params) -> Params:
    """The point with the same logits and about the least decay; the same point if λ_W or λ_H is 0.

    A is built from rotations and a scaling, so that logits are preserved up to rounding, even with
    inexact eigenvectors. With a bias, c and A are optimised in turn.
    """
    W, H, b = params.W, params.H, params.b
    lam_w, lam_h = (jnp.asarray(x, W.dtype) for x in (problem.lam_w, problem.lam_h))
    if problem.loss.shift_invariant:
        W = W - jnp.mean(W, axis=0, keepdims=True)
        b = None if b is None else b - jnp.mean(b)
    squares, axes = jnp.linalg.eigh(matmul(W.T, W))
    W, H = matmul(W, axes), matmul(axes.T, H)
    if b is not None:
        lam_b, roots = jnp.asarray(problem.lam_b, W.dtype), jnp.sqrt(problem.samples(W.dtype))
        pull = lam_b * matmul(b[None, :], W)[0] - lam_h * matmul(H, roots[:, None])[:, 0]
        c = pull / (lam_h * jnp.sum(roots**2) + lam_b * squares)
        H, b = H + c[:, None] * roots[None, :], b - matmul(W, c[:, None])[:, 0]
    root = jnp.sqrt(lam_w / lam_h * _positive(squares, jnp.sum(squares)))
    gram = root[:, None] * matmul(H, H.T) * root[None, :]
    values, vectors = jnp.linalg.eigh(gram)
    quarter = _positive(values, jnp.trace(gram)) ** -0.25
    turn, scale, _ = jnp.linalg.svd(root[:, None] * vectors * quarter[None, :])
    better = Params(matmul(W, turn) / scale[None, :], scale[:, None] * matmul(turn.T, H), b)
    return either(jnp.isfinite(norm(better)), better, params)


def _positive(eigenvalues: Float[Array, " d"], trace: Array) -> Float[Array, " d"]:
    """Raise eigenvalues to at least the rounding error of their matrix."""
    return jnp.maximum(eigenvalues, jnp.finfo(eigenvalues.dtype).eps * trace)
