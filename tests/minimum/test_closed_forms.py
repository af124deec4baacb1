"""Minima in closed form: label sets, mixup, regression and squared error of any width."""

import itertools

import jax
import numpy as np
import pytest

from ufm import (
    MSE,
    CrossEntropy,
    Params,
    Problem,
    Verdict,
    certify,
    global_minimum,
    init_params,
    objective,
    solve,
    target_metrics,
)
from ufm.minimum.searched import solved
from ufm.minimum.squared_error_minimum import squared_error_minimum
from ufm.minimum.symmetric_targets import is_symmetric


def label_sets(num_outputs, samples):
    """The indicators of all sets of each size, and their numbers of samples."""
    rows, counts = [], []
    for size, count in samples.items():
        for labels in itertools.combinations(range(num_outputs), size):
            rows.append(np.isin(np.arange(num_outputs), labels).astype(float))
            counts.append(count)
    return np.array(rows), tuple(counts)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2], ids=str)
@pytest.mark.parametrize(
    ("num_outputs", "samples", "mu", "value", "levels"),
    [
        (3, {1: 2, 2: 3}, 0.02, 1.160285463315, (2.907632883, 2.447909795)),
        (4, {1: 5, 2: 2}, 0.01, 0.906316695432, (3.472196681, 2.973342441)),
    ],
)
def test_label_sets_have_the_minimum_of_one_scalar(num_outputs, samples, mu, value, levels, lam_b):
    targets, counts = label_sets(num_outputs, samples)
    problem = Problem(CrossEntropy(), counts, 5, mu, mu, lam_b, targets=targets)
    found = global_minimum(problem)
    assert found.is_exact
    assert "no permutation" in found.reason
    assert found.value == pytest.approx(value, abs=1e-12)
    for row, z in zip(targets, found.logits.T, strict=True):
        level = levels[int(row.sum()) - 1]
        np.testing.assert_allclose(z, level * (row - row.mean()), atol=1e-9)
    # The scalar κ of both sizes is one.
    sizes = np.array([1, 2])
    kappa = np.array(levels) * (sizes * np.exp(levels) + num_outputs - sizes)
    assert kappa[0] == pytest.approx(kappa[1], rel=1e-8)
    # A run agrees, and its features are tag-wise averages; elsewhere they are not.
    again = solved(problem)
    assert again.value == pytest.approx(found.value, rel=1e-12)
    point = again.params(jax.random.key(0))
    assert target_metrics(problem, point).tag_average <= 1e-7
    moved = Params(point.W, point.H.at[:, -counts[-1] :].multiply(-1.0), point.b)
    assert target_metrics(problem, moved).tag_average > 0.1
    assert np.isnan(target_metrics(problem, point).nrc3)


def test_mixup_has_the_minimum_of_the_theory():
    K, t = 4, 0.3
    pairs = list(itertools.permutations(np.eye(K), 2))
    targets = np.array([*np.eye(K), *((1 - t) * a + t * b for a, b in pairs)])
    counts = (2,) * K + (1,) * len(pairs)
    problem = Problem(CrossEntropy(), counts, 5, 0.01, 0.01, None, targets=targets)
    found = global_minimum(problem)
    assert found.value == pytest.approx(0.658612513518, abs=1e-12)
    own, (alpha, beta) = found.logits[:, 0], (2.940354, 2.082696)
    np.testing.assert_allclose(own, 3.616508 * (np.eye(K)[0] - 1 / K), atol=1e-6)
    mixed = alpha * np.eye(K)[0] + beta * np.eye(K)[1]
    np.testing.assert_allclose(found.logits[:, K], mixed - mixed.mean(), atol=1e-6)


def test_symmetric_targets_vanish_at_their_threshold():
    targets, counts = label_sets(3, {1: 2, 2: 3})
    threshold = (2 * 1 + 3 * 1) ** 0.5 / 15  # √(Σ n_m C(K−2, m−1))/N
    for factor, rank in ((1 - 1e-9, 2), (1 + 1e-9, 0)):
        mu = factor * threshold
        problem = Problem(CrossEntropy(), counts, 3, mu, mu, None, targets=targets)
        assert global_minimum(problem).rank == rank


def test_symmetry_of_targets_needs_every_permutation_and_equal_sizes():
    targets, _ = label_sets(3, {1: 1, 2: 1})
    assert is_symmetric(targets, np.array([2.0, 2, 2, 5, 5, 5]))
    assert not is_symmetric(targets, np.array([2.0, 2, 3, 5, 5, 5]))
    assert not is_symmetric(targets[:-1], np.ones(5))
    # A target that is listed twice counts with both sizes.
    assert is_symmetric(targets[[0, 0, 1, 2]], np.array([1.0, 1, 2, 2]))


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0], ids=str)
@pytest.mark.parametrize("mu", [0.05, 1e-3, 0.2])
def test_regression_has_the_minimum_of_the_formula(lam_b, mu):
    rng = np.random.default_rng(7)
    targets, counts = rng.standard_normal((6, 3)) @ np.diag([2.0, 1.0, 0.3]), (4, 1, 2, 3, 1, 5)
    problem = Problem(MSE(), counts, 5, mu, 2 * mu, lam_b, targets=targets)
    found = global_minimum(problem)
    assert "closed form" in found.reason
    # From the eigenvalues of the target covariance: √eig against μ√N.
    N, rate = sum(counts), 2**0.5 * mu
    mean = np.zeros(3) if lam_b is None else np.average(targets, axis=0, weights=counts)
    covariance = np.cov((targets - mean).T, fweights=counts, ddof=0)
    if lam_b is None:
        covariance = (targets.T * counts) @ targets / N
    roots = np.sqrt(np.linalg.eigvalsh(covariance))
    alive = roots > rate * N**0.5
    value = np.sum(np.where(alive, rate * N**0.5 * (roots - rate * N**0.5 / 2), roots**2 / 2))
    assert found.value == pytest.approx(value, rel=1e-13)
    assert found.rank == alive.sum()
    # A run finds it, and it is collapsed; a random point is not.
    run = solve(problem, init_params(problem, jax.random.key(0)))
    assert float(run.value) == pytest.approx(value, rel=1e-11)
    assert Verdict(int(certify(problem, run.params).verdict)) is Verdict.GLOBAL_MINIMUM
    if alive.any():
        metrics = target_metrics(problem, run.params)
        assert max(metrics.nrc1, metrics.nrc2, metrics.nrc3) <= 1e-9
        elsewhere = target_metrics(problem, init_params(problem, jax.random.key(1)))
        assert min(elsewhere.nrc1, elsewhere.nrc2, elsewhere.nrc3) > 1e-3


def test_squared_error_in_few_dimensions_and_for_any_counts():
    """Von Neumann's inequality gives the minimum also where the width limits the rank."""
    for counts, lam_b in (((9, 4, 1), None), ((9, 4, 1), 0.0), ((4, 4, 4), None)):
        problem = Problem(MSE(), counts, 1, 1e-2, 1e-2, lam_b)
        found = global_minimum(problem)
        assert found.is_exact
        starts = [init_params(problem, jax.random.key(i)) for i in range(6)]
        best = min(float(solve(problem, start).value) for start in starts)
        assert best == pytest.approx(found.value, rel=1e-10)
        point = found.params(jax.random.key(0))
        assert float(objective(problem, point)) == pytest.approx(found.value, rel=1e-13)
    # With a decayed bias the mean of the targets is not aligned with them.
    skewed = Problem(MSE(), (9, 4, 1), 3, 1e-2, 1e-2, 1e-2)
    assert squared_error_minimum(skewed) is None
    assert "certified by duality" in global_minimum(skewed).reason


@pytest.mark.parametrize("lam_b", [None, 0.0], ids=str)
def test_regression_collapse_is_measured_by_its_definition(lam_b):
    """NRC1 and NRC2 by projections of unit features, centred where there is a bias."""
    rng = np.random.default_rng(2)
    targets, counts = rng.standard_normal((4, 2)), (3, 1, 2, 4)
    problem = Problem(MSE(), counts, 5, 1e-2, 1e-2, lam_b, targets=targets)
    point = init_params(problem, jax.random.key(3), scale=1.0)
    H = np.asarray(point.H) + 2.0  # a mean that centring removes
    point = Params(point.W, jax.numpy.asarray(H), point.b)
    h = H if lam_b is None else H - H.mean(axis=1, keepdims=True)
    unit = h / np.linalg.norm(h, axis=0)
    left = np.linalg.svd(h)[0][:, :2]
    found = target_metrics(problem, point)
    kept = np.sum((left.T @ unit) ** 2, axis=0)
    assert found.nrc1 == pytest.approx(1 - kept.mean(), rel=1e-10)
    W = np.asarray(point.W)
    inside = np.linalg.pinv(W) @ W @ unit
    assert found.nrc2 == pytest.approx(np.mean(np.sum((unit - inside) ** 2, axis=0)), rel=1e-10)
