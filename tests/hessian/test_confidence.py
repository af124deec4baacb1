"""Bounds on tails against exact laws, Beta and Gamma; bounds on masses against eigenvectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ufm.hessian.krylov.confidence import deviation, fraction_interval, kl
from ufm.hessian.krylov.lanczos import advance, probe, quadrature
from ufm.hessian.krylov.stieltjes import mass_beyond, mass_bounds


@pytest.mark.parametrize(("rank", "size"), [(1, 30), (7, 30), (15, 30), (29, 30), (3, 900)])
def test_the_mass_of_a_subspace_is_rarely_beyond_its_bound(rank, size):
    # vᵀBv of a projector of rank k is Beta(k/2, (n − k)/2), and the mean of P of them is less
    # spread than Beta(Pk/2, P(n − k)/2).
    for probes in (1, 4):
        law = stats.beta(probes * rank / 2, probes * (size - rank) / 2)
        for quantile in (0.3, 0.05, 1e-4):
            for a, tail in ((law.isf(quantile), quantile), (law.ppf(quantile), quantile)):
                bound = float(np.exp(-0.5 * probes * size * kl(rank / size, a)))
                assert tail <= bound
                assert bound < 30 * tail


def test_intervals_are_where_the_divergence_says():
    low, high = np.array([0.0, 0.2, 0.5]), np.array([0.0, 0.3, 1.0])
    lower, upper = fraction_interval(low, high, trials=100, log_odds=3.0)
    np.testing.assert_allclose(kl(lower[1:], low[1:]), 0.06, rtol=1e-12)
    assert kl(upper[1], high[1]) == pytest.approx(0.06, rel=1e-12)
    assert lower[0] == 0
    assert upper[0] == pytest.approx(0, abs=1e-17)
    assert upper[2] == 1


@pytest.mark.parametrize("rank", [1, 5, 200])
@pytest.mark.parametrize("probes", [1, 10])
def test_traces_are_rarely_off_by_more_than_their_bound(rank, probes):
    # gᵀBg of a projector of rank k is χ² with k degrees of freedom, more spread than n vᵀBv.
    for log_odds in (1.0, 4.0, 9.0):
        off = deviation(1.0, float(rank), probes, log_odds)
        law = stats.chi2(probes * rank)
        tail = law.sf(probes * (rank + off))
        assert tail <= np.exp(-log_odds) <= 60 * tail
        assert law.cdf(probes * (rank - off)) <= np.exp(-log_odds)
        # Degrees of freedom alone matter: B twice as large is off by twice as much.
        assert deviation(2.0, 4.0 * rank, probes, log_odds) == pytest.approx(2 * off)
    assert deviation(0.0, 0.0, probes, 1.0) == 0


step = jax.jit(lambda x, run, until: advance(lambda v: x * v, run, until))


@pytest.mark.repeats
@pytest.mark.parametrize("num_matvecs", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_masses_below_lie_between_their_bounds(num_matvecs, dtype):
    eigenvalues = np.sort(np.concatenate([np.linspace(-1, 1, 28), np.zeros(10), [5.0, 20.0]]))
    for seed in range(5):
        v = probe(jax.random.key(seed), 40, dtype)
        diagonal = jnp.asarray(eigenvalues, dtype)
        rule = quadrature(lambda run, until, x=diagonal: step(x, run, until), v, num_matvecs)
        x = np.array([-1.1, -0.5, -1e-2, 1e-2, 0.51, 3.0, 19.0, 20.1])
        low, high = mass_bounds(rule, x)
        masses = np.asarray(v, float) ** 2
        truth = np.sum(masses[:, None] * (eigenvalues[:, None] <= x), axis=0)
        tiny = 1e-13 if dtype == np.float64 else 1e-6
        assert np.all((low <= truth + tiny) & (truth <= high + tiny))
        assert np.all(low <= high)
        if num_matvecs == 40:
            np.testing.assert_allclose(low, high, rtol=0, atol=1e-5)
        # Beyond the nodes, where the recurrence gives the same weight without a decomposition.
        for sign, y in ((1, 25.0), (-1, -3.0)):
            weight = mass_beyond(rule, y, sign)
            ends = mass_bounds(rule._replace(rounding=0.0), np.array([y]))
            expected = 1 - ends[0, 0] if sign > 0 else ends[1, 0]
            assert weight == pytest.approx(expected, rel=1e-6, abs=1e-13)


def test_bounds_are_sharp():
    # T̂'s own matrix has the run's moments, and x as an eigenvalue: it attains both bounds.
    diagonal = jnp.linspace(-1.0, 2.0, 40)
    v = probe(jax.random.key(0), 40, np.float64)
    rule = quadrature(lambda run, until: step(diagonal, run, until), v, 6)
    for x in (-0.37, 0.0, 1.2):
        low, high = mass_bounds(rule, np.array([x]))[:, 0]
        T = np.diag(rule.alpha) + np.diag(rule.beta[:-1], 1) + np.diag(rule.beta[:-1], -1)
        last = np.zeros(6)
        last[-1] = rule.beta[-1]
        corner = x + last @ np.linalg.solve(T - x * np.eye(6), last)
        theta, S = np.linalg.eigh(
            np.block([[T, last[:, None]], [last[None], np.array([[corner]])]])
        )
        assert np.min(np.abs(theta - x)) < 1e-12
        assert low == pytest.approx(np.sum(S[0, theta < x - 1e-9] ** 2), abs=1e-12)
        assert high == pytest.approx(np.sum(S[0, theta < x + 1e-9] ** 2), abs=1e-12)
