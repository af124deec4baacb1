"""The feasible sets of the solver: the unit sphere of every feature, and its part H ≥ 0.

On H ≥ 0 the entries that are zero and would become negative are held (an active set); a step that
leaves the set is cut off at zero, then normalised. f is that of the directions h_i/‖h_i‖.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.variants.contrastive.pairs import (
    of_anchors,
    pairs_of,
    slope_change,
    slopes,
    symmetric,
    value_of,
)
from ufm.variants.norms.sets import spheres


class _At(NamedTuple):
    """What products need of a point: p (R, N), 2Γ (N, N), 2β (1, N); which entries may move."""

    probabilities: Array
    gamma: Array
    beta: Array
    free: Array


def tangent_part(H: Array, B: Array, free: Array) -> Array:
    """The part of B that is tangent to the spheres, in the entries that may move."""
    return jnp.where(free, spheres(H).tangent(H, B, jnp.ones((1, 1), bool)), 0.0)


class UnitSphere:
    """Every feature on the unit sphere."""

    def evaluate(self, problem: Any, params: Params) -> tuple[Array, Params, _At]:
        """f, its Riemannian gradient, and what `product` needs."""
        H = self.nearest(params.H)
        pairs, tau = _parts(problem, H)
        value, probabilities = value_of(pairs, matmul(of_anchors(pairs, H).T, H) / tau)
        gamma = symmetric(pairs, slopes(pairs, probabilities, tau), H.shape[1])
        G = matmul(H, gamma)
        beta = spheres(H).multiplier(H, G)
        grad = G + H * beta
        free = self.free(H, grad)
        grad = jnp.where(free, grad, 0.0)
        return value, _params(params, grad), _At(probabilities, gamma, beta, free)

    def product(self, problem: Any, params: Params, at: _At, direction: Params) -> Params:
        """The Riemannian Hessian of a tangent direction."""
        H, B = self.nearest(params.H), direction.H
        pairs, tau = _parts(problem, H)
        change = matmul(of_anchors(pairs, B).T, H) + matmul(of_anchors(pairs, H).T, B)
        rows = slope_change(pairs, at.probabilities, change / tau, tau)
        bent = matmul(H, symmetric(pairs, rows, H.shape[1]))
        image = matmul(B, at.gamma) + bent + B * at.beta
        return _params(params, tangent_part(H, image, at.free))

    def retract(self, problem: Any, params: Params, step: Params) -> Params:
        """The feasible point that a tangent step leads to."""
        moved = self.nearest(self.nearest(params.H) + step.H)
        moves = jnp.any(step.H != 0, axis=0, keepdims=True)
        return _params(params, jnp.where(moves, moved, params.H))

    def gradient_noise(self, problem: Any, params: Params) -> Array:
        """An estimate of the rounding error of the gradient's norm."""
        H = self.nearest(params.H)
        pairs, tau = _parts(problem, H)
        _, probabilities = value_of(pairs, matmul(of_anchors(pairs, H).T, H) / tau)
        # Products of features of norm 1, over τ, are exponents of p.
        size = pairs.weights[:, None] * (probabilities * (1 + 1 / tau) + pairs.targets) / tau
        return 8 * float(jnp.finfo(H.dtype).eps) * jnp.linalg.norm(size) * H.shape[1] ** 0.5

    def nearest(self, H: Array) -> Array:
        return spheres(H).project(H)

    def free(self, H: Array, grad: Array) -> Array:
        return jnp.ones_like(H, bool)


class NonNegativeSphere(UnitSphere):
    """Every feature on the part of the unit sphere without negative entries."""

    def nearest(self, H: Array) -> Array:
        return super().nearest(jnp.maximum(H, 0.0))

    def free(self, H: Array, grad: Array) -> Array:
        return (H > 0) | (grad < 0)


def _parts(problem: Any, H: Array) -> tuple[Any, Array]:
    return pairs_of(problem, jnp, H.dtype), jnp.asarray(problem.temperature, H.dtype)


def _params(like: Params, H: Array) -> Params:
    return Params(jnp.zeros_like(like.W), H, None)
