"""Spectra of confined factors against Hessians of projected functions, by automatic derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from norm_problems import make

import ufm
from ufm.hessian.confined import inertia_of
from ufm.model.params import Params

KEY = jax.random.key(0)


def flat(params: Params) -> np.ndarray:
    return np.concatenate([np.asarray(params.W).ravel(), np.asarray(params.H).ravel()])


def loss_at(W, H, labels, tau=1.0):
    """Cross-entropy in JAX's own words, without anything of the library."""
    logits = W @ H / tau
    own = logits[labels, np.arange(len(labels))]
    return jnp.mean(jax.nn.logsumexp(logits, axis=0) - own)


@jax.jit
@jax.hessian
def on_unit_spheres(x, labels, tau):
    """Of f at the nearest unit rows and columns: flat along normals, as on the sphere."""
    W, H = x[:12].reshape(3, 4), x[12:].reshape(4, -1)
    W = W / jnp.linalg.norm(W, axis=1, keepdims=True)
    return loss_at(W, H / jnp.linalg.norm(H, axis=0, keepdims=True), labels, tau)


@pytest.mark.parametrize("counts", [(2, 2, 2), (3, 2, 1)])
def test_spheres_have_the_hessian_of_the_projected_function(counts):
    problem, dim, tau = make("sphere, sphere", counts=counts), 4, 0.5
    point = ufm.global_minimum(problem).params(KEY)
    exact = np.linalg.eigvalsh(on_unit_spheres(flat(point), problem.labels, tau))
    normals = 3 + sum(counts)  # of which each has the eigenvalue 0 at a critical point
    for method in ("collapsed", "dense"):
        for found in (ufm.spectrum(problem, point, method), ufm.spectrum(problem, method=method)):
            assert (found.method, found.dimension) == (method, dim * normals - normals)
            all_of_them = np.sort(np.concatenate([found.expand(), np.zeros(normals)]))
            np.testing.assert_allclose(all_of_them, exact, atol=1e-9)
            assert (found.negative, found.zero, found.gauge_dimension) == (0, 5, 5)
            assert found.definite_modulo_gauge


@pytest.mark.parametrize("name", ["sphere, sphere", "given, decay"])
def test_single_precision_is_in_the_residuals(name):
    """Against double precision from the same numbers."""
    problem = make(name.replace("given", "sphere"), counts=(3, 2, 1))
    if name.startswith("given"):
        problem = dataclasses.replace(problem, classifier=ufm.Fixed(np.eye(3, 4)))
    single = jax.tree.map(lambda x: x.astype(jnp.float32), ufm.init_params(problem, KEY, scale=1.0))
    double = jax.tree.map(lambda x: x.astype(jnp.float64), single)
    found, exact = ufm.spectrum(problem, single), ufm.spectrum(problem, double)
    off = np.max(np.abs(found.expand() - exact.expand()))
    assert 1e-10 < off <= np.min(found.residuals) < 1e-3


def test_where_all_vectors_are_equal_the_index_is_as_in_theory():
    """(K−1)(d−1) negative eigenvalues, and f(0) is the value."""
    K, d = 3, 4
    problem = make("sphere, sphere", dim=d)
    one = np.eye(d)[0]
    point = Params(jnp.tile(one, (K, 1)), jnp.tile(one[:, None], (1, 6)), None)
    found = ufm.spectrum(problem, point)
    assert found.negative == (K - 1) * (d - 1) == ufm.inertia(problem, point).negative
    assert found.definite_modulo_gauge is False


def test_residuals_bound_the_change_to_class_means():
    problem = make("sphere, sphere", counts=(3, 2, 2))
    point = ufm.global_minimum(problem).params(KEY)
    moved = dataclasses.replace(point, H=point.H + 1e-7 * jax.random.normal(KEY, point.H.shape))
    moved = ufm.solve(problem, moved, max_steps=0).params  # feasible again
    means, dense = (ufm.spectrum(problem, moved, x) for x in ("auto", "dense"))
    error = np.max(np.abs(means.expand() - dense.expand()))
    assert means.method == "collapsed"
    assert error < means.residuals.max()
    assert 1e-8 < means.residuals.max() < 1e-4


def test_a_given_classifier_turns_in_its_null_space_alone():
    """LS at a low temperature: features have a part outside the rows of W, which turns freely."""
    W = ufm.Fixed(np.pad(np.eye(3) - 1 / 3, ((0, 0), (0, 3))))
    low = {"classifier": W, "features": ufm.Sphere(), "temperature": 0.1}
    problem = ufm.Problem(ufm.LabelSmoothing(0.1), (2, 3, 2), 6, None, None, None, **low)
    found = ufm.spectrum(problem)
    # The null space has four dimensions, and three means in general position there.
    null = np.linalg.svd(np.asarray(W.matrix))[2][2:]
    point = ufm.global_minimum(problem).params(None)
    rank = np.linalg.matrix_rank(null @ np.asarray(point.H), tol=1e-9)
    assert found.gauge_dimension == rank * (4 - rank) + rank * (rank - 1) // 2
    assert found.negative == 0
    assert found.zero >= found.gauge_dimension


# Non-negative features -----------------------------------------------------------------------

RELU = ufm.Problem(ufm.CrossEntropy(), (3, 2, 2), 5, 0.05, 0.02, None, features=ufm.NonNegative())


@jax.jit
@jax.hessian
def decayed(x):
    W, H = x[:15].reshape(3, 5), x[15:].reshape(5, 7)
    return loss_at(W, H, RELU.labels) + 0.025 * jnp.sum(W**2) + 0.01 * jnp.sum(H**2)


def test_free_variables_have_the_hessian_without_the_others():
    split = ufm.global_minimum(RELU).params(KEY)  # rays on several coordinates
    single = ufm.global_minimum(RELU).params(None)
    for point, given in ((split, (split,)), (single, ())):
        H = np.asarray(point.H)
        free = np.concatenate([np.full(15, True), (H > 0).ravel()])
        A = np.asarray(decayed(flat(point)))
        exact = np.linalg.eigvalsh(A[np.ix_(free, free)])
        for method in ("collapsed", "dense"):
            found = ufm.spectrum(RELU, *given, method=method)
            np.testing.assert_allclose(found.expand(), exact, atol=1e-10)
            # Two coordinates of one ray turn into each other.
            shared = [int(np.sum(H[:, i] > 0)) for i in (0, 3, 5)]
            forced = sum(n * (n - 1) // 2 for n in shared)
            assert (found.negative, found.zero, found.gauge_dimension) == (0, forced, forced)
            assert found.definite_modulo_gauge
        counted = ufm.inertia(RELU, point)
        assert (counted.negative, counted.zero) == (0, forced)


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [RELU, make("decay, sphere")], ids=["relu", "sphere"])
def test_what_confined_factors_do_not_have_is_refused(problem):
    for given, message in (
        ({"method": "lanczos"}, "method must be one of auto, collapsed, dense for problems with"),
        ({"at": "origin"}, "at must be 'minimum' for problems with"),
        ({"cluster_tol": -1.0}, "cluster_tol must be non-negative, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ufm.spectrum(problem, **given)
    start = ufm.init_params(problem, KEY)
    with pytest.raises(ValueError, match="the point is not collapsed: features differ from"):
        ufm.spectrum(problem, start, "collapsed")
    with pytest.raises(ValueError, match="modulo_rotations is not for"):
        ufm.inertia(problem, start, modulo_rotations=True)


def test_counts_are_those_of_the_list():
    found = inertia_of(np.array([-2.0, -1e-9, 0.0, 0.5, 3.0]), 0.0, None)
    assert (found.negative, found.zero, found.positive, found.reliable) == (1, 2, 2, True)
    with pytest.raises(ValueError, match="tol must be positive"):
        inertia_of(np.ones(2), 0.0, 0.0)
