r"""Compress a last layer to 3K+1 dimensions without changing any quantity of the model.

A network has, for example, d = 512 features, but the quantities of the model depend only on

    span(B) ⊇ row(W) + span(h̄_1, …, h̄_K) + col(HGᵀ),     B: d×3K, orthonormal columns.

With H = B BᵀH + H_⊥, the rest H_⊥ has W H_⊥ = 0, class means 0 and H_⊥Gᵀ = 0. Logits, G, the
gradients G Hᵀ + λ_W W and WᵀG + λ_H H, class means, NC1–NC4, the distance to points with equal
features within classes, and all quantities derived from them, therefore depend on H_⊥ only through
‖H_⊥‖_F. One row can replace the d − 3K others if it has the same norm and is orthogonal to G and
the classes too: any row of H_⊥ itself, rescaled. Hence

    W' = [WB, 0]  (K × 3K+1),    H' = [BᵀH; (‖H_⊥‖_F/‖r‖) r]  (3K+1 × N),    r a row of H_⊥.

Moving the mean of all features into the bias (`ufm.networks.measures.last_layer`) does not leave
span(B).
"""

import dataclasses

import jax
import jax.numpy as jnp

from ufm.collapse.metrics import class_means
from ufm.model.evaluation import evaluated
from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem


def compressed(problem: Problem, params: Params) -> tuple[Problem, Params]:
    """The problem and the point in 3K+1 dimensions; both unchanged if d is at most that."""
    dim = 3 * problem.num_classes + 1
    if problem.dim <= dim:
        return problem, params
    return dataclasses.replace(problem, dim=dim), _compressed(problem, params)


@jax.jit
def _compressed(problem: Problem, params: Params) -> Params:
    W, H = params.W, params.H
    G = evaluated(problem, params).G
    spanning = jnp.concatenate([W.T, class_means(problem, params), matmul(H, G.T)], axis=1)
    # Columns may be dependent, as at collapse; Householder's Q spans them nevertheless.
    basis, _ = jnp.linalg.qr(spanning)
    inside = matmul(basis.T, H)
    outside = H - matmul(basis, inside)
    sizes = jnp.linalg.norm(outside, axis=1)
    row = jnp.argmax(sizes)
    size = sizes[row]
    scale = jnp.where(size > 0, jnp.linalg.norm(sizes) / jnp.where(size > 0, size, 1.0), 0.0)
    return Params(
        jnp.pad(matmul(W, basis), ((0, 0), (0, 1))),
        jnp.concatenate([inside, scale * outside[row][None, :]]),
        params.b,
    )
