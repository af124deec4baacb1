"""Spectral densities of functions of any tree: prescribed spectra, and a network."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from density_truth import fractions, holds, prescribed
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
    dense = jax.jit(jax.hessian(lambda x: network_loss(unravel(x), *data)))(flat)
    spectrum = np.linalg.eigvalsh(dense)
    found = spectral_density_of(network_loss, weights, KEY, args=data, num_probes=30)
    assert found.dimension == found.num_matvecs == 21 == len(spectrum)
    assert np.abs(found.nodes[:, :, None] - spectrum).min(axis=-1).max() < 2e-8 * spectrum[-1]
    x = (spectrum[1:] + spectrum[:-1])[::4] / 2
    holds(found.cumulative(x), fractions(spectrum, x))
    holds(found.trace(), spectrum.sum())
    holds(found.squared_frobenius_norm(), (spectrum**2).sum())


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
    holds(found.cumulative([-0.5, 0.25, 1.0]), [5 / 40, 25 / 40, 35 / 40])
    assert found.cumulative(3.0).value == pytest.approx(1, rel=0, abs=1e-14)
    for k in range(1, 8):
        holds(found.moment(k), np.mean(eigenvalues**k))


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
    value, lower, upper = found.trace()
    assert value == pytest.approx(sum(eigenvalues), rel=1e-14, abs=0)
    assert upper - lower <= 1e-10 * abs(sum(eigenvalues))


def diagonal(x, eigenvalues):
    """Probes are uniform, so that the basis does not matter."""
    return 0.5 * jnp.sum(eigenvalues * x**2)


@pytest.mark.repeats
@pytest.mark.parametrize(
    "kind", ["zeros beside negatives", "many scales", "few values", "outliers", "decay"]
)
def test_intervals_hold_what_no_quadrature_resolves(kind):
    for seed in range(2):
        spectrum = prescribed(kind, 866, seed)
        found = spectral_density_of(
            diagonal, jnp.zeros(866), jax.random.key(seed), args=(jnp.asarray(spectrum),),
            num_matvecs=60,
        )  # fmt: skip
        x = [-1e-2, -1e-4, -1e-7, 1e-7, 1e-4, 1e-2, 1.0, float(np.median(spectrum)) + 1e-9]
        holds(found.cumulative(x), fractions(spectrum, x))
        holds(found.trace(), spectrum.sum())
        holds(found.squared_frobenius_norm(), (spectrum**2).sum())
        for k in (3, 4):
            holds(found.moment(k), np.mean(spectrum**k))
        low, high = found.extremes()
        assert low <= spectrum[0]
        assert spectrum[-1] <= high
        kernel = np.exp(-0.5 * ((found.grid[:, None] - spectrum) / found.width) ** 2)
        truth = np.mean(kernel, axis=1) / (found.width * np.sqrt(2 * np.pi))
        holds((found.density, found.lower, found.upper), truth)


def test_a_count_beside_many_zeros_is_not_certain_of_what_it_cannot_see():
    # The spread of the probes at −1e-6 is 0.01; the zeros' nodes are on either side of 0.
    spectrum = prescribed("zeros beside negatives", 866, 0)
    args = (jnp.asarray(spectrum),)
    found = spectral_density_of(diagonal, jnp.zeros(866), KEY, args=args, num_matvecs=60)
    _, lower, upper = found.cumulative(-1e-6)
    assert lower <= 60 / 866 <= upper
    assert upper > 0.5
    # In a gap that is resolved, the middle of the negative ones, little is left open.
    _, lower, upper = found.cumulative(-5e-2)
    assert upper - lower < 0.03


@pytest.mark.parametrize("search", [extremal_eigenpairs_of, spectral_density_of])
def test_functions_and_points_without_a_hessian_get_one_line(search):
    key = jax.random.key(0)
    for function, point, complaint in (
        (
            lambda x: x["W"][0],
            {"W": jnp.ones(2), "act": jnp.tanh},
            r"point\['act'\] is a .* not an a",
        ),
        (lambda x: x[0][0], (jnp.ones(2), "relu"), r"point\[1\] is a str, not an array"),
        (lambda x: x**2, jnp.ones(6), r"must return a scalar, got shape \(6,\)"),
        (lambda x: jnp.sum(x**1.5), jnp.zeros(6), "Hessian at this point is not finite: move the"),
    ):
        with pytest.raises(ValueError, match=complaint) as error:
            search(function, point, key)
        assert "\n" not in str(error.value)


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


def test_ends_lie_beyond_eigenvalues_that_are_one_node():
    spectrum = jnp.concatenate([jnp.full(20, -1e-9), jnp.full(100, 1e-9), jnp.ones(1)])
    found = spectral_density_of(
        diagonal, jnp.zeros(121), KEY, args=(spectrum,), num_probes=3, num_matvecs=60
    )
    low, high = found.extremes()
    assert low <= -1e-9
    assert high >= 1.0


@pytest.mark.parametrize("scale", [1e-70, 1e-58, 1.0, 1e60])
def test_moments_hold_the_truth_at_any_scale(scale):
    spectrum = np.r_[np.zeros(100), np.ones(100)] * np.linspace(1, 2, 200)
    found = spectral_density_of(
        diagonal, jnp.zeros(200), KEY, args=(jnp.asarray(scale * spectrum),), num_probes=2,
        num_matvecs=5,
    )  # fmt: skip
    for k in (1, 2, 3):
        value, lower, upper = found.moment(k)
        truth = np.mean(spectrum**k) * np.float64(scale) ** k
        assert lower <= truth <= upper
        assert lower < value < upper
