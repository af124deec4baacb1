"""Layers in sets: f of raw arrays by NumPy, minima by their closed forms, and one-line refusals."""

import functools
import re

import jax
import numpy as np
import pytest
from commands import complaint
from stored_layers import LABELS, ROWS, B, W, penalty, sample_losses

import ufm
from ufm import cli

#: Weights of the samples, of mean 1.
WEIGHTS = np.array([0.5, 1.0, 1.5, 0.8, 1.2, 1.0])
RELU = np.maximum(ROWS, 0.0)
COSINE = {"features": "rows,sphere:2", "classifier": "sphere"}
TAU, K = 0.3, 3


def layer_of(H=RELU, b=B, **options):
    lam_b = None if b is None else 1e-2
    return ufm.as_classifier(W, H, LABELS, loss="ce", b=b, lam_b=lam_b, **options)


def on_sphere(rows: np.ndarray, radius: float = 1.0) -> np.ndarray:
    return radius * rows / np.linalg.norm(rows, axis=1, keepdims=True)


def value(layer) -> float:
    return float(ufm.objective(layer.problem, layer.params))


def test_features_after_a_relu_keep_their_objective_and_infer_their_decay():
    layer = layer_of(lam_w=2e-2, features="nonnegative")
    lam_h = 2e-2 * np.sum(W**2) / np.sum(RELU**2)
    expected = np.mean(sample_losses(H=RELU)) + penalty(H=RELU)
    expected += 0.5 * (lam_h - 5e-3) * np.sum(RELU**2)
    assert value(layer) == pytest.approx(expected, rel=1e-14)
    assert layer.lam_h_inferred
    assert isinstance(layer.problem.features, ufm.NonNegative)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_cosine_head_divides_raw_vectors_by_their_norms(weights):
    layer = layer_of(H=ROWS, temperature=TAU, sample_weights=weights, **COSINE)
    V = on_sphere(ROWS, 2.0) @ on_sphere(W).T / TAU + B / TAU
    losses = np.logaddexp.reduce(V, axis=1) - V[np.arange(6), LABELS]
    expected = np.average(losses, weights=weights) + 0.5e-2 * np.sum(B**2)
    assert value(layer) == pytest.approx(expected, rel=1e-13)
    sizes = [np.linalg.norm(x, axis=1) for x in (W, ROWS)]
    said = [f"had norms of {x.min():.6g} to {x.max():.6g}, " for x in sizes]
    moved = [note for note in layer.notes if "is projected on" in note]
    assert [text in note for text, note in zip(said, moved, strict=True)] == [True, True]


def test_a_decayed_classifier_keeps_its_decay_beside_features_on_a_sphere():
    layer = layer_of(H=ROWS, b=None, lam_w=2e-2, temperature=TAU, features="sphere")
    V = on_sphere(ROWS) @ W.T / TAU
    losses = np.logaddexp.reduce(V, axis=1) - V[np.arange(6), LABELS]
    assert value(layer) == pytest.approx(np.mean(losses) + 1e-2 * np.sum(W**2), rel=1e-13)
    assert not layer.lam_h_inferred


@functools.cache
def trained(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """W and features as rows at a minimum, with other norms where they do not count."""
    sets = {"features": ufm.NonNegative(), "lam_w": 2e-2, "lam_h": 5e-3}
    if kind == "cosine":
        sets = {"classifier": ufm.Sphere(), "features": ufm.Sphere(2.0), "temperature": TAU}
        sets |= {"lam_w": None, "lam_h": None}
    problem = ufm.Problem(
        loss=ufm.CrossEntropy(), class_counts=(2, 2, 2), dim=4, lam_b=None, **sets
    )
    end = ufm.solve(problem, ufm.init_params(problem, jax.random.key(0))).params
    rng, W, H = np.random.default_rng(0), np.array(end.W), np.array(end.H).T
    if kind == "cosine":
        return W * rng.uniform(0.1, 9.0, (3, 1)), H * rng.uniform(0.1, 9.0, (6, 1))
    return W, H


def least(kind: str) -> float:
    """f* of balanced classes: on spheres the largest margin, else min φ(s) + μ√n √(K(K−1)) s."""
    if kind == "cosine":
        return float(np.log1p((K - 1) * np.exp(-K / (K - 1) * 2.0 / TAU)))
    s = np.linspace(0.0, 20.0, 2_000_001)
    price = (2e-2 * 5e-3) ** 0.5 * 2**0.5 * (K * (K - 1)) ** 0.5
    return float(np.min(np.log1p((K - 1) * np.exp(-s)) + price * s))


OPTIONS = {
    "relu": {"features": "nonnegative", "lam_w": 2e-2},
    "cosine": COSINE | {"temperature": TAU},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_layer_at_the_minimum_of_its_sets_is_certified(kind):
    W, H = trained(kind)
    layer = ufm.as_classifier(W, H, np.repeat(np.arange(3), 2), loss="ce", **OPTIONS[kind])
    found = ufm.examine(layer)
    assert found.certificate.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(found.certificate.value) == pytest.approx(least(kind), abs=1e-11)
    assert float(found.certificate.lower_bound) <= least(kind) + 1e-14
    assert found.match is not None
    assert found.match.matches
    assert found.centred is None
    if kind == "cosine":
        assert found.frames is None
        return
    means = H.reshape(3, 2, 4).mean(axis=1)
    cosines = on_sphere(means) @ on_sphere(means).T
    assert found.frames is not None
    assert found.frames.cosine_max == pytest.approx(np.max(np.triu(cosines, 1)), abs=1e-12)
    # The plain model has a lower minimum, and does not certify the layer.
    plain = ufm.examine(ufm.as_classifier(W, H, np.repeat(np.arange(3), 2), loss="ce", lam_w=2e-2))
    assert plain.certificate.verdict is not ufm.Verdict.GLOBAL_MINIMUM


REFUSED = {
    "negative features": ({"H": ROWS, "lam_w": 1e-2, "features": "nonnegative"}, "entries below 0"),
    "no direction": ({"H": 0 * ROWS, "b": None} | COSINE, "H has 6 vectors of norm 0"),
    "a decay of a sphere": ({"lam_w": 1e-2} | COSINE, "lam_w must be None with classifier=Sphere"),
    "no decay": ({"features": "nonnegative"}, "lam_w must be a number, got None"),
    "a decay that no identity gives": ({"classifier": "sphere"}, "lam_h must be a number, got"),
    "two layouts": ({"features": "rows,columns"}, "`features` must be 'rows' or 'columns', a set"),
    "another word": ({"classifier": "etf"}, "`classifier` must be 'rows' or 'columns', a set"),
    "rows after a ReLU": ({"classifier": "nonnegative"}, "is for the features, not for the"),
    "no radius": ({"features": "ball", "lam_w": 1e-2}, "ball needs a number, as in ball:RADIUS"),
    "both": (
        {"features": "nonnegative", "classifier": "sphere", "lam_h": 1e-2},
        "no variant of the model has classifier=Sphere together with features=NonNegative",
    ),
    "blocks": (
        {"lam_w": 1e-2, "features": "nonnegative", "in_memory": False},
        "a layer in sets (NonNegative()) is certified in memory only",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(name):
    options, message = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ufm.examine(layer_of(**options))
    assert "\n" not in str(error.value)


def test_the_command_reads_sets_and_says_what_it_did(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    W, H = trained("cosine")
    labels = np.repeat(np.arange(3), 2)
    np.savez("layer.npz", W=W, H=H.T, labels=labels, loss="ce", lam_w=5e-4)
    flags = ["--features", "columns,sphere:2", "--classifier", "sphere", "--temperature", "0.3"]
    assert cli.main(["certify", "layer.npz", *flags]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "lam_w of the file is not used: a confined norm has none" in printed
    assert "H is projected on Sphere(radius=2): its vectors had norms of" in printed
    assert "verdict GLOBAL_MINIMUM" in printed
    assert "logits off by this from simplex ETF" in printed
    told = complaint(capsys, "certify", "layer.npz", *flags, "--centred")
    assert "centred features leave the set" in told
    told = complaint(capsys, "certify", "layer.npz", *flags, "--lam-w", "1")
    assert "lam_w must be None with classifier=Sphere" in told
    assert "--features must be" in complaint(capsys, "certify", "layer.npz", "--features", "relu")


def test_a_minimum_on_norm_sets_that_takes_minutes_is_left_out_with_a_reason():
    problem = ufm.Problem(
        loss=ufm.CrossEntropy(), class_counts=(2, *[1] * 199), dim=300, lam_w=None, lam_h=None,
        lam_b=None, classifier=ufm.Sphere(), features=ufm.Sphere(),
    )  # fmt: skip
    found = ufm.global_minimum(problem)
    assert not found.is_exact
    assert found.reason == "not computed: 200 classes in 300 dimensions would take minutes"


def test_the_command_prints_the_polar_and_the_cosines_of_features_after_a_relu(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    W, H = trained("relu")
    np.savez("relu.npz", W=W, H=H, labels=np.repeat(np.arange(3), 2), loss="ce", lam_w=2e-2)
    assert cli.main(["certify", "relu.npz", "--features", "nonnegative"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert float(told["polar/mu"][1]) == pytest.approx(1.0, abs=1e-6)
    assert float(told["cosines"][1]) == pytest.approx(0.0, abs=1e-9)
    assert told["verdict"][1] == "GLOBAL_MINIMUM"
    assert "orthogonal frame" in " ".join(told["geometry"])
    assert told["Certificate:"][1] == "relu.certificate"
