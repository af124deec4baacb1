"""Runs: what is measured, that nothing is compiled twice, divergence, and the rule for the rate."""

import dataclasses
import math

import jax
import msgspec
import numpy as np
import pytest
from images import small_data

from ufm.networks import (
    TrainConfig,
    TrainStatus,
    Trial,
    choose_learning_rate,
    load_data,
    train,
    trial_epochs,
    validation_split,
)
from ufm.networks.measures.evaluation import outputs
from ufm.networks.training.epoch import run_epoch
from ufm.networks.training.learning_rate import edge, select
from ufm.networks.training.optimiser import rate_at
from ufm.networks.training.run import Run

#: The network that these tests share.
SMALL = TrainConfig(width=8, depth=1, epochs=6, batch_size=10, measurements=3)
COLUMNS = [
    *("epoch", "learning_rate", "running_loss"),
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    *("nc1", "nc2", "nc3", "nc4", "weight_norm", "feature_norm"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


# What is measured ----------------------------------------------------------------------------


def test_the_history_is_that_of_the_last_layer(data):
    reports = []
    result = train(SMALL, data, on_epoch=reports.append)
    assert result.status is TrainStatus.COMPLETED
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.measured["epoch"] for report in reports] == [1, 2, 3, 4, 5, 6]
    history, layer = result.history, result.layer
    assert list(history) == COLUMNS
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6] == list(SMALL.measured())
    assert layer is not None
    assert layer.H.shape == (8, 36)
    W, H, b = (np.asarray(x, np.float64) for x in (layer.W, layer.H, layer.b))
    labels = np.repeat(np.arange(3), 12)
    np.testing.assert_array_equal(layer.labels, labels)
    # NC1–NC3 from their definitions, in NumPy.
    means = np.stack([H[:, labels == k].mean(1) for k in range(3)], 1)
    centred = means - means.mean(1, keepdims=True)
    within = (H - means[:, labels]) @ (H - means[:, labels]).T / 36
    between = np.linalg.pinv(centred @ centred.T / 3, rcond=1e-10, hermitian=True)
    frame = (np.eye(3) - 1 / 3) / 2**0.5
    expected = {
        "nc1": np.trace(within @ between) / 3,
        "nc2": np.linalg.norm(W @ W.T / np.linalg.norm(W @ W.T) - frame),
        "nc3": np.linalg.norm(W @ centred / np.linalg.norm(W @ centred) - frame),
        "weight_norm": np.linalg.norm(W),
        "feature_norm": np.linalg.norm(H),
        "train_accuracy": np.mean(np.argmax(W @ H + b[:, None], 0) == labels),
    }
    for name, value in expected.items():
        assert history[name][-1] == pytest.approx(value, rel=1e-8), name
    z = W @ H + b[:, None]
    loss = np.mean(np.log(np.exp(z).sum(0)) - z[labels, np.arange(36)])
    assert history["train_loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_features_are_chunked_without_a_trace(data, monkeypatch):
    run = Run(SMALL, data)
    run.advance()
    whole = outputs(run.state, data.images)
    network, stats = run.state.network, run.state.stats
    features, _ = network.features(jax.numpy.asarray(data.images), stats, training=False)
    np.testing.assert_allclose(whole[0], features, atol=1e-6)
    monkeypatch.setattr("ufm.networks.measures.evaluation._CHUNK", 7)
    for array, expected in zip(outputs(run.state, data.images), whole, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-6)


def test_a_measure_of_the_caller_joins_the_history(data):
    def measure(layer):
        problem = layer.classifier().problem
        return {"dual": float(problem.lam_h), "rank": np.linalg.matrix_rank(layer.W)}

    result = train(msgspec.structs.replace(SMALL, loss="mse:1,15"), data, measure=measure)
    assert list(result.history) == [*COLUMNS, "dual", "rank"]
    sizes = result.history["weight_norm"] / result.history["feature_norm"]
    # λ_H = λ_W ‖W‖²/‖H‖², with λ_W = λ K/2 for the squared error.
    np.testing.assert_allclose(result.history["dual"], 5e-4 * 1.5 * sizes**2, rtol=1e-10)

    def fickle(layer):
        return {f"name {measured.pop()}": 0.0}

    measured = [3, 2, 1]
    with pytest.raises(ValueError, match="measure must return the same names every time"):
        train(SMALL, data, measure=fickle)


def test_measured_epochs_are_log_spaced_and_on_both_sides_of_each_fall_of_the_rate():
    def measured(epochs, measurements):
        return TrainConfig(epochs=epochs, measurements=measurements).measured()

    assert measured(100, 3) == (1, 10, 43, 44, 72, 73, 100)
    assert measured(1, 20) == (1,)
    assert measured(5, 20) == (1, 2, 3, 4, 5)
    for epochs in (2, 7, 300):
        assert {1, epochs} <= set(measured(epochs, 1))
        rates = [rate_at(0.1, epoch, epochs) for epoch in range(epochs)]
        for done in range(1, epochs):
            if rates[done] != rates[done - 1]:
                assert {done, done + 1} <= set(measured(epochs, 1))


def test_a_rate_at_an_end_of_those_tried_is_named():
    tried = (0.1, 0.03, 0.01)
    assert [edge(rate, tried) for rate in tried] == ["largest", "", "smallest"]
    assert edge(0.1, (0.1,)) == ""


# Compilation ---------------------------------------------------------------------------------


def test_numbers_are_traced_and_families_compile_once(data):
    base = msgspec.structs.replace(SMALL, loss="fl:3", epochs=1, measurements=1)
    run_epoch.clear_cache()  # of what other tests have compiled
    train(base, data)
    before = run_epoch._cache_size()
    for change in (
        {"loss": "fl:1"},
        {"learning_rate": 0.01, "momentum": 0.5, "weight_decay": 0.0},
        {"seed": 7},
        {"epochs": 3, "measurements": 2},
    ):
        assert train(msgspec.structs.replace(base, **change), data).epochs_done >= 1
    # Runs on fewer rows use the same program.
    run = Run(base, data, np.arange(20, dtype=np.int32))
    run.advance()
    assert run_epoch._cache_size() == before
    train(msgspec.structs.replace(base, loss="ls:0.1"), data)
    assert run_epoch._cache_size() == before + 1


def test_a_run_sees_its_rows_only(data):
    rows = np.arange(0, 36, 2, dtype=np.int32)
    spoiled = data.images.copy()
    spoiled[1::2] = np.nan
    run = Run(SMALL, dataclasses.replace(data, images=spoiled), rows)
    assert math.isfinite(run.advance())
    assert math.isfinite(Run(SMALL, data, rows).advance())
    assert not math.isfinite(Run(SMALL, dataclasses.replace(data, images=spoiled)).advance())


# Divergence ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """Digits of the size of photographs, whose gradients are as large."""
    data = load_data("digits", per_class=20)

    def enlarged(images):
        return images.repeat(5, axis=1).repeat(5, axis=2)

    return dataclasses.replace(
        data, images=enlarged(data.images), test_images=enlarged(data.test_images)
    )


PLAIN = TrainConfig(loss="mse:1,15", norm="none", width=128, depth=2, epochs=10, batch_size=20)


def test_squared_error_diverges_at_once_at_the_papers_rate(digits):
    reports = []
    result = train(PLAIN, digits, on_epoch=reports.append)
    assert PLAIN.learning_rate == 0.1
    assert result.status is TrainStatus.DIVERGED
    assert result.epochs_done == len(reports) == 1
    assert result.layer is None
    assert result.history == {}
    smaller = msgspec.structs.replace(PLAIN, learning_rate=0.005)
    assert train(smaller, digits).status is TrainStatus.COMPLETED


def test_a_loss_far_above_that_of_no_answer_is_divergence(data):
    run = Run(msgspec.structs.replace(SMALL, loss="mse:1,15"), data)
    # (1/K) 15², a mean over outputs.
    assert run.blown_up(75.0 * 1.001e4)
    assert not run.blown_up(75.0 * 0.999e4)
    assert run.blown_up(math.nan)
    assert run.blown_up(math.inf)


def test_a_network_whose_features_are_all_the_same_is_dead(data, monkeypatch):
    advance = Run.advance

    def dying(run):
        loss = advance(run)
        if run.epochs_done == 2:
            run.state = jax.tree.map(jax.numpy.zeros_like, run.state)
        return loss

    monkeypatch.setattr(Run, "advance", dying)
    result = train(SMALL, data, measure=lambda layer: {"lam_h": layer.classifier().problem.lam_h})
    assert (result.status, result.epochs_done) == (TrainStatus.DEAD, 2)
    assert result.layer is None
    assert result.history["epoch"].tolist() == [1]


def test_divergence_after_measurements_keeps_them(data, monkeypatch):
    losses = iter([1.0, 1.0, math.inf])
    advance = Run.advance

    def failing(run):
        advance(run)
        return next(losses)

    monkeypatch.setattr(Run, "advance", failing)
    result = train(SMALL, data)
    assert (result.status, result.epochs_done) == (TrainStatus.DIVERGED, 3)
    assert result.history["epoch"].tolist() == [1, 2]


# The learning rate ---------------------------------------------------------------------------


def test_the_rule_excludes_divergence_and_is_deterministic(digits):
    trials = []
    choice = choose_learning_rate(PLAIN, digits, (0.1, 0.005, 1e-6), on_trial=trials.append)
    assert choice is not None
    assert choice.learning_rate == 0.005
    assert choice.epochs == 10
    assert list(choice.trials) == trials
    assert [trial.diverged for trial in trials] == [True, False, False]
    assert trials[0].validation_accuracy is None
    accuracies = [trial.validation_accuracy for trial in trials[1:]]
    assert accuracies[0] > 0.5 > accuracies[1]
    assert choose_learning_rate(PLAIN, digits, (0.1, 0.005, 1e-6)) == choice
    assert choose_learning_rate(PLAIN, digits, should_stop=lambda: True) is None
    with pytest.raises(ValueError, match=r"diverges at every learning rate tried \(10, 5\)"):
        choose_learning_rate(PLAIN, digits, (10.0, 5.0))


def test_trials_never_see_what_validates_them(data, monkeypatch):
    seen = []

    class Watched(Run):
        def __init__(self, config, data, rows):
            seen.append(rows.tolist())
            super().__init__(config, data, rows)

    monkeypatch.setattr("ufm.networks.training.learning_rate.Run", Watched)
    fit, _ = validation_split(data, 0.2)
    assert choose_learning_rate(SMALL, data, (0.1, 0.01)) is not None
    assert seen == [fit.tolist()] * 2


def test_ties_within_a_standard_error_go_to_the_lower_training_loss():
    def trial(rate, accuracy, loss):
        return Trial(learning_rate=rate, validation_accuracy=accuracy, train_loss=loss)

    # √(0.9 · 0.1 / 100) = 0.03.
    near, far = trial(0.01, 0.871, 0.1), trial(0.001, 0.869, 0.01)
    assert select([trial(0.1, 0.9, 0.2), near, far], 100) == 0.01
    assert select([trial(0.1, 0.9, 0.2), far], 100) == 0.1
    # All right: one image is within the noise, two are not.
    assert select([trial(0.1, 1.0, 0.2), trial(0.03, 0.99, 0.1)], 100) == 0.03
    assert select([trial(0.1, 1.0, 0.2), trial(0.03, 0.98, 0.1)], 100) == 0.1
    assert select([trial(0.1, None, None), far], 100) == 0.001
    assert select([trial(0.1, None, None)], 100) is None
    # Equal in all: the smaller rate.
    assert select([trial(0.1, 0.9, 0.2), trial(0.03, 0.9, 0.2)], 100) == 0.03


def test_trials_are_short():
    assert [trial_epochs(epochs) for epochs in (3, 50, 150, 1000)] == [3, 10, 15, 20]


# Configurations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "vgg"}, "model must be one of mlp, resnet, got 'vgg'"),
        ({"norm": "layer"}, "norm must be one of batch, group, none, got 'layer'"),
        ({"width": 0.5}, "width must be a whole number of units for mlp, got 0.5"),
        ({"width": math.nan}, "width must be positive and finite, got nan"),
        ({"model": "resnet", "width": -1.0}, "width must be positive and finite, got -1.0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"measurements": 0}, "measurements must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"weight_decay": -1.0}, "weight_decay must be non-negative and finite, got -1.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"seed": -1}, r"seed must be in \[0, 2\^32\), got -1"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
    ],
)
def test_what_is_no_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def test_defaults_are_filled_in(data):
    config = TrainConfig(model="resnet", loss="mse:1,15")
    assert config.architecture == ("resnet", 1.0, 1, "group")
    assert config.loss == "mse:1.0,15.0"
    assert TrainConfig(width=64).architecture == ("mlp", 64.0, 3, "batch")
    assert TrainConfig(width=64) == TrainConfig(width=64.0, depth=3, loss=" CE")
    with pytest.raises(ValueError, match="batch_size = 37 is more than the 36 training images"):
        train(TrainConfig(batch_size=37), data)
