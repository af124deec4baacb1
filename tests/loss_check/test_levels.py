"""Three scalars of convex losses that are not shift-invariant, and the decays of their phases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm.loss_check.experiment import _kind
from ufm.loss_check.levels import Levels

BIASES = (None, 0.0, 0.05, 2.0)


def balanced(levels: Levels, decay: float) -> ufm.Problem:
    mu, classes = decay / levels.num_classes, levels.num_classes
    return ufm.Problem.balanced(
        loss=levels.loss, num_classes=classes, per_class=1, dim=classes,
        lam_w=mu, lam_h=mu, lam_b=levels.lam_b,
    )  # fmt: skip


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize("spec", ["bce", "mse:2,1"])
def test_the_symmetric_minimum_is_the_certified_minimum_of_the_matrix_problem(spec, lam_b):
    levels = Levels(ufm.parse_loss(spec), 10, lam_b)
    # Below and beyond the thresholds, and for BCE without bias where all features are equal.
    for decay in (0.3, 0.9, 1.5, 5.0):
        point, problem = levels.minimum(decay), balanced(levels, decay)
        matrix = ufm.global_minimum(problem)
        assert matrix.is_exact
        assert point.value == pytest.approx(matrix.value, abs=1e-13)
        P = np.eye(10) - 0.1
        Z = point.rho * P + point.tau / 10
        np.testing.assert_allclose(Z, matrix.logits, atol=1e-6)
        if lam_b:
            np.testing.assert_allclose(np.asarray(matrix.bias), point.bias_level, atol=1e-6)
        kind = {
            (True, True): "shifted frame",
            (True, False): "simplex ETF",
            (False, True): "all features equal",
            (False, False): "origin",
        }[point.rho != 0, point.tau != 0]
        assert _kind(np.asarray(matrix.logits)) == kind


@pytest.mark.parametrize("classes", [3, 4, 10])
@pytest.mark.parametrize("lam_b", BIASES)
def test_thresholds_in_closed_form(classes, lam_b):
    merged, vanished = Levels(ufm.BinaryCrossEntropy(), classes, lam_b).thresholds
    assert merged == pytest.approx(1.0, abs=1e-12)
    if lam_b is None:
        assert vanished == pytest.approx(max(1.0, classes / 2 - 1), abs=1e-12)
    elif lam_b == 0.0:
        assert vanished == merged
    scaled = Levels(ufm.MSE(2.0, 1.5), classes, lam_b)
    closed = float(ufm.collapse_threshold(balanced(scaled, 1.0)).mu)
    assert scaled.thresholds[0] == pytest.approx(classes * closed, rel=1e-12)


def light_rivals(z, k):
    """BCE with half the weight on rivals, for which ∂ψ/∂ρ depends on the level."""
    own = jnp.arange(z.shape[0], dtype=jnp.int32) == k
    return jnp.sum(jnp.where(own, jax.nn.softplus(-z), 0.5 * jax.nn.softplus(z)))


def test_all_features_are_equal_between_the_two_thresholds():
    """On either side of both, the minimum of the matrix problem has the rank of the phase."""
    loss = ufm.CustomLoss(light_rivals, convex=True, lower_bound=0.0)
    levels = Levels(loss, 10, None)
    merged, vanished = levels.thresholds
    assert 0.5 < merged < 0.9  # between its values at the levels of the origin and of a free bias
    for decay, rank in ((0.99 * merged, 10), (1.01 * merged, 1), (0.99 * vanished, 1)):
        assert ufm.global_minimum(balanced(levels, decay)).rank == rank
    assert ufm.global_minimum(balanced(levels, 1.01 * vanished)).rank == 0


def test_bce_reports_its_phases_and_runs_agree():
    report = ufm.check_loss("bce", num_starts=2)
    assert [p.kind for p in report.predictions] == ["shifted frame"] * 2 + ["all features equal"]
    for prediction, outcome in zip(report.predictions, report.outcomes, strict=True):
        assert outcome.kind == prediction.kind
        assert outcome.best == pytest.approx(prediction.value, abs=1e-9)
    assert "all features are equal from there to 4.0000" in report.explain()
    assert dataclasses.asdict(report.predictions[0])["level"] < 0
