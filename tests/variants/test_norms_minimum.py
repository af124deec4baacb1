"""Minima on norm sets against the closed formulas, a semidefinite program, and their own points."""

import dataclasses

import jax
import numpy as np
import pytest
from norm_oracle import hull_minimum, value
from norm_problems import SETS, make
from plain_model import plain_loss
from scipy.optimize import minimize_scalar

import ufm
from ufm.collapse.margin_loss import MarginLoss
from ufm.runs.loss_result import loss_result
from ufm.variants.norms.closed_form import balanced_minimum

KEY = jax.random.key(0)
CE, LS, FL = ufm.CrossEntropy(), ufm.LabelSmoothing(0.1), ufm.Focal(3.0)
SKEWED = (4, 2, 1)


def profile(loss, s, K):
    return plain_loss(loss, np.eye(K)[0] * s, 0)


def formula(problem):
    """f* of balanced classes by a scan of the margin."""
    K, N, tau = problem.num_classes, problem.num_columns, float(problem.temperature)

    def radius(given):
        return given.mean_square**0.5 if isinstance(given, ufm.Budget) else given.radius

    if problem.lam_w is not None:
        rate = problem.lam_w * tau**2 * (K - 1) ** 2 / (K * radius(problem.features) ** 2)
    elif problem.lam_h is not None:
        rate = problem.lam_h * N * (tau * (K - 1) / (K * radius(problem.classifier))) ** 2
    else:
        most = K / (K - 1) / tau * radius(problem.classifier) * radius(problem.features)
        margins = [most]
        if isinstance(problem.loss, ufm.LabelSmoothing):
            margins.append(min(most, np.log(K / problem.loss.alpha - K + 1)))
        return min(profile(problem.loss, s, K) for s in margins)
    found = minimize_scalar(
        lambda s: profile(problem.loss, s, K) + rate * s**2 / 2,
        bounds=(0.0, 60.0),
        options={"xatol": 1e-12},
        method="bounded",
    )
    return found.fun


@pytest.mark.parametrize("loss", [CE, LS, FL], ids=lambda x: x.label())
@pytest.mark.parametrize("name", SETS)
def test_balanced_classes_have_the_value_of_the_formula(name, loss):
    for K, tau in ((3, 0.5), (4, 0.2), (5, 2.0)):
        for lam_b in (None, 0.05):
            problem = make(name, loss, counts=(2,) * K, dim=K, lam_b=lam_b, tau=tau)
            found = ufm.global_minimum(problem)
            assert found.is_exact
            assert found.value == pytest.approx(formula(problem), abs=1e-11)
            assert 0 <= found.value - found.lower_bound < 1e-12
            params = found.params(KEY)
            assert value(problem, params) == pytest.approx(found.value, abs=1e-13)
            if found.kind == "simplex ETF":
                metrics = ufm.nc_metrics(problem, params)
                assert max(metrics.nc1, metrics.nc2, metrics.nc3) < 1e-7


def test_margins_beyond_those_of_smoothed_targets_are_said_to_leave_many_minimisers():
    # K = 3, α = 0.1: the best margin is log 28 = 3.33, and spheres allow 1.5/τ.
    problem = make("sphere, sphere", LS, dim=3, tau=0.3)
    found = ufm.global_minimum(problem)
    assert found.tied
    assert found.kind == "not unique"
    entropy = -(0.9 + 0.1 / 3) * np.log(0.9 + 0.1 / 3) - 2 * 0.1 / 3 * np.log(0.1 / 3)
    assert found.value == pytest.approx(entropy, abs=1e-14)
    assert value(problem, found.params(KEY)) == pytest.approx(entropy, abs=1e-14)
    assert ufm.compare_geometry(problem, found.params(KEY)).matches is None
    # In two dimensions spheres do not reach it.
    flat = ufm.global_minimum(dataclasses.replace(problem, dim=2))
    assert not flat.is_exact
    assert flat.value == pytest.approx(entropy + 0.0079, abs=1e-4)
    assert flat.lower_bound == pytest.approx(entropy, abs=1e-12)
    assert ufm.global_minimum(make("ball, sphere", LS, dim=2, tau=0.3)).is_exact


@pytest.mark.parametrize(
    ("name", "loss", "lam_b"),
    [
        ("sphere, sphere", CE, 0.05),
        ("ball, budget", LS, None),
        ("decay, sphere", ufm.MSE(), 0.0),
        ("budget, decay", CE, 0.0),
        ("sphere, budget", ufm.MSE(), 0.05),
    ],
)
def test_other_counts_have_the_value_of_the_semidefinite_program(name, loss, lam_b):
    problem = make(name, loss, counts=SKEWED, dim=6, lam_b=lam_b)
    found = ufm.global_minimum(problem)
    # The accuracy of the interior-point method, measured on fifty such problems: 1e-10.
    assert found.value == pytest.approx(hull_minimum(problem), abs=1e-8)
    assert found.is_exact
    assert found.value - found.lower_bound < 1e-9
    assert found.kind == "imbalanced"
    assert value(problem, found.params(KEY)) == pytest.approx(found.value, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("sphere, sphere", SKEWED), ("decay, sphere", (2, 2, 2)), ("budget, ball", SKEWED)],
)
def test_verify_proves_every_run(name, counts):
    problem = make(name, counts=counts)
    found = ufm.verify(problem, KEY, 2)
    assert found.num_global == found.num_matching == 2
    assert found.worst_gap < 1e-9
    stored = loss_result("CE", found, 1.0)
    assert stored["verdicts"]["GLOBAL_MINIMUM"] == 2
    assert stored["minority"] == ""
    first = jax.tree.map(lambda x: x[0], found.solutions.params)
    assert float(ufm.nearest_minimiser(problem, first, found.minimum).relative) < 1e-6


def test_another_point_does_not_match():
    problem = make("decay, sphere")
    params = ufm.global_minimum(problem).params(KEY)
    for other in (
        dataclasses.replace(params, W=1.1 * params.W),
        dataclasses.replace(params, H=params.H[:, ::-1]),
        ufm.init_params(problem, KEY),
    ):
        assert ufm.compare_geometry(problem, other).matches is False
    assert ufm.compare_geometry(problem, params).matches is True


def test_no_decay_collapses_to_the_origin():
    assert float(ufm.collapse_threshold(make("decay, sphere")).mu) == np.inf
    assert ufm.global_minimum(make("decay, sphere", tau=20.0)).rho > 0
    assert ufm.minority_thresholds(make("decay, sphere")).rows == ()


def test_what_is_not_proven_is_said_not_to_be():
    few = ufm.global_minimum(make("sphere, sphere", counts=(1,) * 5, dim=3, tau=0.5))
    assert not few.is_exact  # five vectors in three dimensions
    assert few.lower_bound < few.value
    assert few.kind == "unknown"
    skewed = ufm.global_minimum(make("sphere, sphere", FL, counts=SKEWED))
    assert not skewed.is_exact
    assert np.isfinite(skewed.value)
    with pytest.raises(ValueError, match="the problem is a batch"):
        ufm.global_minimum(make("sphere, sphere", tau=np.array([0.5, 1.0])))
    # Margins of 30 classes at γ = 3: the tangent of φ crosses it, that of ψ does not; and margins
    # below the inflection, where neither is used.
    many = make("sphere, sphere", FL, counts=(1,) * 30, dim=30, tau=1.5)
    phi = MarginLoss(FL, 30)
    assert phi.inflection(np.zeros(())) < 30 / 29 / 1.5 < phi.tie(np.zeros(()))
    assert ufm.global_minimum(many).kind == "simplex ETF"
    assert balanced_minimum(dataclasses.replace(many, temperature=2.0)) is None
