"""Branch and bound over classifiers in one and two dimensions, against NumPy and SciPy."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

import ufm
from ufm.minimum.narrow_bound import _bounds, _placement, _possible
from ufm.minimum.plane_duals import tangent_planes
from ufm.minimum.structures import TableLoss, minimum_of, structures

CE = ufm.CrossEntropy()


def narrow(K, d, decay, loss=CE, n=1):
    return ufm.Problem.balanced(
        loss=loss, num_classes=K, per_class=n, dim=d, lam_w=2 * decay, lam_h=decay / 2, lam_b=None
    )


def best_over_features(W, decay, alpha):
    """min_H f for one sample in each class and both decays `decay`."""
    K, d = W.shape
    target = (1 - alpha) * np.eye(K) + alpha / K

    def f(h):
        H = h.reshape(d, K)
        top = np.logaddexp.reduce(W @ H, axis=0)
        value = np.mean(top - np.sum(target * (W @ H), axis=0)) + 0.5 * decay * h @ h
        return value, (W.T @ (np.exp(W @ H - top) - target) / K + decay * H).ravel()

    found = minimize(f, np.zeros(d * K), jac=True, method="BFGS", options={"gtol": 1e-10})
    return found.fun + 0.5 * decay * np.sum(W**2)


@pytest.mark.parametrize(("K", "d", "decay", "alpha"), [(4, 2, 0.05, 0.0), (3, 1, 5e-3, 0.1)])
def test_no_point_of_a_box_is_below_its_bound(K, d, decay, alpha):
    rng, place = np.random.default_rng(0), _placement(K, d)
    low = rng.uniform(-3, 3, (40, place.shape[-1]))
    high = low + rng.uniform(0, 0.8, low.shape) * rng.choice([0.1, 1.0], (40, 1))
    bounds, at_centre, _ = _bounds(low, high, place, decay, alpha)
    closest = np.inf
    for bound, value, a, b in zip(bounds, at_centre, low, high, strict=True):
        centre = best_over_features((place @ (0.5 * (a + b)))[:, :d], decay, alpha)
        assert value == pytest.approx(centre, abs=1e-8)
        for part in (rng.uniform(size=a.shape), rng.integers(0, 2, a.shape)):
            W = (place @ (a + part * (b - a)))[:, :d]
            value = best_over_features(W, decay, alpha)
            assert value >= bound - 1e-9
            closest = min(closest, value - bound)
    assert closest < 1e-2


def test_the_bound_is_below_the_plane_on_the_whole_box():
    rng, decay, place = np.random.default_rng(1), 0.05, _placement(4, 2)
    low = rng.uniform(-3, 3, (40, 5))
    high = low + rng.uniform(0, 3.0, low.shape)
    bounds, _, _ = _bounds(low, high, place, decay, 0.0)
    planes = tangent_planes(np.moveaxis(place @ (0.5 * (low + high)).T, -1, 0), decay, 0.0)
    parts = np.concatenate(
        [list(itertools.product([0.0, 1.0], repeat=5)), rng.uniform(size=(200, 5))]
    )
    for i, bound in enumerate(bounds):
        W = np.moveaxis(place @ (low[i] + parts * (high[i] - low[i])).T, -1, 0)
        values = planes.dual[i] + 0.5 * decay * np.sum(W**2, axis=(1, 2))
        values -= np.sum((W.transpose(0, 2, 1) @ planes.gamma[i]) ** 2, axis=(1, 2)) / (2 * decay)
        assert np.min(values) >= bound - 1e-12


@pytest.mark.parametrize(("K", "d"), [(4, 2), (5, 1)])
def test_every_classifier_has_a_copy_in_the_searched_region(K, d):
    """Rotated, reflected and with its classes renamed, and with column sums 0."""
    rng, place = np.random.default_rng(0), _placement(K, d)
    for _ in range(50):
        W = rng.standard_normal((K, d))
        W -= W.mean(axis=0)
        W = W[np.argsort(-np.linalg.norm(W, axis=1), kind="stable")]
        first = W[0] / np.linalg.norm(W[0])
        turned = W @ np.stack([first, [-first[1], first[0]]], axis=1) if d == 2 else W * first
        copies = [turned * [1, sign] for sign in (1, -1)] if d == 2 else [turned]
        inside = 0
        for copy in copies:
            rest = copy[1:][np.argsort(-copy[1:, -1])]
            x = np.concatenate([[copy[0, 0]], rest[:-1].ravel()])[None]
            table = np.pad(np.vstack([copy[:1], rest]), ((0, 0), (0, 2 - d)))
            np.testing.assert_allclose(place @ x[0], table, atol=1e-12)
            inside += int(_possible(x, x, place, np.linalg.norm(W))[0])
            assert not _possible(x, x, place, 0.99 * np.linalg.norm(W))[0]
        assert inside >= 1


def test_the_square_is_proven_and_no_point_is_below_the_bound():
    problem, decay = narrow(4, 2, 0.025, n=4), 0.05
    found = ufm.narrow_bound(problem, gap=1e-9)
    square = minimum_of(next(structures_of(4, "orthoplex")), TableLoss(CE, 4), 2, decay)
    assert found.closed
    assert 0 <= square.value - found.lower_bound <= 2e-9
    rng = np.random.default_rng(0)
    U, s, Vt = np.linalg.svd(square.table)
    W, H = U[:, :2] * np.sqrt(s[:2]), np.sqrt(s[:2])[:, None] * Vt[:2]
    size = rng.choice([1e-3, 0.1, 1.0, 5.0], (100_000, 1, 1))
    Ws = W + size * rng.standard_normal((100_000, 4, 2))
    Hs = H + size * rng.standard_normal((100_000, 2, 4))
    Z = Ws @ Hs
    own = np.einsum("mkk->mk", Z)
    values = np.mean(np.logaddexp.reduce(Z, axis=1) - own, axis=1)
    values += 0.5 * decay * (np.sum(Ws**2, axis=(1, 2)) + np.sum(Hs**2, axis=(1, 2)))
    assert np.min(values) >= found.lower_bound


def structures_of(K, name):
    return (each for each in structures(K, K) if each.name == name)


def test_one_dimension_and_too_few_boxes():
    """In one dimension the best of all local minima, by SciPy from many starts."""
    rng, decay = np.random.default_rng(0), 5e-3
    problem = narrow(3, 1, decay)
    found = ufm.narrow_bound(problem, gap=1e-9)

    def f(x):
        w, h = x[:3, None], x[None, 3:]
        top = np.logaddexp.reduce(w @ h, axis=0)
        slope = (np.exp(w @ h - top) - np.eye(3)) / 3
        value = np.mean(top - np.diag(w @ h)) + 0.5 * decay * x @ x
        return value, np.concatenate([(slope @ h.T).ravel(), (w.T @ slope).ravel()]) + decay * x

    starts = 3.0 * rng.standard_normal((20, 6))
    best = min(minimize(f, x, jac=True, options={"gtol": 1e-9}).fun for x in starts)
    assert found.closed
    assert best == pytest.approx(0.4043306447, abs=1e-9)
    assert -1e-10 <= best - found.lower_bound <= 2e-9
    bounds = [ufm.narrow_bound(problem, 1e-9, boxes) for boxes in (100, 1000, 10_000)]
    assert [x.closed for x in bounds] == [False] * 3
    assert all(x.boxes <= most for x, most in zip(bounds, (100, 1000, 10_000), strict=True))
    for first, second in itertools.pairwise([*bounds, found]):
        assert first.lower_bound <= second.lower_bound <= best


def test_few_boxes_are_no_worse_than_more_dimensions():
    """Planes alone give −453; in three dimensions the ETF is the minimum, which SciPy finds."""
    decay, K, alpha = 0.0033, 4, 0.1
    few = ufm.narrow_bound(narrow(K, 2, decay, ufm.LabelSmoothing(alpha)), max_boxes=100)

    def f(rho):
        others = alpha * (K - 1) / K * rho  # what the smoothed labels pay
        return np.log1p((K - 1) * np.exp(-rho)) + others + decay * (K - 1) * rho

    etf = minimize(lambda x: f(x[0]), [3.0], method="BFGS", options={"gtol": 1e-10}).fun
    assert not few.closed
    assert few.lower_bound == pytest.approx(etf, rel=1e-10)
    assert few.lower_bound <= few.value


def test_the_global_minimum_of_four_classes_in_the_plane_is_proven():
    minimum = ufm.global_minimum(narrow(4, 2, 0.05))
    assert minimum.is_exact
    assert minimum.reason == "proven: branch and bound over W"
    assert minimum.value == pytest.approx(0.6501659468, abs=1e-10)
    assert 0 <= minimum.value - minimum.lower_bound <= 1e-9 * 1.7
    # Three squares have this value, so that no point is compared with one of them.
    assert (minimum.kind, minimum.rank, minimum.tied) == ("rank 2", 2, True)
    match = ufm.compare_geometry(minimum.problem, minimum.params(None), minimum)
    assert match.matches is None


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (narrow(4, 3, 0.1), "dim=1 or 2 below num_classes - 1"),
        (narrow(3, 2, 0.1), "dim=1 or 2 below num_classes - 1"),
        (narrow(4, 2, 0.1, ufm.MSE()), "cross-entropy or label smoothing"),
        (narrow(4, 2, 0.0), "positive decays"),
        (narrow(4, 2, np.array([0.1, 0.2])), "not for a batch"),
    ],
)
def test_other_problems_are_refused(problem, message):
    with pytest.raises(ValueError, match=message):
        ufm.narrow_bound(problem)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="gap must be positive"):
        ufm.narrow_bound(narrow(4, 2, 0.1), gap=0.0)
    with pytest.raises(ValueError, match="max_boxes"):
        ufm.narrow_bound(narrow(4, 2, 0.1), max_boxes=0)
