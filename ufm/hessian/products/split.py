r"""Split the Hessian into Gauss–Newton part, residual part and decay.

    ∇²f = JᵀSJ + 2⟨G, AB⟩ + diag(λ_W, λ_H, λ_b),

with J the derivative of the logits and S the curvature of the losses at every column. The first
part is the Gauss–Newton matrix (positive semidefinite for convex losses). The second comes from the
product WH, and is the source of every negative eigenvalue if the loss is convex.
"""

import jax
import jax.numpy as jnp

from ufm.model.hessian_product import Linearisation, hessian_product
from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem

#: The whole of ∇²f, and its parts.
PARTS = ("all", "gauss_newton", "residual", "decay")


def check_part(part: str) -> None:
    """Raise `ValueError` for an unknown part."""
    if part not in PARTS:
        raise ValueError(f"part must be 'all', 'gauss_newton', 'residual' or 'decay', got {part!r}")


def part_product(
    problem: Problem, at: Linearisation, direction: Params, part: str = "all"
) -> Params:
    """Apply one part of ∇²f to a direction. Raises `ValueError` for an unknown part."""
    check_part(part)
    if part == "all":
        return hessian_product(problem, at, direction)
    if part == "decay":
        return _decay(problem, direction)
    if part == "residual":
        return _residual(at, direction)
    flat = at._replace(G=jnp.zeros_like(at.G))
    return jax.tree.map(
        jnp.subtract, hessian_product(problem, flat, direction), _decay(problem, direction)
    )


def _residual(at: Linearisation, direction: Params) -> Params:
    """(G Bᵀ, AᵀG, 0)."""
    return Params(
        matmul(at.G, direction.H.T),
        matmul(direction.W.T, at.G),
        None if direction.b is None else jnp.zeros_like(direction.b),
    )


def _decay(problem: Problem, direction: Params) -> Params:
    lam_w, lam_h, lam_b = problem.decays(direction.W.dtype)
    b = None if direction.b is None else lam_b * direction.b
    return Params(lam_w * direction.W, lam_h * direction.H, b)
