"""γ°(G) = max ‖Gv‖ over v ≥ 0 against power steps from every face, and its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cone_oracle import largest_on_faces

from ufm.variants.nonnegative.polar import _best_face, polar

found_in = jax.jit(polar)


def matrices(K: int):
    rng = np.random.default_rng(K)
    G = rng.standard_normal((K, K))
    frame = np.eye(K) - 1 / K
    return {
        "gaussian": G,
        "centred": G - G.mean(axis=0),
        "frame": 0.3 * frame,
        "obtuse": G - 2 * np.diag(np.abs(G).sum(axis=1)),
        "positive": np.abs(G),
        "rank one": np.outer(G[0], G[1]),
        "twins": np.repeat(G[:, : (K + 1) // 2], 2, axis=1)[:, :K],
        "nearly twins": np.repeat(G[:, : (K + 1) // 2], 2, axis=1)[:, :K] + 1e-13 * G,
        "zero": np.zeros((K, K)),
    }


@pytest.mark.parametrize("K", [3, 5])
@pytest.mark.parametrize("name", matrices(3))
def test_it_is_the_largest_over_all_faces(K, name):
    G = matrices(K)[name]
    found, exact = found_in(jnp.asarray(G)), largest_on_faces(G.T @ G)
    vector = np.asarray(found.vector)
    assert vector.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(G @ vector), found.value, rtol=1e-14)
    np.testing.assert_allclose(found.value, exact, rtol=1e-12)
    assert exact <= float(found.bound) <= exact * (1 + 1e-10)


def test_where_no_entry_off_the_diagonal_is_positive_one_eigenvalue_is_exact():
    K = 24  # more classes than sets are searched for
    G = np.diag(np.linspace(1.0, 2.0, K)) - 0.01
    found = found_in(jnp.asarray(G))
    np.testing.assert_allclose(found.value, np.linalg.norm(G[:, -1]), rtol=1e-14)
    assert float(found.value) <= float(found.bound) <= float(found.value) * (1 + 1e-12)


def test_of_many_classes_it_is_bounded_from_above():
    G = np.random.default_rng(0).standard_normal((20, 20))
    found = found_in(jnp.asarray(G))
    A = G.T @ G
    perron = np.sqrt(np.linalg.eigvalsh(np.maximum(A, 0))[-1])
    np.testing.assert_allclose(found.above, perron, rtol=1e-13)
    V = np.abs(np.random.default_rng(1).standard_normal((5000, 20)))
    V /= np.linalg.norm(V, axis=1)[:, None]
    attained = np.linalg.norm(V @ G.T, axis=1).max()
    assert attained < float(found.value) <= float(found.above) < float(found.bound)


def test_a_mixed_eigenvector_is_no_face_of_its_own():
    # The top of the whole set is (1, −1)/√2, outside; that of each single class is 1.
    A = jnp.asarray(np.array([[1.0, -0.5], [-0.5, 1.0]]))
    value, vector = _best_face(A, 0.0)
    assert float(value) == pytest.approx(1.0, rel=1e-15)
    assert sorted(np.asarray(vector).tolist()) == [0.0, 1.0]


def test_single_precision_is_bounded_too():
    G = matrices(4)["gaussian"]
    found = found_in(jnp.asarray(G, jnp.float32))
    exact = largest_on_faces(G.T @ G)
    assert exact <= float(found.bound) <= exact * (1 + 1e-1)
