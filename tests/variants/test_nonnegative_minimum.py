"""Minima with H ≥ 0 against formulas, a completely positive program, and random starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cone_oracle import completely_positive_minimum, make, softmax_frame, squared_frame
from convex_oracle import wide_objective
from scipy.optimize import minimize_scalar

import ufm
from ufm.variants.nonnegative import merged_solve

KEY = jax.random.key(5)
BIASES = pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])


def holds(minimum: ufm.GlobalMinimum, value: float, kind: str, abs_: float = 1e-12) -> None:
    """Value, proof, and two minimisers with H ≥ 0 that attain it, by longdouble."""
    assert minimum.value == pytest.approx(value, abs=abs_)
    assert minimum.is_exact
    assert minimum.lower_bound <= minimum.value <= minimum.lower_bound + 1e-9
    assert minimum.kind == kind
    for key in (None, KEY):
        params = minimum.params(key)
        assert float(params.H.min()) >= 0
        attained = float(wide_objective(minimum.problem, params))
        assert attained == pytest.approx(minimum.value, abs=1e-13)
        V = np.asarray(params.W) @ np.asarray(params.H)
        table = minimum.logits[:, minimum.problem.labels]
        np.testing.assert_allclose(V, table, atol=1e-12)


@BIASES
@pytest.mark.parametrize(("K", "n", "alpha"), [(4, 2, 0.0), (5, 3, 0.2)])
def test_cross_entropy_has_an_orthogonal_frame(K, n, alpha, lam_b):
    loss = ufm.LabelSmoothing(alpha) if alpha else ufm.CrossEntropy()
    mu = 0.4 / (K * n**0.5)
    problem = make(loss, (n,) * K, K + 2, mu, lam_b, 3.0)
    found = ufm.global_minimum(problem)
    star, rho = softmax_frame(K, n, mu, alpha)
    holds(found, star, "orthogonal frame")
    assert (found.rho, found.tau) == (pytest.approx(rho, rel=1e-12), 0.0)
    means = ufm.frame_metrics(problem, found.params(KEY))
    assert abs(float(means.cosine_max)) < 1e-15
    # THEORY: t⁴ = λ_W ρ² (K−1)/(K λ_H n).
    length = (9.0 * rho**2 * (K - 1) / (K * n)) ** 0.25
    np.testing.assert_allclose(np.linalg.norm(found.params(KEY).H, axis=0), length, rtol=1e-12)
    metrics = ufm.nc_metrics(problem, found.params(KEY))
    assert max(float(x) for x in (metrics.nc1, metrics.nc2, metrics.nc3)) < 1e-12


@BIASES
@pytest.mark.parametrize("frac", [0.3, 0.95])
def test_squared_error_has_the_root_of_one_equation(frac, lam_b):
    K, n = 4, 2
    mu = frac * np.sqrt((K - 1) / K) / (K * n**0.5)
    found = ufm.global_minimum(make(ufm.MSE(), (n,) * K, K, mu, lam_b, 0.5))
    star, rho, tau = squared_frame(K, n, mu, lam_b)
    holds(found, star, "orthogonal frame")
    assert found.rho == pytest.approx(rho, rel=1e-9)
    assert found.tau == pytest.approx(tau, abs=1e-9)


@pytest.mark.parametrize(("K", "frac", "kind"), [(3, 0.5, "orthogonal frame"), (5, 0.6, "shared")])
def test_logistic_losses_have_three_scalars(K, frac, kind):
    # For K > 4 the level is larger than the frame, |τ| > ρ, and classes share coordinates.
    mu = frac / (K * 2**0.5)
    problem = make(ufm.BinaryCrossEntropy(), (2,) * K, K, mu, None, 2.0)
    found = ufm.global_minimum(problem)
    assert found.is_exact
    assert found.kind.startswith(kind)
    assert (abs(found.tau) > found.rho) is (K == 5)
    assert found.value - found.lower_bound < 1e-12
    # The value of the point, written out, and the lowest that ten runs find.
    params = found.params(KEY)
    W, H = np.asarray(params.W), np.asarray(params.H)
    signs = 1.0 - 2.0 * np.eye(K)[:, problem.labels]
    attained = np.mean(np.sum(np.logaddexp(0.0, signs * (W @ H)), axis=0))
    attained += 0.5 * mu * (2.0 * np.sum(W**2) + 0.5 * np.sum(H**2))
    assert H.min() >= 0
    assert attained == pytest.approx(found.value, abs=1e-13)
    wide = dataclasses.replace(problem, dim=8)
    runs = ufm.solve_many(wide, jax.random.key(0), num_starts=10)
    assert float(runs.value.min()) == pytest.approx(found.value, abs=1e-10)
    assert float(runs.value.min()) >= found.value - 1e-12


@pytest.mark.parametrize(
    ("loss", "counts", "lam_b", "kind"),
    [
        (ufm.MSE(5.0, 3.0), (2, 2, 2), 1e-1, "orthogonal frame"),
        (ufm.CrossEntropy(), (5, 2, 1), 1e-2, None),
        (ufm.CrossEntropy(), (8, 4, 2, 1), 0.0, "shared coordinates"),
        (ufm.MSE(), (3, 1, 1), 0.0, None),
    ],
)
def test_elsewhere_it_is_that_of_the_completely_positive_program(loss, counts, lam_b, kind):
    problem = make(loss, counts, len(counts) + 1, 0.03, lam_b)
    found = ufm.global_minimum(problem)
    holds(found, completely_positive_minimum(problem), kind or found.kind, 1e-7)
    assert found.value - found.lower_bound < 1e-6


@pytest.mark.parametrize("gamma", [None, 3.0])
def test_without_bias_classes_of_any_size_decouple(gamma):
    counts, mu = (9, 4, 2, 1), 0.06
    loss = ufm.CrossEntropy() if gamma is None else ufm.Focal(gamma)
    problem = make(loss, counts, 6, mu)

    def one_class(n: int) -> tuple[float, float]:
        price = 16 * mu * np.sqrt(3 / (4 * n))

        def cost(s):
            log_p = -np.log1p(3 * np.exp(-s))
            modulated = 1.0 if gamma is None else (-np.expm1(log_p)) ** gamma
            return -modulated * log_p + price * s

        best = min(
            (minimize_scalar(cost, bounds=b, method="bounded", options={"xatol": 1e-13})
             for b in ((0, 2), (1, 30))), key=lambda x: x.fun)  # fmt: skip
        at_zero = cost(0.0)
        return (best.fun, best.x) if best.fun < at_zero else (at_zero, 0.0)

    parts = [one_class(n) for n in counts]
    star = sum(n / 16 * value for n, (value, _) in zip(counts, parts, strict=True))
    found = ufm.global_minimum(problem)
    alive = sum(s > 1e-6 for _, s in parts)
    assert alive == 3
    holds(found, star, "orthogonal frame, 3 of 4 classes")
    gaps = np.diag(found.logits) - found.logits[[1, 0, 0, 0], range(4)]
    np.testing.assert_allclose(gaps, [s for _, s in parts], atol=1e-6)
    runs = [merged_solve(problem, ufm.init_params(problem, jax.random.key(i))) for i in range(3)]
    assert min(float(run.value) for run in runs) == pytest.approx(star, abs=1e-12)
    assert all(float(run.value) >= star - 1e-12 for run in runs)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_class_vanishes_at_the_size_of_the_formula(alpha):
    counts = (9, 4, 2, 1)
    loss = ufm.LabelSmoothing(alpha) if alpha else ufm.CrossEntropy()
    rows = ufm.minority_thresholds(make(loss, counts, 6, 0.06)).rows
    assert [row.size for row in rows] == [1, 2, 4, 9]
    for row in rows:
        # Alive iff n > N² μ² K / ((K−1)(1−α)²).
        expected = np.sqrt(3 * row.size / 4) * (1 - alpha) / 16
        assert row.mu == pytest.approx(expected, rel=1e-12)
        assert (row.event, row.is_exact) == ("vanish", True)
        for factor, alive in ((0.99, True), (1.01, False)):
            minimum = ufm.global_minimum(make(loss, counts, 6, factor * expected))
            assert bool(np.any(minimum.logits[:, row.classes[0]])) is alive
    largest = ufm.collapse_threshold(make(loss, counts, 6, 0.06))
    assert float(largest.mu) == pytest.approx(rows[-1].mu, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "lam_b", "expected"),
    [
        (ufm.CrossEntropy(), 0.0, np.sqrt(3 / 4)),
        (ufm.MSE(), None, 1.0),
        (ufm.MSE(), 0.0, np.sqrt(3 / 4)),
        (ufm.MSE(), 0.5, np.sqrt((3 + 1 / 9) / 4)),
    ],
)
def test_collapse_thresholds(loss, lam_b, expected):
    problem = make(loss, (2, 2, 2, 2), 4, 0.01, lam_b)
    found = ufm.collapse_threshold(problem)
    assert float(found.mu) == pytest.approx(expected / (4 * 2**0.5), rel=1e-12)
    for factor in (0.999, 1.001):
        mu = factor * float(found.mu)
        kind = ufm.global_minimum(dataclasses.replace(problem, lam_w=mu, lam_h=mu)).kind
        assert (kind == "origin") is (factor > 1)


def test_where_the_focal_minimiser_jumps_two_points_tie():
    problem = make(ufm.Focal(3.0), (1,) * 30, 32, 0.01)
    found = ufm.collapse_threshold(problem)
    assert found.jumps
    at = dataclasses.replace(problem, lam_w=float(found.mu), lam_h=float(found.mu))
    assert ufm.global_minimum(at).tied
    assert not ufm.global_minimum(problem).tied


def test_few_dimensions_have_a_bound_and_no_proof():
    problem = make(ufm.CrossEntropy(), (2, 2, 2), 2, 0.03)
    found = ufm.global_minimum(problem)
    assert (found.is_exact, found.kind) == (False, "unknown")
    wide = ufm.global_minimum(make(ufm.CrossEntropy(), (2, 2, 2), 3, 0.03))
    assert found.lower_bound <= wide.value < found.value


def test_what_is_not_known_is_not_claimed():
    with pytest.raises(ValueError, match="the problem is a batch"):
        ufm.global_minimum(make(ufm.CrossEntropy(), (2, 2), 3, np.array([0.1, 0.2])))
    none = dataclasses.replace(make(ufm.CrossEntropy(), (2, 2), 3, 0.1), lam_h=0.0)
    assert not ufm.global_minimum(none).is_exact
    with pytest.raises(ValueError, match="no minimiser is known"):
        ufm.global_minimum(none).params(KEY)
    focal = make(ufm.Focal(2.0), (4, 2, 1), 4, 0.05, 0.0)
    assert ufm.minority_thresholds(focal).rows == ()
    with pytest.raises(ValueError, match="use balanced classes or lam_b=None"):
        ufm.collapse_threshold(focal)


def test_runs_are_verified_and_led_out_of_local_minima():
    problem = make(ufm.CrossEntropy(), (2, 2, 2, 2), 5, 0.85 * np.sqrt(3 / 4) / (4 * 2**0.5))
    found = ufm.verify(problem, jax.random.key(0), 5)
    star = ufm.global_minimum(problem).value
    places = {ufm.Verdict.GLOBAL_MINIMUM, ufm.Verdict.LOCAL_MINIMUM}
    assert set(found.verdicts) == places
    for i, (verdict, match) in enumerate(zip(found.verdicts, found.geometry, strict=True)):
        is_global = verdict is ufm.Verdict.GLOBAL_MINIMUM
        assert match.matches is is_global
        assert (match.feature_distance < 1e-6) is is_global
        run = jax.tree.map(lambda x, i=i: x[i], found.solutions.params)
        led = merged_solve(problem, run)
        assert float(led.value) == pytest.approx(star, abs=1e-12)


def test_frames_that_nc_metrics_confuse_do_not_match():
    problem = make(ufm.CrossEntropy(), (2, 2, 2, 2), 6, 0.03)
    best = ufm.global_minimum(problem).params(KEY)
    assert ufm.compare_geometry(problem, best).matches
    # The same W, logits, norms and penalty: what W ignores of two classes is turned elsewhere.
    best = ufm.global_minimum(problem).params(None)
    H, ignored = np.asarray(best.H).copy(), np.array([0.5, 0.5, 0.5, 0.5, 0.0, 0.0])
    along = ignored @ H[:, 4:]
    H[:, 4:] += np.outer(np.eye(6)[5] - ignored, along)
    found = ufm.compare_geometry(problem, dataclasses.replace(best, H=jnp.asarray(H)))
    rest = (found.logit_distance, found.classifier_distance, found.penalty_distance)
    assert max(rest) < 1e-12
    assert found.feature_distance > 0.1
    assert found.matches is False
