"""Lanczos runs against prescribed spectra, and the spectral measures of their starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from ufm.hessian.krylov.lanczos import GaussRule, advance, begin, gauss_rule, probe, quadrature

SIZE = 40
FOUR = (-1.0, 0.0, 0.5, 2.0)
#: In float32 nothing is resolved below 100 ε = 1.2e-5 of the largest eigenvalue.
RESOLUTION = {np.float64: 1e-8, np.float32: 1.2e-5}


def prescribed(eigenvalues, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors as columns."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((SIZE, SIZE)))
    return (basis * eigenvalues) @ basis.T, basis


def unit(seed=0) -> np.ndarray:
    v = np.random.default_rng(100 + seed).standard_normal(SIZE)
    return v / np.linalg.norm(v)


step = jax.jit(lambda A, run, until: advance(lambda x: A @ x, run, until))


def rule(A, v, num_matvecs, dtype=np.float64) -> GaussRule:
    matrix = jnp.asarray(A, dtype)
    return quadrature(
        lambda run, until: step(matrix, run, until), jnp.asarray(v, dtype), num_matvecs
    )


def distance(found: GaussRule, eigenvalues, basis, v) -> float:
    """W₁ between a rule and the measure that it stands for."""
    masses = (basis.T @ v) ** 2
    return float(wasserstein_distance(found.nodes, eigenvalues, found.weights, masses))


# The recurrence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-14), (np.float32, 2e-6)])
@pytest.mark.parametrize("num_matvecs", [20, 12])
def test_rows_are_orthonormal_and_tridiagonalise(dtype, tol, num_matvecs):
    # Large eigenvalues far apart: those converge first, and then orthogonality is lost without
    # the second pass.
    eigenvalues = np.concatenate([np.linspace(-1, 1, SIZE - 3), [10.0, 50.0, 200.0]])
    A, _ = prescribed(eigenvalues)
    v = jnp.asarray(unit(), dtype)
    run = step(jnp.asarray(A, dtype), begin(v, num_matvecs), jnp.int32(num_matvecs))
    assert (int(run.step), bool(run.going)) == (num_matvecs, True)
    Q, alpha, beta = (np.asarray(x, float) for x in (run.basis, run.alpha, run.beta))
    Q = Q[:num_matvecs]
    np.testing.assert_allclose(Q[0], v, rtol=0, atol=0)
    np.testing.assert_allclose(Q @ Q.T, np.eye(num_matvecs), rtol=0, atol=tol)
    T = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    end = np.zeros_like(Q.T)
    end[:, -1] = beta[-1] * np.asarray(run.q)
    np.testing.assert_allclose(A @ Q.T - Q.T @ T, end, rtol=0, atol=200 * tol)


def test_a_run_in_pieces_is_the_run():
    A, _ = prescribed(np.linspace(0, 1, SIZE))
    v = jnp.asarray(unit())
    whole = step(jnp.asarray(A), begin(v, 20), jnp.int32(20))
    parts = begin(v, 20)
    for until in (3, 16, 17, 20):
        parts = step(jnp.asarray(A), parts, jnp.int32(until))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_probes_are_uniform_on_the_sphere():
    draws = np.stack([probe(jax.random.key(i), 3, jnp.float64) for i in range(2000)])
    np.testing.assert_allclose(np.linalg.norm(draws, axis=1), 1, rtol=1e-15)
    # On the sphere of three dimensions each coordinate is uniform on [−1, 1]: moments 1/3, 1/5,
    # to four standard errors of 2000 draws.
    np.testing.assert_allclose(np.mean(draws, axis=0), 0, atol=0.052)
    np.testing.assert_allclose(np.mean(draws**2, axis=0), 1 / 3, atol=0.027)
    np.testing.assert_allclose(np.mean(draws**4, axis=0), 1 / 5, atol=0.024)


# The rule ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_moments_are_exact_up_to_twice_the_nodes(seed):
    A, _ = prescribed(np.linspace(-0.5, 1, SIZE), seed)
    v = unit(seed)
    found = rule(A, v, 6)
    assert (len(found.nodes), found.resolved) == (6, False)
    assert np.all(np.diff(found.nodes) > 0)
    power, errors = v, []
    for k in range(13):
        errors.append(abs(found.weights @ found.nodes**k - v @ power))
        power = A @ power
    assert max(errors[:12]) < 1e-14
    assert errors[12] > 1e-7  # and no further


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "distinct",
    [(0.0,), (1.0,), (0.0, 1.0), FOUR, tuple(1e-25 * x for x in FOUR)],
    ids=["zero", "identity", "projector", "four", "tiny"],
)
def test_few_distinct_eigenvalues_are_found_and_nothing_else(dtype, distinct):
    eigenvalues = np.repeat(distinct, SIZE // len(distinct))
    A, basis = prescribed(eigenvalues)
    v = unit()
    found = rule(A, v, 20, dtype)
    assert found.resolved
    assert len(found.nodes) == len(distinct)
    # The products, in each of the four steps, are right to a few ε.
    tol = 40 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.nodes, distinct, rtol=0, atol=tol * max(np.abs(distinct)))
    masses = [np.sum((basis.T @ v)[eigenvalues == x] ** 2) for x in distinct]
    np.testing.assert_allclose(found.weights, masses, rtol=0, atol=tol)
    # And the run itself ends there.
    run = step(jnp.asarray(A, dtype), begin(jnp.asarray(v, dtype), 20), jnp.int32(20))
    assert (int(run.step), bool(run.going)) == (len(distinct), False)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spread", [0.0, 1e-9])
@pytest.mark.parametrize("distinct", [(-1e-3, 0.0, 0.5, 200.0), (-0.1, 0.0, 1e-4, 1.0)])
def test_copies_that_rounding_makes_are_one_node(dtype, spread, distinct):
    # Eigenvalues far apart amplify rounding: β is 1e-11, not 1e-16, where the space ends.
    noise = spread * np.random.default_rng(1).uniform(-1, 1, SIZE)
    eigenvalues = np.repeat(distinct, SIZE // 4) + noise
    A, basis = prescribed(eigenvalues)
    for seed in range(5):
        found = rule(A, unit(seed), SIZE, dtype)
        delta = RESOLUTION[dtype] * max(distinct)
        assert found.resolved
        assert len(found.nodes) == (3 if distinct[0] == -1e-3 and dtype == np.float32 else 4)
        # The bound in the module's docstring, with weight left out moved by 2‖A‖ at most.
        assert distance(found, eigenvalues, basis, unit(seed)) < delta * (1 + 2 + 1 + 2)


def test_what_is_not_resolved_is_not_called_so():
    # Clusters of width 1e-5 are no clusters.
    noise = 1e-5 * np.random.default_rng(1).uniform(-1, 1, SIZE)
    A, _ = prescribed(np.repeat(FOUR, SIZE // 4) + noise)
    found = rule(A, unit(), 16)
    assert not found.resolved
    assert len(found.nodes) > 4
    # A spectrum without clusters, until the space is exhausted.
    eigenvalues = np.linspace(-1, 2, SIZE)
    A, basis = prescribed(eigenvalues)
    assert [rule(A, unit(), m).resolved for m in (10, 30, SIZE)] == [False, False, True]
    found = rule(A, unit(), SIZE)
    np.testing.assert_allclose(found.nodes, eigenvalues, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.weights, (basis.T @ unit()) ** 2, rtol=0, atol=1e-13)


def test_an_eigenvector_to_start_from():
    A, basis = prescribed(np.linspace(-1, 2, SIZE))
    found = rule(A, basis[:, 7], 20)
    assert found.resolved
    np.testing.assert_allclose(found.nodes, [np.linspace(-1, 2, SIZE)[7]], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("last", "resolved"), [(1.0, False), (1e-4, True)])
def test_residuals_that_cancel_do_not_make_a_rule_certain(last, resolved):
    # Nodes near 0 of weight 5e-11, and residuals ±5e-6 β: neither their sum nor the weight shows.
    found = gauss_rule(np.array([1.0, 0.0, 0.0]), np.array([1e-5, 1e-4, last]), 2e-16)
    assert found.resolved == resolved
    assert len(found.nodes) == (1 if resolved else 3)


def test_an_exhausted_space_is_resolved_whatever_rounding_leaves():
    A, _ = prescribed(np.linspace(-1, 2, SIZE))

    def noisy(run, until):
        run = step(jnp.asarray(A), run, until)
        return run._replace(beta=run.beta.at[-1].set(1e-3))

    assert quadrature(noisy, jnp.asarray(unit()), SIZE).resolved
