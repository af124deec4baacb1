"""The global minimum and the predicted geometry, against a convex solver, a scan and many runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import convex_minimum, minimiser, scanned_minimum, wide_objective
from model_oracle import objective_and_gradient
from points import (
    BALANCED,
    BIASES,
    CONVEX_PROBLEMS,
    DIM,
    SKEWED,
    make,
    origin,
    perturbed,
    softmax_entropy,
)

from ufm import (
    MAE,
    MSE,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    Problem,
    compare_geometry,
    global_minimum,
    solve_many,
)
from ufm.certificates.dual_state import dual_state
from ufm.minimum import searched

DECAYS = (1e-3, 2e-2, 0.1)


def ids(value):
    return value.label() if hasattr(value, "label") else str(value)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize(("loss", "counts"), CONVEX_PROBLEMS, ids=ids)
def test_value_and_minimiser_agree_with_a_convex_solver(loss, counts, lam_b):
    for mu in DECAYS:
        problem = make(loss, counts, lam_b, mu)
        oracle, found = convex_minimum(problem), global_minimum(problem)
        assert found.is_exact, found.reason
        assert abs(float(found.value) - oracle.value) <= oracle.accuracy
        assert float(found.lower_bound) <= oracle.value
        # Two orientations: both attain the value and are critical, and they differ.
        points = [found.params(jax.random.key(seed)) for seed in (0, 1)]
        for point in points:
            value, gradient = objective_and_gradient(problem, point)
            assert value == pytest.approx(float(found.value), rel=1e-12, abs=1e-14)
            assert np.linalg.norm(gradient) <= 1e-9
        sizes = np.linalg.svd(oracle.Z, compute_uv=False)
        assert found.rank == int(np.sum(sizes > 1e-4))
        if found.rank:
            assert float(jnp.linalg.norm(points[0].W - points[1].W)) > 1e-2
            # A random orientation, not the coordinate axes.
            assert np.count_nonzero(np.abs(np.asarray(points[0].W)) > 1e-6) > 8


@pytest.mark.parametrize("lam_b", BIASES)
def test_logits_and_bias_are_those_of_the_minimiser(lam_b):
    problem = make(CrossEntropy(), SKEWED, lam_b)
    found, exact = global_minimum(problem), minimiser(problem)
    columns = np.asarray(exact.W @ exact.H)[:, [0, 4, 6]]
    np.testing.assert_allclose(np.asarray(found.logits), columns, atol=1e-7)
    if lam_b is not None:
        shift = np.mean(found.bias - exact.b) if lam_b == 0 else 0.0  # b + c1 is as good
        np.testing.assert_allclose(np.asarray(found.bias) - shift, exact.b, atol=1e-7)


def test_weighted_problem_has_the_minimum_of_its_samples():
    for loss, lam_b in ((CrossEntropy(), 1e-2), (MSE(), 0.0)):
        weighted = Problem(
            loss=loss,
            class_counts=(1, 1, 1),
            dim=DIM,
            lam_w=2e-2,
            lam_h=5e-3,
            lam_b=lam_b,
            column_weights=jnp.asarray(SKEWED, float),
        )
        found = global_minimum(weighted)
        assert abs(float(found.value) - convex_minimum(weighted).value) <= 1e-8
        value, gradient = objective_and_gradient(weighted, found.params(jax.random.key(3)))
        assert value == pytest.approx(float(found.value), rel=1e-12)
        assert np.linalg.norm(gradient) <= 1e-9
        assert float(found.value) == pytest.approx(
            float(global_minimum(make(loss, SKEWED, lam_b)).value), rel=1e-12
        )


def cancelling_problem() -> Problem:
    # Residuals of 1e-3 between logits of 942: a compiler may compute Γ twice, one multiplication
    # and subtraction rounded once here and twice there, with relative differences of 1e-10.
    decay = 5.883152213834247e-05
    return Problem(
        loss=MSE(223.3063082541709, 941.8631583512473),
        class_counts=(1,) * 5,
        dim=5,
        lam_w=2 * decay,
        lam_h=0.5 * decay,
        lam_b=None,
        column_weights=jnp.asarray([66.0, 2.0, 2580.0, 97.0, 1.0]),
    )


def test_bounds_stay_sound_where_residuals_cancel():
    problem = cancelling_problem()
    found = global_minimum(problem)
    assert found.is_exact
    for seed in range(3):
        attained = float(wide_objective(problem, found.params(jax.random.key(seed))))
        assert 0 <= attained - float(found.lower_bound) <= 1e-6 * attained


def test_versions_of_the_dual_point_lie_within_their_bound():
    problem = cancelling_problem()
    point = global_minimum(problem).params(jax.random.key(0))
    compiled = jax.jit(dual_state)(problem, point)
    with jax.disable_jit():
        plain = dual_state(problem, point)
    apart = float(jnp.linalg.norm(compiled.at.G - plain.at.G))
    assert apart <= float(compiled.versions.norm) <= 1e-5 * float(jnp.linalg.norm(plain.at.G))
    assert float(compiled.versions.norm) >= 1e-10 * float(jnp.linalg.norm(plain.at.G))


def test_too_few_dimensions_leave_only_the_bound():
    for loss, counts, lam_b in ((CrossEntropy(), SKEWED, None), (MSE(), SKEWED, 1e-2)):
        found = global_minimum(make(loss, counts, lam_b, dim=1))
        full = convex_minimum(make(loss, counts, lam_b))
        assert not found.is_exact
        assert "dim=1" in found.reason
        assert float(found.lower_bound) <= full.value <= float(found.value) + full.accuracy
        assert float(found.lower_bound) == pytest.approx(full.value, abs=1e-8)
        # What is offered is the best point found, and its value is attained.
        point = found.params(jax.random.key(0))
        problem = make(loss, counts, lam_b, dim=1)
        assert float(wide_objective(problem, point)) == pytest.approx(float(found.value), rel=1e-9)
        assert float(found.value) > full.value + 1e-3
        match = compare_geometry(problem, point, found)
        assert (match.kind, match.matches) == ("unknown", None)


@pytest.mark.parametrize("loss", [LabelSmoothing(0.3), MSE(2.0, 3.0)], ids=lambda x: x.label())
def test_the_minimiser_has_the_value_at_decays_that_hardly_count(loss):
    # μ‖Z*‖_* is no part of f here, but Z* is.
    problem = make(loss, (4, 2, 1), 1e-2, mu=1e-30, dim=3)
    found = global_minimum(problem)
    assert found.is_exact
    attained = float(wide_objective(problem, found.params(jax.random.key(0))))
    assert attained == pytest.approx(found.value, rel=1e-12)
    assert attained < 0.9 * float(wide_objective(problem, origin(problem)))


def test_fewer_dimensions_suffice_where_the_minimum_is_the_origin():
    found = global_minimum(make(CrossEntropy(), BALANCED, None, mu=0.5, dim=1))
    assert found.is_exact
    assert (found.rank, found.kind) == (0, "origin")


def test_no_decay_claims_nothing():
    for decays in ({"lam_w": 0.0, "lam_h": 1e-2}, {"lam_w": 1e-2, "lam_h": 0.0}):
        problem = Problem(loss=CrossEntropy(), class_counts=BALANCED, dim=DIM, lam_b=1e-2, **decays)
        found = global_minimum(problem)
        assert not found.is_exact
        assert np.isnan(found.value)
        assert "lam_w or lam_h = 0" in found.reason
        assert found.lower_bound <= 0.0
        with pytest.raises(ValueError, match="no minimiser is known"):
            found.params(jax.random.key(0))
        assert compare_geometry(problem, origin(problem), found).matches is None


@pytest.mark.repeats
@pytest.mark.parametrize("mu", [5e-3, 0.1, 0.2])
def test_focal_closed_form_is_below_many_random_runs(mu):
    problem = make(Focal(3.0), BALANCED, None, mu)
    found = global_minimum(problem)
    runs = solve_many(problem, jax.random.key(0), num_starts=12, scale=0.7)
    values = np.asarray(runs.value)
    assert found.is_exact
    assert np.all(values >= float(found.value) - 1e-12)
    assert np.min(values) <= float(found.value) + 1e-9
    value, rho = scanned_minimum(problem.loss, 3, 2, mu)
    assert float(found.value) == pytest.approx(value, abs=1e-12)
    assert float(found.rho) == pytest.approx(rho, abs=1e-5)


def focal_jump(mu, lam_b=None) -> Problem:
    return Problem.balanced(
        loss=Focal(3.0), num_classes=100, per_class=1, dim=99, lam_w=mu, lam_h=mu, lam_b=lam_b
    )


def test_focal_minimum_jumps_from_the_frame_to_the_origin():
    # The two tie at μ = 0.01175 (THEORY: spurious minima between 0.01106 and 0.01214).
    for mu, kind, rank in ((0.0114, "simplex ETF", 99), (0.0120, "origin", 0)):
        found = global_minimum(focal_jump(mu))
        value, rho = scanned_minimum(Focal(3.0), 100, 1, mu)
        assert found.is_exact
        assert (found.kind, found.rank) == (kind, rank)
        assert float(found.value) == pytest.approx(value, rel=1e-12)
        assert float(found.rho) == pytest.approx(rho, abs=1e-5)
    assert rho < 1e-9
    assert scanned_minimum(Focal(3.0), 100, 1, 0.0114)[1] > 2.5


def test_focal_with_a_free_bias_at_a_large_decay_is_not_claimed():
    # c = μ √n (K−1) = 1.13 > 1: with λ_b = 0 the scalar bound falls short of the frame's value.
    found = global_minimum(focal_jump(0.0114, 0.0))
    value, _ = scanned_minimum(Focal(3.0), 100, 1, 0.0114)
    assert not found.is_exact
    assert "scalar lower bound" in found.reason
    assert float(found.lower_bound) < value <= float(found.value) + 1e-12
    assert global_minimum(focal_jump(0.0114, 1e-2)).is_exact


def test_a_bound_of_zero_proves_nothing_of_a_tiny_minimum():
    """For MAE the scalar bound is useless with a free bias, however small f is."""
    problem = Problem.balanced(
        loss=MAE(), num_classes=4, per_class=2, dim=4, lam_w=1e-12, lam_h=1e-12, lam_b=0.0
    )
    found = global_minimum(problem)
    assert found.lower_bound <= 0 < found.value < 1e-9
    assert not found.is_exact
    assert global_minimum(dataclasses.replace(problem, lam_b=None)).is_exact


@pytest.mark.repeats
@pytest.mark.parametrize("mu", [1e-2, 1.0])
def test_where_convexity_is_unknown_nothing_is_exact(mu):
    custom = CustomLoss(softmax_entropy)
    for loss, counts in ((Focal(2.0), SKEWED), (custom, BALANCED)):
        problem = make(loss, counts, 1e-2, mu)
        found = global_minimum(problem)
        assert not found.is_exact
        assert "no lower bound" in found.reason
        point = found.params(jax.random.key(0))
        assert float(wide_objective(problem, point)) == pytest.approx(float(found.value), rel=1e-9)
        # Also at large decays, where the best point found is the origin.
        match = compare_geometry(problem, point, found)
        assert (match.kind, match.matches) == ("unknown", None)


def test_a_convex_custom_loss_is_solved_and_certified():
    custom = CustomLoss(softmax_entropy, convex=True, lower_bound=0.0)
    problem, known = make(custom, SKEWED, 1e-2), make(CrossEntropy(), SKEWED, 1e-2)
    found = global_minimum(problem)
    assert found.is_exact
    assert abs(float(found.value) - convex_minimum(known).value) <= 1e-8
    assert float(found.lower_bound) <= convex_minimum(known).value


def test_minority_classes_collapse_under_strong_imbalance():
    counts = (8, 8, 1, 1)
    problem = Problem(
        loss=CrossEntropy(), class_counts=counts, dim=6, lam_w=0.06, lam_h=0.06, lam_b=None
    )
    found = global_minimum(problem)
    exact = convex_minimum(problem)
    assert found.is_exact
    assert abs(float(found.value) - exact.value) <= exact.accuracy
    point = found.params(jax.random.key(0))
    W = np.asarray(point.W)
    # Fang et al. (2021): the classifiers of the minority classes coincide.
    assert np.linalg.norm(W[2] - W[3]) < 1e-6 < 0.1 < np.linalg.norm(W[0] - W[1])
    match = compare_geometry(problem, point, found)
    assert (match.kind, match.matches) == ("imbalanced", True)
    assert match.nc2 > 0.1
    assert compare_geometry(problem, perturbed(point, 0, 0.1), found).matches is False


def test_what_would_take_minutes_is_left_out_at_once():
    def of(counts, dim, loss=None):
        decays = {"lam_w": 1e-5, "lam_h": 1e-5, "lam_b": 1e-2}
        loss = CrossEntropy() if loss is None else loss
        return global_minimum(Problem(loss=loss, class_counts=counts, dim=dim, **decays))

    unequal = tuple(range(1, 1001))
    found = of(unequal, 2048)
    assert not found.is_exact
    assert found.kind == "unknown"
    assert found.reason == "not computed: 1000 classes in 1000 dimensions would take minutes"
    with pytest.raises(ValueError, match="no minimiser is known: not computed: 1000 classes in"):
        found.params(None)
    # In too few dimensions the bound of the balanced problem still holds: the value at collapse.
    found, attained = of((5,) * 1000, 256), of((5,) * 1000, 999)
    assert attained.is_exact
    assert not found.is_exact
    assert found.lower_bound == attained.lower_bound
    assert found.reason == (
        "the lower bound is attained only in dimension 999 or more, and dim=256; no value was "
        "searched: 1000 classes in 256 dimensions would take minutes"
    )
    assert "no lower bound is known" in of(unequal, 256, Focal(2.0)).reason


def test_runs_are_as_many_as_there_is_time_for(monkeypatch):
    monkeypatch.setattr(searched, "_BRANCHED", 2)  # nothing is proven in one dimension
    problem, work = make(CrossEntropy(), dim=1), 3**2 * 1
    for runs, said in ((6, "6 runs"), (1, "1 run")):
        monkeypatch.setattr(searched, "_LARGEST", runs * work / 8)
        reason = global_minimum(problem).reason
        assert reason.endswith(f"dim=1; value is the best found in {said}")
    monkeypatch.setattr(searched, "_LARGEST", 0.9 * work / 8)
    structured = global_minimum(problem)  # a formula takes no run
    assert structured.reason.endswith(
        "value is that of a structured point: 1 pair and 1 dead class"
    )
    assert np.isnan(global_minimum(make(CrossEntropy(), (2, 2, 1), dim=1)).value)


def test_a_minimiser_without_a_key_lies_along_the_first_axes():
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    found = global_minimum(problem)
    point = found.params(None)
    assert not np.any(point.W[:, found.rank :])
    assert not np.any(point.H[found.rank :])
    assert float(wide_objective(problem, point)) == pytest.approx(found.value, rel=1e-12)


def test_runs_of_large_problems_are_short(monkeypatch):
    monkeypatch.setattr(searched, "_BRANCHED", 2)
    whole = global_minimum(make(CrossEntropy(), dim=1))
    monkeypatch.setattr(searched, "_LARGE", 0)
    monkeypatch.setattr(searched, "_FEW_STEPS", 1)
    found = global_minimum(make(CrossEntropy(), dim=1))
    # After one step all are above the formula, and whole runs end below it.
    assert whole.reason.endswith("8 runs")
    assert "structured point" in found.reason
    assert found.value > whole.value
