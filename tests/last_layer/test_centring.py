"""Layers with centred features: the same logits, in which problem, and what they are there."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from dossiers import verify
from points import gaussian, make, origin
from scipy.special import logsumexp

from ufm import CrossEntropy, Params, Verdict, as_classifier, examine
from ufm.cli import main
from ufm.last_layer.centring import centred, centred_layer

K, DIM, N_K = 3, 4, 2
N = K * N_K
LABELS = np.repeat(np.arange(K), N_K)
LAM_W, LAM_H = 2e-2, 5e-3


def relu_head(lam_h=LAM_H) -> tuple[np.ndarray, np.ndarray, float]:
    """Collapsed, non-negative and optimal once centred, and the f* of theory.

    H = a E ⊗ 1ᵀ with E orthonormal, W = s P Eᵀ with P = I − 11ᵀ/K: logits ρP, ρ = s a, where
    r = √(n λ_W λ_H), e^ρ = (1 − (K−1) r)/r, λ_W s² = n λ_H a².
    """
    r = np.sqrt(N_K * LAM_W * lam_h)
    rho = np.log((1 - (K - 1) * r) / r)
    s = np.sqrt(rho * np.sqrt(N_K * lam_h / LAM_W))
    P, E = np.eye(K) - 1 / K, np.eye(DIM)[:, :K]
    star = logsumexp(rho * P[0]) - rho * P[0, 0] + (K - 1) * r * rho
    return s * P @ E.T, np.repeat(rho / s * E, N_K, axis=1), float(star)


def layer_of(W, H, b, lam_b, lam_h=LAM_H):
    return as_classifier(
        W, H, LABELS, loss="ce", lam_w=LAM_W, lam_h=lam_h, b=b, lam_b=lam_b, features="columns"
    )


def plain_value(W, H, b, lam_h, lam_b) -> float:
    V = W @ H + b[:, None]
    fit = np.mean(logsumexp(V, axis=0) - V[LABELS, np.arange(N)])
    return fit + 0.5 * (LAM_W * np.sum(W**2) + lam_h * np.sum(H**2) + lam_b * np.sum(b**2))


@pytest.mark.parametrize("lam_b", [None, 0.0, 2e-2])
@pytest.mark.parametrize("lam_h", [None, LAM_H])
def test_a_collapsed_relu_head_is_a_minimum_once_centred(lam_h, lam_b):
    W, H, star = relu_head()
    assert H.min() >= 0
    found = examine(layer_of(W, H, None if lam_b is None else np.zeros(K), lam_b, lam_h))
    assert found.certificate.verdict is Verdict.NOT_CRITICAL
    other = found.centred
    assert other is not None
    assert other.certificate.verdict is Verdict.GLOBAL_MINIMUM
    problem = other.layer.problem
    # λ_H of a critical point comes out, given or inferred; as given it is 2/3 of that.
    assert float(problem.lam_h) == pytest.approx(LAM_H, rel=1e-12)
    assert problem.lam_b == 0.0
    assert float(other.certificate.value) == pytest.approx(star, rel=1e-12)
    assert float(other.certificate.gap) < 1e-9
    assert other.nearest is not None
    assert float(other.nearest.relative) < 1e-9
    assert other.metrics is found.metrics
    assert other.centred is None


def test_the_centred_layer_is_the_same_classifier_in_the_problem_it_names():
    rng = np.random.default_rng(1)
    W, H, b = rng.normal(size=(K, DIM)), rng.random((DIM, N)), rng.normal(size=K)
    mean = H.mean(axis=1)
    for lam_b, lam_h in ((2e-2, LAM_H), (0.0, LAM_H), (2e-2, None)):
        layer = layer_of(W, H, b, lam_b, lam_h)
        moved = centred_layer(layer)
        assert moved is not None
        Wc, Hc, bc = (np.asarray(x) for x in (moved.params.W, moved.params.H, moved.params.b))
        np.testing.assert_allclose(Wc @ Hc + bc[:, None], W @ H + b[:, None], rtol=1e-13)
        np.testing.assert_allclose(Hc.sum(axis=1), 0, atol=1e-14)
        assert moved.problem.lam_b == 0
        assert moved.problem.lam_w == LAM_W
        expected = LAM_W * np.sum(W**2) / np.sum(Hc**2) if lam_h is None else lam_h
        assert float(moved.problem.lam_h) == pytest.approx(expected, rel=1e-13)
        share = 100 * N * np.sum(mean**2) / np.sum(H**2)
        assert f"the mean of the features, {share:.3g} % of |H|^2" in moved.notes[0]
        own = lam_b == 0 and lam_h is not None
        assert ("of the problem with a free bias (lam_b = 0)" in moved.notes[0]) != own
        if own:  # by exactly the penalty on the mean
            lower = 0.5 * LAM_H * N * np.sum(mean**2)
            assert f"of the layer's own problem, where f is lower by {lower:.3g}" in moved.notes[0]
            values = [plain_value(W, x, y, LAM_H, 0.0) for x, y in ((H, b), (Hc, bc))]
            assert values[0] - values[1] == pytest.approx(lower, rel=1e-12)
        # The decay that was inferred for the layer as given is no more said of this one.
        inferred = [note for note in moved.notes if "is inferred" in note]
        assert inferred == ([] if lam_h else [f"lam_h = {expected:.6g} is inferred as lam_w "
        "|W|^2 / |H|^2: the verdict concerns the problem with this decay (`lam_h`)"])  # fmt: skip


def test_nothing_is_centred_where_there_is_no_mean_or_nothing_else():
    problem = make(CrossEntropy(), lam_b=1e-2)
    point = gaussian(problem, 0, 1.0)
    again = centred(point)
    for H in (again.H, jnp.ones_like(point.H), origin(problem).H):
        layer = layer_of(point.W, H, point.b, 1e-2)
        assert centred_layer(layer) is None
    assert examine(layer_of(point.W, again.H, point.b, 1e-2)).centred is None
    # A mean that rounding would hide is left alone; the next larger one is not.
    for shift, kept in ((1e-9, True), (1e-7, False)):
        layer = layer_of(point.W, again.H + shift, point.b, 1e-2)
        assert (centred_layer(layer) is None) == kept


def test_without_a_bias_the_mean_makes_one():
    problem = make(CrossEntropy())
    point = gaussian(problem, 0, 1.0)
    moved = centred(point)
    assert moved.b is not None
    np.testing.assert_allclose(moved.b, np.asarray(point.W) @ np.asarray(point.H).mean(axis=1))
    layer = centred_layer(layer_of(point.W, point.H, None, None))
    assert layer is not None
    assert "moved into the bias, which the layer does not have" in layer.notes[0]
    assert isinstance(layer.params, Params)


def test_the_command_says_both_and_writes_a_certificate_of_either(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    W, H, star = relu_head()
    np.savez(
        "head.npz", W=W.T, H=H.T, b=np.zeros(K), labels=LABELS, loss="ce", lam_w=LAM_W, lam_b=LAM_W
    )
    assert main(["certify", "head.npz"]) == 0
    first, second = capsys.readouterr().out.split("The same layer with centred features\n")
    assert "verdict  NOT_CRITICAL" in first
    assert second.startswith("CE, K=3, d=4, n=2, λ_W=0.02, λ_H=0.005, λ_b=0\n")
    assert "33.3 % of |H|^2, is moved into the bias" in second
    assert "verdict  GLOBAL_MINIMUM" in second
    assert f"{star:.10g}" in second
    assert (
        "The certificate is of the layer as given; --centred writes that of the centred layer."
        in second
    )

    assert main(["certify", "head.npz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["claims"]["verdict"] == "NOT_CRITICAL"
    assert told["centred"]["claims"]["verdict"] == "GLOBAL_MINIMUM"
    assert told["centred"]["problem"]["lam_b"] == 0

    assert main(["certify", "head.npz", "--centred", "--json", "--out", "proof"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["centred"] is None
    # NC metrics are those of the centred features here, which are the same but for rounding.
    for name, claim in told["centred"]["claims"].items():
        near = pytest.approx(claim, rel=1e-12, abs=1e-15) if isinstance(claim, float) else claim
        assert alone["claims"][name] == near, name
    assert alone["notes"][0].startswith("the mean of the features, 33.3 % of |H|^2")
    for code, said in verify(tmp_path / "head.certificate", tmp_path / "proof"):
        assert code == 0, said

    np.savez("none.npz", W=W, H=np.ones((N, DIM)), labels=LABELS, loss="ce", lam_w=LAM_W)
    with pytest.raises(SystemExit) as stop:
        main(["certify", "none.npz", "--centred"])
    assert stop.value.code == 2
    assert "there is nothing to centre, leave --centred out" in capsys.readouterr().err
