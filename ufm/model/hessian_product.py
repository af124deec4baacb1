r"""The Hessian at a point, stored for products.

For a direction (A, B, c) at (W, H, b), with q_i = (A ĥ_i + W b̂_i)/√c_i + c the change of the
logits, and ω_i ∇²L_i q_i the change of Γ,

    ∂_W: dG Hᵀ + G Bᵀ + λ_W A,   ∂_H: Wᵀ dG + Aᵀ G + λ_H B,   ∂_b: dΓ 1 + λ_b c,

dG = dΓ diag(1/√c). With G and the losses' curvatures stored, a product is six K·d·N products and
no exponential.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.evaluation import Evaluated, evaluated
from ufm.model.objective import feature_gradient, logits_from, matmul, per_column, scale_by_weights
from ufm.model.params import Params
from ufm.model.problem import Problem


class Linearisation(NamedTuple):
    """A point with its logits V, G (both K×N) and the curvature of the loss at every column."""

    params: Params
    V: Float[Array, "K N"]
    G: Float[Array, "K N"]
    curvature: Any


@quick_jit
def linearise(problem: Problem, params: Params) -> Linearisation:
    """Compute the quantities that all Hessian products at `params` share."""
    return linearise_at(problem, evaluated(problem, params))


def linearise_at(problem: Problem, at: Evaluated) -> Linearisation:
    """Do the same from given logits and G."""
    curvature = per_column(problem.loss.curvature, problem, at.V)
    return Linearisation(at.params, at.V, at.G, curvature)


def curvature_product(
    problem: Problem, at: Linearisation, change: Float[Array, "K N"]
) -> Float[Array, "K N"]:
    """The change of Γ for a change q of the logits: column i is ω_i ∇²L_i q_i."""
    over_columns = jax.vmap(problem.loss.curvature_product, in_axes=(-1, 1), out_axes=1)
    return scale_by_weights(problem, over_columns(at.curvature, change))


def hessian_product(problem: Problem, at: Linearisation, direction: Params) -> Params:
    """Apply ∇²f to a direction."""
    W, H = at.params.W, at.params.H
    lam_w, lam_h, lam_b = problem.decays(W.dtype)
    change = matmul(direction.W, H) + matmul(W, direction.H)
    d_gamma = curvature_product(problem, at, logits_from(problem, change, direction.b))
    dG = feature_gradient(problem, d_gamma)
    out_b = None
    if direction.b is not None:
        out_b = jnp.sum(d_gamma, axis=1) + lam_b * direction.b
    return Params(
        matmul(dG, H.T) + matmul(at.G, direction.H.T) + lam_w * direction.W,
        matmul(W.T, dG) + matmul(direction.W.T, at.G) + lam_h * direction.H,
        out_b,
    )
