"""Global minima of contrastive problems: closed forms, imbalance, batches, metrics, runs."""

import jax
import numpy as np
import pytest
from contrastive_oracle import loss, semidefinite_minimum, unit

import ufm
from ufm._support.strict_json import dumps
from ufm.runs.loss_result import loss_arrays, loss_result
from ufm.runs.loss_summary import summarise

KEY = jax.random.key(0)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("K", "dim", "tau"),
    [(3, 2, 0.5), (2, 2, 1.0), (4, 6, 0.5), (3, 5, 0.1), (5, 4, 1.0), (5, 7, 0.1)],
)
def test_balanced_classes_form_a_simplex_etf(K, dim, tau):
    n, N = 4, 4 * K
    problem = ufm.ContrastiveProblem((n,) * K, dim, tau)
    value = np.log(n - 1 + (N - n) * np.exp(-K / ((K - 1) * tau)))
    minimum = ufm.global_minimum(problem)
    assert (minimum.kind, minimum.rank, minimum.is_exact) == ("simplex ETF", K - 1, True)
    np.testing.assert_allclose([minimum.value, minimum.lower_bound], value, rtol=1e-12)
    for key in (None, KEY):
        H = np.asarray(minimum.params(key).H)
        np.testing.assert_allclose(np.linalg.norm(H, axis=0), 1.0, rtol=1e-14)
        np.testing.assert_allclose(loss(H, problem.class_counts, tau), value, rtol=1e-12)
    runs = ufm.solve_many(problem, KEY, num_starts=3)
    np.testing.assert_allclose(runs.value, value, rtol=0, atol=5e-14)


def test_large_and_small_classes_form_no_simplex():
    """Numbers found by multi-start descent and a semidefinite program."""
    problem = ufm.ContrastiveProblem((12, 12, 2, 2), 4, 1.0)
    minimum = ufm.global_minimum(problem)
    assert (minimum.kind, minimum.is_exact) == ("imbalanced", True)
    C = minimum.cosines
    found = [C[0, 1], C[0, 2], C[1, 3], C[2, 3]]
    np.testing.assert_allclose(found, [-0.81, -0.25, -0.25, 0.35], atol=0.006)
    H = np.asarray(minimum.params(KEY).H)
    np.testing.assert_allclose(loss(H, (12, 12, 2, 2), 1.0), minimum.value, rtol=1e-13)
    colder = ufm.global_minimum(ufm.ContrastiveProblem((12, 12, 2, 2), 4, 0.2)).cosines
    np.testing.assert_allclose(
        [colder[0, 1], colder[0, 2], colder[2, 3]], [-0.35, -0.37, -0.16], atol=0.006
    )


def test_the_minimum_of_imbalanced_classes_needs_its_rank():
    """In fewer dimensions than the rank of the minimiser only the bound holds."""
    exact = ufm.global_minimum(ufm.ContrastiveProblem((12, 12, 2, 2), 3, 1.0))
    assert (exact.is_exact, exact.rank) == (True, 3)
    flat = ufm.global_minimum(ufm.ContrastiveProblem((12, 12, 2, 2), 2, 1.0))
    assert not flat.is_exact
    assert flat.lower_bound == pytest.approx(exact.value, abs=1e-10)
    assert flat.value > exact.value + 1e-3
    assert flat.params(KEY).H.shape == (2, 28)


def test_what_is_not_certified_is_a_point_of_the_given_dimension():
    """At low temperatures f is within rounding of its infimum, and nothing is proven."""
    counts, tau = (5, 2, 2, 1), 0.05
    found = ufm.global_minimum(ufm.ContrastiveProblem(counts, 2, tau))
    H = np.asarray(found.params(KEY).H)
    assert H.shape == (2, 10)
    assert not found.is_exact
    assert loss(H, counts, tau) == pytest.approx(found.value, rel=1e-13)
    assert not ufm.global_minimum(ufm.ContrastiveProblem(counts, 4, 0.02)).is_exact


def test_classes_of_one_sample_share_a_direction():
    """They have no positives, so that f does not depend on their cosine."""
    problem = ufm.ContrastiveProblem((5, 4, 1, 1), 3, 0.7)
    minimum = ufm.global_minimum(problem)
    assert minimum.is_exact
    assert minimum.cosines[2, 3] == pytest.approx(1.0, abs=1e-9)
    assert minimum.rank == 2
    np.testing.assert_allclose(
        loss(np.asarray(minimum.params(KEY).H), (5, 4, 1, 1), 0.7), minimum.value, rtol=1e-13
    )
    apart = np.array(minimum.params(None).H)
    apart[:, -1] = unit(np.array([[0.0], [0.0], [1.0]]) + apart[:, -1:])[:, 0]
    match = ufm.compare_geometry(problem, minimum.params(KEY), minimum)
    assert match.matches
    assert not ufm.compare_geometry(problem, problem.point(apart), minimum).matches


#: Drawn at random: samples of a class meet different rivals, and differently often.
UNEVEN = (
    (4, 5, 6, 7, 8, 10, 11, 14),
    (1, 4, 5, 6, 7, 10, 11, 15),
    (0, 4, 6, 7, 8, 9, 10, 11),
    (0, 2, 3, 5, 7, 8, 12, 13),
    (1, 3, 6, 7, 9, 12, 13, 14),
)
#: Two samples of each of three classes in every batch.
EVEN = ((0, 3, 4, 7, 8, 9), (1, 2, 4, 5, 9, 10), (0, 1, 6, 7, 10, 11), (2, 3, 5, 6, 8, 11))


def test_with_fixed_batches_nc1_fails_at_certified_global_minima():
    """Also between samples that meet in a batch; and every point with NC1 is above the minimum."""
    counts = (4, 4, 4, 4)
    problem = ufm.ContrastiveProblem(counts, 5, 0.5, batches=UNEVEN)
    found = ufm.verify(problem, KEY, 3)
    assert found.num_global == 3
    assert (found.minimum.kind, found.minimum.is_exact) == ("fixed batches", True)
    assert [match.matches for match in found.geometry] == [None] * 3
    X = found.minimum.cosines
    pairs = [
        (i, j)
        for batch in UNEVEN
        for i in batch
        for j in batch
        if i < j and problem.labels[i] == problem.labels[j]
    ]
    assert min(X[pair] for pair in pairs) < 0.97
    assert np.min(found.metrics.nc1) > 1e-3
    value = loss(np.asarray(found.minimum.params(KEY).H), counts, 0.5, UNEVEN)
    np.testing.assert_allclose(value, found.minimum.value, rtol=1e-13)
    np.testing.assert_allclose(found.solutions.value, value, rtol=0, atol=1e-11)
    collapsed, _ = semidefinite_minimum(counts, 0.5, UNEVEN, collapsed=True)
    assert collapsed > value + 1e-3


def test_batches_with_as_many_samples_of_each_class_collapse():
    problem = ufm.ContrastiveProblem((4, 4, 4), 4, 0.5, batches=EVEN)
    minimum = ufm.global_minimum(problem)
    assert minimum.is_exact
    value = np.log(1 + 4 * np.exp(-3 / (2 * 0.5)))
    np.testing.assert_allclose(minimum.value, value, rtol=1e-12)
    assert float(ufm.nc_metrics(problem, minimum.params(KEY)).nc1) < 1e-10


def test_too_many_columns_are_not_searched():
    problem = ufm.ContrastiveProblem((2,) * 601, 3, 0.5)
    minimum = ufm.global_minimum(problem)
    assert np.isnan(minimum.value)
    assert "would take minutes" in minimum.reason
    with pytest.raises(ValueError, match="no minimiser is known"):
        minimum.params(KEY)


# Metrics -----------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_definitions():
    problem = ufm.ContrastiveProblem((4, 3, 2), 3, 0.5)
    H = np.asarray(problem.point(np.random.default_rng(0).standard_normal((3, 9))).H)
    found = ufm.nc_metrics(problem, problem.point(H))
    labels = problem.labels
    means = np.stack([H[:, labels == k].mean(axis=1) for k in range(3)], axis=1)
    centred = means - H.mean(axis=1, keepdims=True)
    deviations = H - means[:, labels]
    between = centred @ centred.T / 3
    within = deviations @ deviations.T / 9
    inverse = np.linalg.pinv(between, rcond=1e-10)
    # Only K−1 directions of the means count (`ufm.collapse.metrics`).
    left = np.linalg.svd(centred)[0][:, :2]
    inverse = left @ np.linalg.inv(left.T @ between @ left) @ left.T
    gram = centred.T @ centred
    target = (np.eye(3) - 1 / 3) / np.sqrt(2)
    nearest = np.argmin(((H[:, :, None] - means[:, None, :]) ** 2).sum(axis=0), axis=1)
    np.testing.assert_allclose(found.nc1, np.trace(within @ inverse) / 3, rtol=1e-12)
    np.testing.assert_allclose(
        found.nc2, np.linalg.norm(gram / np.linalg.norm(gram) - target), rtol=1e-12
    )
    assert np.isnan(found.nc3)
    np.testing.assert_allclose(found.nc4, np.mean(nearest != labels))
    np.testing.assert_allclose(
        found.within_between_ratio, np.trace(within) / np.trace(between), rtol=1e-12
    )
    traced = jax.jit(lambda H: ufm.nc_metrics(problem, ufm.Params(H[:0, :3], H, None)))(H)
    np.testing.assert_allclose(traced.nc1, found.nc1, rtol=1e-10)


def test_the_distance_to_the_minimiser_is_that_of_the_cosines():
    """Over the pairs that f depends on: not those of two samples without positives."""
    problem = ufm.ContrastiveProblem((3, 2, 1, 1), 3, 0.5)
    minimum = ufm.global_minimum(problem)
    H = np.asarray(problem.point(np.random.default_rng(1).standard_normal((3, 7))).H)
    match = ufm.compare_geometry(problem, problem.point(H), minimum)
    X_star = minimum.cosines[np.ix_(problem.labels, problem.labels)]
    seen = np.ones((7, 7))
    seen[5:, 5:] = 0.0
    expected = np.linalg.norm(seen * (H.T @ H - X_star)) / np.linalg.norm(seen * X_star)
    np.testing.assert_allclose(match.logit_distance, expected, rtol=1e-12)
    assert match.matches is False
    unknown = ufm.ContrastiveProblem((2,) * 6, 3, 0.5)
    assert ufm.compare_geometry(unknown, ufm.init_params(unknown, KEY)).matches is None


# Verification and what is stored of it -----------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [
        ufm.ContrastiveProblem((5, 5, 5, 5), 3, 0.5),
        ufm.ContrastiveProblem((12, 12, 2, 2), 4, 1.0),
        ufm.ContrastiveProblem((5, 5, 3, 1), 8, 0.5, features=ufm.NonNegative()),
    ],
    ids=["balanced", "imbalanced", "non-negative"],
)
def test_runs_are_verified_and_stored(problem):
    found = ufm.verify(problem, KEY, 5)
    assert (found.num_global, found.num_matching) == (5, 5)
    assert found.worst_gap < 1e-9
    assert np.max(found.metrics.nc1) < 1e-12
    result = loss_result("supcon", found, 1.0)
    assert dumps(result)
    row = summarise(result)
    assert (row.label, row.num_global) == (problem.loss.label(), 5)
    assert row.distance <= 1e-9
    arrays = loss_arrays(found, "best")
    assert arrays["W"].shape == (0, problem.dim)
    assert "λ_min(diag β + Γ)" in ufm.certify(problem, found.minimum.params(KEY)).explain()
