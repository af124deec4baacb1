"""The Hessian on the tangent space against differences, closed spectra, and other dimensions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from norm_oracle import random_point
from norm_problems import make

import ufm
from ufm.variants.norms.curvature import tangent_eigenvalues, unused_matrix

KEY = jax.random.key(0)


def flat(params):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])


@pytest.mark.parametrize("name", ["sphere, sphere", "budget, ball", "decay, sphere"])
def test_the_matrix_is_that_of_the_products_and_annihilates_normals(name):
    problem = make(name, counts=(2, 1, 1), dim=3, lam_b=1e-2)
    params = random_point(problem, np.random.default_rng(3))
    A = ufm.dense_hessian(problem, params)
    np.testing.assert_allclose(A, A.T, atol=1e-15)
    tree = jax.tree.structure(params)
    for i in range(0, len(A), 3):
        unit, parts, start = np.eye(len(A))[i], [], 0
        for leaf in jax.tree.leaves(params):
            parts.append(jnp.asarray(unit[start : start + leaf.size].reshape(leaf.shape)))
            start += leaf.size
        image = ufm.hvp(problem, params, jax.tree.unflatten(tree, parts))
        # The tangent part of the unit vector goes in, as in the matrix.
        np.testing.assert_allclose(A[:, i], flat(image), atol=1e-14)


def test_the_spectrum_of_unused_dimensions_at_the_simplex_etf():
    """0 and (q/τ)(1+1/n), K−1 times each; q/τ once; q/(nτ) N−K+1 times; q that of a rival."""
    K, n, tau = 4, 3, 0.6
    problem = make("sphere, sphere", counts=(n,) * K, dim=6, tau=tau)
    params = ufm.global_minimum(problem).params(KEY)
    margin = K / (K - 1) / tau
    q = np.exp(-margin) / (1 + (K - 1) * np.exp(-margin))
    expected = np.sort(
        np.concatenate(
            [
                np.zeros(K - 1),
                np.full(K - 1, q / tau * (1 + 1 / n)),
                np.full(1, q / tau),
                np.full(n * K - K + 1, q / (n * tau)),
            ]
        )
    )
    found = np.linalg.eigvalsh(unused_matrix(problem, params))
    np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize("name", ["sphere, sphere", "decay, ball", "budget, decay"])
def test_other_dimensions_follow_from_the_rank(name):
    """The spectrum from r dimensions and M is that of the dense matrix in d dimensions."""
    low = make(name, counts=(2, 1, 1), dim=2)
    # A rank-two point on the boundary, critical in no way: the split holds anywhere.
    point = random_point(low, np.random.default_rng(0))
    high = dataclasses.replace(low, dim=5)
    padded = ufm.Params(
        jnp.pad(point.W, ((0, 0), (0, 3))), jnp.pad(point.H, ((0, 3), (0, 0))), None
    )
    found = tangent_eigenvalues(high, padded)
    dense = np.linalg.eigvalsh(ufm.dense_hessian(high, padded))
    normal = len(dense) - len(found)
    # Normal vectors are zeros of the dense matrix.
    expected = np.delete(dense, np.argsort(np.abs(dense))[:normal])
    np.testing.assert_allclose(found, np.sort(expected), atol=1e-13)
    counts = ufm.inertia(high, padded, tol=1e-9)
    negative = int(np.sum(dense < -1e-9))
    assert counts.negative == negative
    in_two = int(np.sum(tangent_eigenvalues(low, point) < -1e-9))
    of_m = int(np.sum(np.linalg.eigvalsh(unused_matrix(low, point)) < -1e-9))
    assert negative == in_two + 3 * of_m


def test_counts_at_the_minimum_and_messages():
    problem = make("sphere, sphere", counts=(2, 2, 2), dim=4)
    params = ufm.global_minimum(problem).params(KEY)
    counts = ufm.inertia(problem, params)
    rotations = 2 * (4 - 2) + 1  # r(d−r) + r(r−1)/2 for rank 2
    assert (counts.negative, counts.zero) == (0, rotations)
    assert counts.negative + counts.zero + counts.positive == 9 * 3
    with pytest.raises(ValueError, match="tol must be positive"):
        ufm.inertia(problem, params, tol=0.0)
    with pytest.raises(ValueError, match="modulo_rotations"):
        ufm.inertia(problem, params, modulo_rotations=True)
    with pytest.raises(ValueError, match="is not in the set"):
        ufm.dense_hessian(problem, ufm.Params(2.0 * params.W, params.H, None))
    large = make("sphere, sphere", counts=(500, 500, 500), dim=4)
    with pytest.raises(ValueError, match=r"use ufm\.hvp"):
        ufm.dense_hessian(large, ufm.global_minimum(large).params(KEY))
