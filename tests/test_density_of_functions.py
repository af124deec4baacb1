"""Spectral densities of functions of any tree: prescribed spectra, and a network."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from density_truth import fractions, within
from points import BALANCED, gaussian, make

from ufm import (
    CrossEntropy,
    SpectralDensity,
    extremal_eigenpairs_of,
    objective,
    spectral_density,
    spectral_density_of,
)

KEY = jax.random.key(0)


def quadratic(x, A):
    return 0.5 * x @ A @ x


def of_spectrum(eigenvalues, key=KEY, **options) -> SpectralDensity:
    """Of xᵀAx/2, A having these eigenvalues in a random basis."""
    size = len(eigenvalues)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    A = jnp.asarray((basis * eigenvalues) @ basis.T)
    return spectral_density_of(quadratic, jnp.zeros(size), key, args=(A,), **options)


def network_loss(weights, inputs, targets):
    hidden = jnp.tanh(inputs @ weights["in"]["W"] + weights["in"]["b"][None, :])
    outputs = hidden @ weights["out"] + weights["shift"]
    return jnp.mean((outputs - targets) ** 2)


def network():
    rng = np.random.default_rng(5)
    weights = {
        "in": {"W": rng.standard_normal((3, 4)), "b": rng.standard_normal(4)},
        "out": rng.standard_normal(4),
        "shift": np.asarray(0.3),
    }
    data = (rng.standard_normal((20, 3)), rng.standard_normal(20))
    return jax.tree.map(jnp.asarray, weights), jax.tree.map(jnp.asarray, data)


def test_a_network_against_its_dense_hessian():
    weights, data = network()
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    dense = jax.hessian(lambda x: network_loss(unravel(x), *data))(flat)
    spectrum = np.linalg.eigvalsh(dense)
    found = spectral_density_of(network_loss, weights, KEY, args=data, num_probes=30)
    assert found.dimension == found.num_matvecs == 21 == len(spectrum)
    assert np.abs(found.nodes[:, :, None] - spectrum).min(axis=-1).max() < 2e-8 * spectrum[-1]
    x = (spectrum[1:] + spectrum[:-1])[::4] / 2
    within(found.cumulative(x), fractions(spectrum, x), 4)
    within(found.trace(), spectrum.sum(), 4)
    within(found.squared_frobenius_norm(), (spectrum**2).sum(), 4)


def test_the_objective_as_a_function_has_the_same_quadrature():
    # Products in closed form against automatic differentiation.
    problem = make(CrossEntropy(), BALANCED, 1e-2)
    point = gaussian(problem, 3, 1.0)
    found = spectral_density_of(lambda x: objective(problem, x), point, KEY, num_matvecs=8)
    expected = spectral_density(problem, point, KEY, num_matvecs=8)
    np.testing.assert_allclose(found.nodes, expected.nodes, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=1e-12)


def test_other_points_and_data_do_not_compile_again():
    traced = []

    def function(x, A):
        traced.append(None)
        return quadratic(x, A)

    for factor in (1.0, 2.0, 3.0):
        A = factor * jnp.eye(6)
        spectral_density_of(function, factor * jnp.ones(6), KEY, args=(A,), num_matvecs=4)
    assert len(traced) == 1


def test_prescribed_spectra():
    eigenvalues = np.repeat([-1.0, 0.0, 0.5, 2.0], [5, 20, 10, 5])
    found = of_spectrum(eigenvalues, num_probes=50)
    assert found.nodes.shape == (50, 4)
    within(found.cumulative([-0.5, 0.25, 1.0]), [5 / 40, 25 / 40, 35 / 40], 4)
    assert found.cumulative(3.0).value == pytest.approx(1, rel=0, abs=1e-14)
    for k in range(1, 8):
        within(found.moment(k), np.mean(eigenvalues**k), 4)


@pytest.mark.parametrize("eigenvalues", [[0.0] * 40, [-2.0] * 40, [0.0], [3.0]])
def test_one_eigenvalue(eigenvalues):
    found = of_spectrum(np.array(eigenvalues))
    assert np.all(found.resolved)
    np.testing.assert_allclose(found.nodes, np.full((10, 1), eigenvalues[0]), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found.weights, 1.0)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, rel=0, abs=1e-8)
    if eigenvalues[0] == 0:
        assert found.cumulative(0.0).value == 1  # ≤, not <
        assert found.cumulative(-1e-300).value == 0
    value, error = found.trace()
    assert value == pytest.approx(sum(eigenvalues), rel=1e-14, abs=0)
    assert error < 1e-13


@pytest.mark.parametrize("wrapped", [lambda A: A, lambda A: (A,), lambda A: Batch(A)])
def test_what_is_no_tuple_is_the_only_argument(wrapped):
    """An array is not spread out into its rows, nor a batch with names into its fields."""
    A = jnp.diag(jnp.asarray([1.0, 2.0, 5.0]))

    def function(x, given):
        return quadratic(x, given.matrix if isinstance(given, Batch) else given)

    options = {"args": wrapped(A), "key": KEY}
    found = spectral_density_of(function, jnp.zeros(3), num_probes=2, **options)
    np.testing.assert_allclose(found.nodes[0], [1.0, 2.0, 5.0], rtol=1e-12)
    pairs = extremal_eigenpairs_of(function, jnp.zeros(3), count=1, **options)
    np.testing.assert_allclose(pairs.values, [5.0], rtol=1e-12)


class Batch(NamedTuple):
    matrix: jax.Array
