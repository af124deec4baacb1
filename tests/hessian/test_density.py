"""Spectral densities against dense eigenvalues, and their intervals against the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser
from density_truth import fractions, holds
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, cast, gaussian, make

from ufm import (
    MSE,
    CrossEntropy,
    Params,
    Problem,
    SpectralDensity,
    spectral_density,
    spectral_density_of,
)

#: n = 39: as many products exhaust the space.
PROBLEM = make(CrossEntropy(), BALANCED, 1e-2)
POINT = gaussian(PROBLEM, 3, 1.0)
SPECTRUM = np.linalg.eigvalsh(dense_hessian(PROBLEM, POINT))
KEY = jax.random.key(0)


def at_point(seed: int = 0, **options) -> SpectralDensity:
    return spectral_density(PROBLEM, POINT, jax.random.key(seed), **options)


# The model ---------------------------------------------------------------------------------------


@pytest.mark.repeats
@pytest.mark.parametrize(
    "problem",
    [
        PROBLEM,
        make(MSE(5.0, 3.0), BALANCED, None),
        Problem(MSE(5.0, 3.0), SKEWED, 4, 2e-2, 5e-3, 1e-2, jnp.array([1, 3, 2, 1, 4, 2, 0.5])),
    ],
    ids=["CE", "MSE without bias", "weighted columns"],
)
def test_counts_and_moments_are_those_of_a_dense_hessian(problem):
    point = gaussian(problem, 3, 1.0)
    spectrum = np.linalg.eigvalsh(dense_hessian(problem, point))
    found = spectral_density(problem, point, KEY, num_probes=20, num_matvecs=20)
    assert found.dimension == problem.num_parameters == len(spectrum)
    assert not np.any(found.resolved)
    x = [spectrum[3] + 1e-4, 0.0, float(np.median(spectrum)) + 1e-4, spectrum[-4] + 1e-4]
    holds(found.cumulative(x), fractions(spectrum, x))
    below, above = found.cumulative_bounds(x)
    assert np.max(above - below) < 0.3
    holds(found.trace(), spectrum.sum())
    holds(found.squared_frobenius_norm(), (spectrum**2).sum())
    holds(found.moment(3), np.mean(spectrum**3))
    assert found.moment(0) == (1, 1, 1)
    low, high = found.extremes()
    assert low <= spectrum[0]
    assert spectrum[-1] <= high
    assert high - low < 1.2 * np.ptp(spectrum)


def test_exhausted_spaces_leave_no_error_but_that_of_the_probes():
    found = at_point(num_probes=20)
    assert found.num_matvecs == 39
    assert np.all(found.resolved)
    for nodes in found.nodes:
        gaps = np.abs(nodes[:, None] - SPECTRUM).min(axis=1)
        assert gaps.max() < 2e-8 * SPECTRUM[-1]
    x = ((SPECTRUM[1:] + SPECTRUM[:-1]) / 2)[np.diff(SPECTRUM) > 1e-6][2::4]  # λ_H is multiple
    holds(found.cumulative(x), fractions(SPECTRUM, x))
    lower, upper = found.cumulative_bounds(x)
    np.testing.assert_allclose(lower, upper, rtol=0, atol=1e-12)
    np.testing.assert_allclose(lower, found.cumulative(x).value, rtol=0, atol=1e-12)
    holds(found.moment(90), np.mean(SPECTRUM**90))
    np.testing.assert_allclose(found.extremes(), SPECTRUM[[0, -1]], rtol=0, atol=1e-12)


def test_a_minimum_has_few_distinct_eigenvalues_and_ends_early():
    problem = make(CrossEntropy(), BALANCED, 1e-2)
    point = minimiser(problem)
    spectrum = np.linalg.eigvalsh(dense_hessian(problem, point))
    distinct = spectrum[np.diff(spectrum, prepend=-1.0) > 1e-7]
    assert len(distinct) == 14
    found = spectral_density(problem, point, KEY, num_probes=30)
    assert np.all(found.resolved)
    assert found.nodes.shape == (30, 14)
    np.testing.assert_allclose(found.nodes, np.tile(distinct, (30, 1)), rtol=0, atol=1e-8)
    # Five rotations, of 39 dimensions.
    zeros = found.cumulative(1e-6)
    holds(zeros, 5 / 39)
    assert zeros.upper - zeros.lower < 0.1
    assert found.cumulative(-1e-6) == (0, 0, 0)


# Intervals ---------------------------------------------------------------------------------------


def test_intervals_hold_the_truth_as_often_as_they_say(full):
    tries = 40 if full else 12
    x = float(np.median(SPECTRUM)) + 1e-4
    truth = {
        "trace": SPECTRUM.sum(),
        "norm": (SPECTRUM**2).sum(),
        "count": fractions(SPECTRUM, x)[0],
    }
    hits = dict.fromkeys(truth, 0)
    for seed in range(tries):
        found = at_point(1000 + seed, num_probes=10, confidence=0.5)
        intervals = {
            "trace": found.trace(),
            "norm": found.squared_frobenius_norm(),
            "count": found.cumulative(x),
        }
        for name, (_, lower, upper) in intervals.items():
            hits[name] += lower <= truth[name] <= upper
    # Half of them is what they promise; the bounds behind them are not tight.
    assert all(count >= tries / 2 for count in hits.values()), hits
    assert hits["count"] < tries  # nor are they idle


def test_more_probes_and_less_confidence_give_shorter_intervals():
    lengths = [
        [estimate.upper - estimate.lower for estimate in (found.trace(), found.cumulative(0.1))]
        for found in (
            at_point(num_probes=10, confidence=0.99),
            at_point(num_probes=10),
            at_point(num_probes=40),
        )
    ]
    assert np.all(np.diff(lengths, axis=0) < 0)


def test_bounds_hold_what_the_quadrature_cannot_resolve():
    x = np.linspace(SPECTRUM[0] - 0.1, SPECTRUM[-1] + 0.1, 41)
    exact = at_point().cumulative_bounds(x)[0]  # the same probes, to the end
    for num_matvecs in (3, 8, 20):
        # At 41 places at once: each may fail with the thousandth part.
        coarse = at_point(num_matvecs=num_matvecs, confidence=0.999)
        lower, upper = coarse.cumulative_bounds(x)
        assert np.all(lower <= exact + 1e-12)
        assert np.all(exact <= upper + 1e-12)
        assert np.max(upper - lower) > 1e-3
        holds(coarse.cumulative(x), fractions(SPECTRUM, x))
    lower, upper = coarse.cumulative_bounds(0.1)
    assert isinstance(lower, float)
    assert isinstance(upper, float)


# The smoothed density ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"width": 0.02}, {"num_matvecs": 8}])
def test_the_density_is_that_of_the_smoothed_spectrum(options):
    found = at_point(num_probes=30, **options)
    sigma = found.width
    truth = np.mean(
        np.exp(-0.5 * ((found.grid[:, None] - SPECTRUM) / sigma) ** 2) / np.sqrt(2 * np.pi) / sigma,
        axis=1,
    )
    holds((found.density, found.lower, found.upper), truth)
    assert np.max(found.upper - found.lower) < np.max(truth)


def test_a_width_finer_than_the_resolution_leaves_all_open():
    found = at_point(num_matvecs=8, width=1e-3)
    assert np.all(found.lower == 0)
    assert found.upper == pytest.approx(1 / (1e-3 * np.sqrt(2 * np.pi)))


@pytest.mark.parametrize(
    "options", [{}, {"num_matvecs": 8}, {"width": 1e-3}, {"num_matvecs": 39, "width": 1.0}]
)
def test_the_density_integrates_to_one(options):
    found = at_point(**options)
    assert found.grid.shape == found.density.shape == found.lower.shape == found.upper.shape
    # 2e-9 of the mass lies beyond six widths.
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, rel=0, abs=1e-8)


def test_default_widths_follow_the_resolution():
    resolved, coarse = at_point(), at_point(num_matvecs=8)
    extent = resolved.nodes.max() - resolved.nodes.min()
    assert resolved.width == pytest.approx(extent / 100)
    extent = coarse.nodes.max() - coarse.nodes.min()
    assert coarse.width == pytest.approx(np.pi / 2 * extent / 8)


def test_another_grid_needs_no_products():
    found, grid = at_point(), np.linspace(0, 0.5, 7)
    again = found.smoothed(grid, 0.05)
    direct = at_point(grid=grid, width=0.05)
    for name in ("nodes", "weights", "num_nodes", "resolved", "grid", "density", "lower", "upper"):
        np.testing.assert_array_equal(getattr(again, name), getattr(direct, name), err_msg=name)
    assert (again.width, again.dimension, again.num_matvecs) == (0.05, 39, 39)
    back = again.smoothed()
    np.testing.assert_array_equal(back.density, found.density)


# Precision, keys ---------------------------------------------------------------------------------


def test_single_precision():
    point = cast(POINT, jnp.float32)
    found = spectral_density(PROBLEM, point, KEY, num_probes=30)
    spectrum = np.linalg.eigvalsh(dense_hessian(PROBLEM, point))
    assert found.nodes.dtype == found.density.dtype == np.float64
    assert np.all(found.resolved)
    assert np.abs(found.nodes[:, :, None] - spectrum).min(axis=-1).max() < 3e-5 * spectrum[-1]
    x = (spectrum[1:] + spectrum[:-1])[::6] / 2
    holds(found.cumulative(x), fractions(spectrum, x))
    holds(found.trace(), spectrum.sum())


def test_probes_follow_from_the_key():
    first, again, other = at_point(), at_point(), at_point(1)
    np.testing.assert_array_equal(first.nodes, again.nodes)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert np.abs(first.moment(1).value - other.moment(1).value) > 1e-6
    more = at_point(num_probes=12)
    np.testing.assert_array_equal(first.weights, more.weights[:10])
    assert len({float(x) for x in first.weights[:, 0]}) == 10


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_probes": 0}, "num_probes must be a positive whole number"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
        ({"confidence": np.nan}, "confidence must be between 0 and 1"),
        ({"num_matvecs": 0}, "num_matvecs must be a positive whole number"),
        ({"width": 0.0}, "width must be positive"),
        ({"width": np.nan}, "width must be positive"),
        ({"width": 1e-9}, "too fine for a grid"),
        ({"grid": [[0.0]]}, "grid must be a row"),
        ({"grid": []}, "grid must be a row"),
        ({"grid": [0.0, np.inf]}, "grid must be a row"),
        # 39 vectors of 39 numbers of 8 bytes.
        ({"max_bytes": 39 * 39 * 8 - 1}, r"num_matvecs=39 .* at most 38 fit, or raise max_bytes"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        at_point(**options)
    assert "\n" not in str(error.value)


def test_a_basis_that_fits_is_taken():
    assert at_point(max_bytes=39 * 39 * 8).num_matvecs == 39


def test_points_without_a_hessian_are_refused():
    broken = Params(POINT.W.at[0, 0].set(jnp.nan), POINT.H, POINT.b)
    with pytest.raises(ValueError, match="not finite"):
        spectral_density(PROBLEM, broken, KEY)
    with pytest.raises(ValueError, match=r"W must have shape \(3, 4\)"):
        spectral_density(PROBLEM, Params(POINT.W[:, :2], POINT.H[:2], POINT.b), KEY)
    with pytest.raises(ValueError, match="Hessian at this point is not finite"):
        spectral_density_of(lambda x: jnp.sum(jnp.sqrt(x)), jnp.zeros(3), KEY)
    for point, got in (
        ({"a": jnp.zeros(3), "b": jnp.zeros(2, jnp.float32)}, "float32 and float64"),
        ({"a": jnp.zeros(3), "n": jnp.arange(3)}, "float64 and int64"),
        (jnp.zeros(3, jnp.float16), "float16"),
        ({}, "no array"),
    ):
        with pytest.raises(ValueError, match=f"float32 or all float64, got {got}"):
            spectral_density_of(lambda x: 0.0, point, KEY)
    with pytest.raises(ValueError, match="no parameters"):
        spectral_density_of(lambda x: jnp.sum(x), jnp.zeros(0), KEY)


def test_bad_options_are_refused_before_any_product():
    def never(x):
        raise AssertionError("a product was asked for")

    for options in ({"width": -1.0}, {"grid": [np.nan]}, {"num_probes": 0}, {"max_bytes": 1}):
        with pytest.raises(ValueError, match=r"width|grid|num_probes|max_bytes"):
            spectral_density_of(never, jnp.ones(3), KEY, **options)


def test_moments_beyond_the_quadrature_are_refused():
    found = at_point(num_matvecs=3)
    assert np.isfinite(found.moment(5).value)
    with pytest.raises(ValueError, match=r"moment 6 needs num_matvecs=4; .* exact to 5"):
        found.moment(6)
    with pytest.raises(ValueError, match="k must be a whole number ≥ 0"):
        found.moment(-1)
