r"""The product of spheres: matrices whose columns have norm r each.

At H with columns of norm r, a function with Euclidean gradient G and Hessian A has

    multiplier            β_i = −⟨h_i, g_i⟩ / r²
    Riemannian gradient   G + H diag(β)
    Riemannian Hessian    B ↦ Π(A[B] + B diag(β)),   Π(B) = B − H diag(⟨h_i, b_i⟩) / r²

for tangent B, ⟨h_i, b_i⟩ = 0, and a tangent step S leads to `to_sphere(H + S, r)` (Absil, Mahony &
Sepulchre, 2008, §§3.6, 4.1, 5.5). All matrices are d×N.

    >>> H = to_sphere(jnp.array([[3.0, 0.0], [4.0, 2.0]]))
    >>> bool(jnp.allclose(H, jnp.array([[0.6, 0.0], [0.8, 1.0]])))
    True
    >>> bool(jnp.allclose(jnp.sum(H * tangent(H, jnp.ones((2, 2))), axis=0), 0.0))
    True
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

Matrix = Float[Array, "d N"]


def to_sphere(H: Matrix, radius: Any = 1.0) -> Matrix:
    """The nearest point: every column divided by its norm, times r."""
    return H * (radius / jnp.linalg.norm(H, axis=0))[None, :]


def multiplier(H: Matrix, G: Matrix, radius: Any = 1.0) -> Float[Array, " N"]:
    """β_i = −⟨h_i, g_i⟩/r²."""
    return -jnp.sum(H * G, axis=0) / radius**2


def tangent(H: Matrix, B: Matrix, radius: Any = 1.0) -> Matrix:
    """Π(B), the orthogonal projection to tangent vectors."""
    return B + H * multiplier(H, B, radius)[None, :]
