r"""Apply (∇²f + iσI)^{-1} to a vector, by the arrow structure of the Hessian.

Given (W, b), features of different columns do not interact, so that with y = (A, c) the border and
x_i the change of the feature of column i,

    ∇²f = [ M   C_1 … C_N ]      M_(ka)(lb) = Σ_i r_i² S_i,kl h_ia h_ib + λ_W δ_kl δ_ab
          [ C_iᵀ  D_i     ]      C_i,(ka)e  = r_i² (S_i W)_ke h_ia + G_ki δ_ae
                                 D_i        = λ_H I + r_i² Wᵀ S_i W

with S_i = ω_i ∇²L(v_i, y_i) and r_i = 1/√c_i; rows of c have r_i S_i, Σ S_i + λ_b and r_i S_i W. A
solution takes N eigenvalue problems of size d and one complex factorisation of size m = Kd + K.
With the shift iσ all matrices are invertible, even if ∇²f is indefinite or singular.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.model.evaluation import evaluated
from ufm.model.objective import matmul
from ufm.model.problem import Params, Problem

Scalar = Float[Array, ""]


class Blocks(NamedTuple):
    """The Hessian at a point: M (m, m), C (N, m, d), D (N, d, d); m = Kd, plus K with a bias."""

    border: Float[Array, "m m"]
    coupling: Float[Array, "N m d"]
    columns: Float[Array, "N d d"]


def hessian_blocks(problem: Problem, params: Params) -> Blocks:
    """The blocks above, with (A row by row, then c) as the order of the border."""
    W, H, dtype = params.W, params.H, params.W.dtype
    (K, d), N = W.shape, H.shape[1]
    samples = problem.samples(dtype)
    roots = jax.lax.rsqrt(samples)
    _, V, _, G = evaluated(problem, params)
    hessian = jax.vmap(problem.loss.hessian, in_axes=(1, 0))
    weights = samples / jnp.sum(samples)
    S = weights[:, None, None] * hessian(V, jnp.asarray(problem.labels))
    h = (H * roots[None, :]).T
    rSW = roots[:, None, None] * matmul(S, W)
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))
    eye = jnp.eye(d, dtype=dtype)

    D = roots[:, None, None] * matmul(W.T, rSW) + lam_h * eye[None]
    C = h[:, None, :, None] * rSW[:, :, None, :] + G.T[:, :, None, None] * eye[None, None]
    C = C.reshape(N, K * d, d)
    M = _outer_sum(S, h, h).transpose(0, 2, 1, 3).reshape(K * d, K * d)
    M = M + lam_w * jnp.eye(K * d, dtype=dtype)
    if params.b is None:
        return Blocks(M, C, D)
    mixed = _outer_sum(S, h, jnp.ones((N, 1), dtype)).transpose(1, 3, 0, 2).reshape(K, K * d)
    corner = jnp.sum(S, axis=0) + jnp.asarray(problem.lam_b, dtype) * jnp.eye(K, dtype=dtype)
    M = jnp.block([[M, mixed.T], [mixed, corner]])
    return Blocks(M, jnp.concatenate([C, rSW], axis=1), D)


def _outer_sum(
    S: Float[Array, "N K K"], x: Float[Array, "N p"], y: Float[Array, "N q"]
) -> Float[Array, "K K p q"]:
    """Σ_i S_i,kl x_ia y_ib."""
    N, K, _ = S.shape
    pairs = (x[:, :, None] * y[:, None, :]).reshape(N, -1)
    return matmul(S.reshape(N, -1).T, pairs).reshape(K, K, x.shape[1], y.shape[1])


def real_resolvent(blocks: Blocks, shift: Scalar, x: Params) -> Params:
    """Re (∇²f + iσI)^{-1} x = ∇²f (∇²f² + σ²I)^{-1} x."""
    M, C, D = blocks
    m = M.shape[0]
    # Real until the Schur complement: (D_i + iσ)^{-1} = Q (e − iσ)/(e² + σ²) Qᵀ.
    # Column by column: a batch of LAPACK calls waits for threads of the pool in which it runs,
    # which deadlocks if another run of this program occupies the other threads.
    sizes, Q = jax.lax.map(lambda block: jnp.linalg.eigh(block), D)
    P = matmul(C, Q).transpose(1, 0, 2).reshape(m, -1)
    columns = jnp.sum(Q * x.H.T[:, :, None], axis=1).ravel()
    e = sizes.ravel()
    real, imaginary = e / (e**2 + shift**2), -shift / (e**2 + shift**2)
    schur = M - matmul(P * real[None, :], P.T)
    schur_imaginary = shift * jnp.eye(m, dtype=M.dtype) - matmul(P * imaginary[None, :], P.T)
    right = _border(x) - matmul(P, real * columns)
    right_imaginary = -matmul(P, imaginary * columns)
    shifted = jax.lax.complex(schur, schur_imaginary)
    y = jnp.linalg.solve(shifted, jax.lax.complex(right, right_imaginary))
    y_real, y_imaginary = jnp.real(y), jnp.imag(y)
    left, left_imaginary = columns - matmul(P.T, y_real), -matmul(P.T, y_imaginary)
    change = (real * left - imaginary * left_imaginary).reshape(sizes.shape)
    H = jnp.sum(Q * change[:, None, :], axis=2).T
    return _from_border(x, y_real, H)


def _border(x: Params) -> Float[Array, " m"]:
    return x.W.ravel() if x.b is None else jnp.concatenate([x.W.ravel(), x.b])


def _from_border(like: Params, y: Float[Array, " m"], H: Float[Array, "d N"]) -> Params:
    size = like.W.size
    return Params(y[:size].reshape(like.W.shape), H, None if like.b is None else y[size:])
