r"""Hessian-vector products in closed form.

For a direction (A, B, c) at (W, H, b), with q_i = (A ĥ_i + W b̂_i)/√c_i + c the change of the
logits, and ω_i ∇²L_i q_i the change of Γ,

    ∂_W: dG Hᵀ + G Bᵀ + λ_W A,   ∂_H: Wᵀ dG + Aᵀ G + λ_H B,   ∂_b: dΓ 1 + λ_b c,

dG = dΓ diag(1/√c): six K·d·N products, two of them independent of the direction's curvature.

    >>> hvp(problem, params, direction)
"""

import jax.numpy as jnp

from ufm.problem import (
    Params,
    Problem,
    check_shapes,
    feature_gradient,
    logit_gradient,
    logits,
    logits_from,
    matmul,
    per_column,
    scale_by_weights,
)


def hvp(problem: Problem, params: Params, direction: Params) -> Params:
    """∇²f(params) applied to a direction of the same shapes."""
    check_shapes(problem, params)
    check_shapes(problem, direction)
    V = logits(problem, params)
    G = feature_gradient(problem, logit_gradient(problem, V))
    change = matmul(direction.W, params.H) + matmul(params.W, direction.H)
    q = logits_from(problem, change, direction.b)
    curved = per_column(problem.loss.hessian_product, problem, V, q)
    d_gamma = scale_by_weights(problem, curved)
    dG = feature_gradient(problem, d_gamma)
    lam_w, lam_h = (jnp.asarray(x, V.dtype) for x in (problem.lam_w, problem.lam_h))
    out_b = None
    if direction.b is not None:
        out_b = jnp.sum(d_gamma, axis=1) + jnp.asarray(problem.lam_b, V.dtype) * direction.b
    return Params(
        matmul(dG, params.H.T) + matmul(G, direction.H.T) + lam_w * direction.W,
        matmul(params.W.T, dG) + matmul(direction.W.T, G) + lam_h * direction.H,
        out_b,
    )
