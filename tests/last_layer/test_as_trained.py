"""The problem a layer was trained on, against sums written out: weights, averages, temperature."""

import cvxpy as cp
import jax
import numpy as np
import pytest
from convex_oracle import _cone_loss
from points import SKEWED
from stored_layers import DECAYS, LABELS, ROWS, B, W, penalty, plain_value, sample_losses

from ufm import Verdict, as_classifier, examine, global_minimum, objective
from ufm.last_layer.centring import centred_layer
from ufm.losses import ClassWeighted, parse_loss

WEIGHTS = np.array([1.0, 2.0, 5.0])
OF_SAMPLES = np.array([1.0, 3.0, 0.5, 2.0, 2.0, 4.0])


def layer_of(loss="ce", **options):
    arrays = {"W": W, "H": ROWS, "labels": LABELS, "b": B} | DECAYS
    return as_classifier(loss=loss, **arrays | options)


def value(layer) -> float:
    return float(objective(layer.problem, layer.params))


def refusal(**options) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is the test
        layer_of(**options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Weights -------------------------------------------------------------------------------------


def test_class_weights_are_normalised_and_leave_the_penalty_alone():
    layer = layer_of(class_weights=WEIGHTS)
    w = WEIGHTS[LABELS]
    expected = np.sum(w * sample_losses()) / np.sum(w) + penalty()
    assert value(layer) == pytest.approx(expected, rel=1e-14)
    assert any("lam_h/2 |H|^2 without weights" in note for note in layer.notes)
    assert value(layer_of(class_weights=7.0 * WEIGHTS)) == pytest.approx(expected, rel=1e-14)
    assert layer_of(class_weights=np.full(3, 7.0)).problem.loss == parse_loss("ce")


def test_sample_weights_count_samples_in_the_penalty_too():
    layer = layer_of(sample_weights=OF_SAMPLES, lam_h=None)
    c = OF_SAMPLES / np.mean(OF_SAMPLES)
    lam_h = 2e-2 * np.sum(W**2) / np.sum(c * np.sum(ROWS**2, axis=1))
    assert float(layer.problem.lam_h) == pytest.approx(lam_h, rel=1e-14)
    layer = layer_of(sample_weights=OF_SAMPLES)
    expected = np.mean(c * sample_losses()) + penalty(weights=c)
    assert value(layer) == pytest.approx(expected, rel=1e-14)
    assert any("lam_h/2 sum_i c_i |h_i|^2" in note for note in layer.notes)


def test_sample_weights_of_whole_numbers_are_repeated_samples():
    """With λ_H of the sum over samples; here the weights have mean 1, which is 7/6 samples each."""
    times = np.array([1, 1, 2, 1, 1, 1])
    several = np.repeat(np.arange(6), times)
    layer = layer_of(sample_weights=times)
    again = layer_of(H=ROWS[several], labels=LABELS[several], lam_h=5e-3 * 6 / 7)
    assert value(layer) == pytest.approx(value(again), rel=1e-14)


def test_sample_weights_of_classes_are_class_weights():
    layer = layer_of(sample_weights=WEIGHTS[LABELS])
    assert layer.problem.column_weights is None
    assert value(layer) == pytest.approx(value(layer_of(class_weights=WEIGHTS)), rel=1e-14)


def test_both_weights_multiply_and_ignored_samples_have_none():
    labels = LABELS.copy()
    labels[3] = -100
    labels = np.append(labels, 0)
    rows, s = np.vstack([ROWS, ROWS[:1]]), np.append(OF_SAMPLES, 9.0)
    layer = layer_of(H=rows, labels=labels, sample_weights=s, class_weights=WEIGHTS)
    kept = labels >= 0
    rows, labels, s = rows[kept], labels[kept], s[kept]
    u, c = s * WEIGHTS[labels], s / np.mean(s)
    losses = sample_losses(H=rows, labels=labels)
    expected = np.sum(u * losses) / np.sum(u) + penalty(H=rows, weights=c)
    assert value(layer) == pytest.approx(expected, rel=1e-14)


@pytest.mark.repeats
@pytest.mark.parametrize("weights", [WEIGHTS, WEIGHTS[::-1]])
@pytest.mark.parametrize("loss", ["ce", "ls:0.1", "mse"])
@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_the_minimum_with_class_weights_is_that_of_a_convex_solver(loss, lam_b, weights):
    y = np.repeat(np.arange(3), SKEWED)
    layer = as_classifier(
        *(W, np.resize(ROWS, (7, 4)), y), loss=loss, lam_w=2e-2, lam_h=5e-3,
        b=None if lam_b is None else B, lam_b=lam_b, sample_weights=weights[y],
    )  # fmt: skip
    Z, b = cp.Variable((3, 7)), cp.Variable((3, 1))
    V = Z if lam_b is None else Z + b @ np.ones((1, 7))
    cost = _cone_loss(parse_loss(loss), V, y, weights[y]) + 1e-2 * cp.normNuc(Z)
    cost += 0.0 if lam_b is None else lam_b / 2 * cp.sum_squares(b)
    star = cp.Problem(cp.Minimize(cost)).solve(solver=cp.CLARABEL)
    found = global_minimum(layer.problem)
    assert found.is_exact
    assert found.value == pytest.approx(star, abs=1e-7)
    assert found.lower_bound <= star + 1e-7
    at_minimum = as_classifier(
        *_stored(found, layer), y, loss=layer.problem.loss, lam_w=2e-2, lam_h=5e-3,
        b=None if lam_b is None else found.bias, lam_b=lam_b,
    )  # fmt: skip
    examined = examine(at_minimum)
    assert examined.certificate.verdict is Verdict.GLOBAL_MINIMUM
    assert float(examined.certificate.value) == pytest.approx(star, abs=1e-7)
    assert float(examined.certificate.lower_bound) <= star + 1e-7


def _stored(found, layer):
    params = found.params(jax.random.key(0))
    return np.asarray(params.W), np.asarray(params.H).T


def test_a_layer_with_weighted_samples_is_centred_by_its_weighted_mean():
    layer = layer_of(sample_weights=OF_SAMPLES, lam_b=0.0)
    moved = centred_layer(layer)
    assert moved is not None
    c = OF_SAMPLES / np.mean(OF_SAMPLES)
    mean = np.average(ROWS, axis=0, weights=c)
    rows, b = ROWS - mean, B + W @ mean
    expected = np.mean(c * sample_losses(H=rows, b=b)) + penalty(H=rows, b=0 * b, weights=c)
    assert value(moved) == pytest.approx(expected, rel=1e-13)
    # The given problem is the same, and no other shift of the features has a lower f there.
    assert value(moved) < value(layer)
    shifted = np.mean(c * sample_losses()) + penalty(H=rows + 0.1, b=0 * b, weights=c)
    assert value(moved) < shifted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": [1.0, 2.0]}, "class_weights must have one number for each of the 3"),
        ({"class_weights": [1.0, 0.0, 2.0]}, "class_weights must be positive and finite"),
        ({"sample_weights": np.eye(6)}, "one number for each of the 6 labels, got shape (6, 6)"),
        ({"sample_weights": np.append(OF_SAMPLES[:5], np.nan)}, "leave samples without weight out"),
        ({"class_weights": WEIGHTS, "loss": "ls:0.1"}, "of smoothed labels in PyTorch, which is a"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"class_weights": WEIGHTS * 1j}, "class_weights must be an array of real numbers, got"),
    ],
)
def test_what_is_no_weight_is_refused(options, message):
    assert message in refusal(**options)


# The average, and the temperature ------------------------------------------------------------


def squares() -> np.ndarray:
    return (ROWS @ W.T + B - np.eye(3)[LABELS]) ** 2


U = WEIGHTS[LABELS]


@pytest.mark.parametrize(
    ("loss", "options", "trained"),
    [
        ("ce", {"reduction": "mean"}, np.mean(sample_losses())),
        ("ce", {"reduction": "sum"}, np.sum(sample_losses())),
        ("ce", {"reduction": "sum_over_batch_size"}, np.mean(sample_losses())),
        ("mse", {"reduction": "mean"}, np.mean(squares())),
        ("mse", {"reduction": "sum"}, np.sum(squares())),
        ("mse", {"reduction": "sum_over_batch_size"}, np.mean(squares())),
        ("mse", {}, 0.5 * np.mean(np.sum(squares(), axis=1))),
        ("ce", {"reduction": "mean", "class_weights": WEIGHTS}, U @ sample_losses() / np.sum(U)),
        ("ce", {"reduction": "sum", "class_weights": WEIGHTS}, U @ sample_losses()),
        (
            "ce",
            {"reduction": "sum_over_batch_size", "class_weights": WEIGHTS},
            np.mean(U * sample_losses()),
        ),
        (
            "mse",
            {"reduction": "sum_over_batch_size", "class_weights": WEIGHTS},
            np.mean(U[:, None] * squares()),
        ),
    ],
)
def test_decays_are_those_beside_the_loss_of_the_framework(loss, options, trained):
    """f is the objective of training divided by a number, with decays divided by it as well."""
    layer = layer_of(loss, **options)
    size = DECAYS["lam_w"] / float(layer.problem.lam_w)
    assert value(layer) * size == pytest.approx(trained + penalty(), rel=1e-14)
    assert any("(`reduction`)" in note for note in layer.notes) == (abs(size - 1) > 1e-12)


def test_a_temperature_is_another_scale_of_w_and_b():
    T = 0.3
    layer = layer_of(temperature=T, lam_h=None)
    lam_h = 2e-2 * np.sum(W**2) / np.sum(ROWS**2)
    losses = sample_losses(W=W / T, b=B / T)
    expected = np.mean(losses) + penalty() + 0.5 * (lam_h - 5e-3) * np.sum(ROWS**2)
    assert value(layer) == pytest.approx(expected, rel=1e-14)
    assert float(layer.problem.lam_h) == pytest.approx(lam_h, rel=1e-14)
    np.testing.assert_array_equal(layer.params.W, W / T)


def test_a_weighted_loss_is_not_that_of_another_number_of_classes():
    problem = layer_of().problem
    with pytest.raises(ValueError, match="one number for each of the 3 classes, got shape"):
        layer_of(ClassWeighted(problem.loss, np.ones(4)))
    with pytest.raises(ValueError, match="weights must be positive and finite"):
        ClassWeighted(problem.loss, np.array([1.0, -1.0, 1.0]))
    assert value(layer_of()) == pytest.approx(plain_value(), rel=1e-14)
