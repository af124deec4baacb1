"""Columns of a given norm: projection, multiplier and the geodesic second derivative."""

import jax.numpy as jnp
import numpy as np

from ufm.variants.norms.sets import spheres

RNG = np.random.default_rng(0)
R = 1.7
SPHERES = spheres(jnp.zeros((3, 4)), R)
ACTIVE = jnp.ones((1, 4), bool)


def test_the_riemannian_derivatives_are_those_along_great_circles():
    """f(H) = ⟨C, H⟩ + ½⟨H, AH⟩ on columns of norm R, by differences along geodesics."""
    C, A = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 3))
    A = A + A.T
    H = np.asarray(SPHERES.project(jnp.asarray(RNG.standard_normal((3, 4)))))
    np.testing.assert_allclose(np.linalg.norm(H, axis=0), R, rtol=1e-15)
    B = np.asarray(
        SPHERES.tangent(jnp.asarray(H), jnp.asarray(RNG.standard_normal((3, 4))), ACTIVE)
    )
    np.testing.assert_allclose((H * B).sum(axis=0), 0.0, atol=1e-14)

    def value(t):
        speed = np.linalg.norm(B, axis=0) / R
        at = H * np.cos(speed * t) + B / speed * np.sin(speed * t)
        return np.sum(C * at) + 0.5 * np.sum(at * (A @ at))

    G = C + A @ H
    beta = np.asarray(SPHERES.multiplier(jnp.asarray(H), jnp.asarray(G)))
    slope = np.sum((G + H * beta) * B)
    np.testing.assert_allclose(slope, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-8)
    curvature = np.sum(B * (A @ B + B * beta))
    second = (value(1e-4) - 2 * value(0) + value(-1e-4)) / 1e-8
    np.testing.assert_allclose(curvature, second, rtol=1e-6)


def test_a_projection_is_idempotent_and_keeps_tangent_vectors():
    H = SPHERES.project(jnp.asarray(RNG.standard_normal((3, 4))))
    B = SPHERES.tangent(H, jnp.asarray(RNG.standard_normal((3, 4))), ACTIVE)
    np.testing.assert_allclose(SPHERES.tangent(H, B, ACTIVE), B, atol=1e-15)
    np.testing.assert_allclose(SPHERES.tangent(H, 2.0 * H + B, ACTIVE), B, atol=1e-15)
