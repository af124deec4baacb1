"""Soft labels of trained layers: f* by a convex solver, f row by row, and nothing rounded."""

import functools
import warnings

import jax
import numpy as np
import pytest

import ufm
from ufm import cli
from ufm.last_layer import examine as examination

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp

#: K = 3, d = 4; 11 different rows for 12 samples.
RNG = np.random.default_rng(5)
N, K, DIM = 12, 3, 4
DISTRIBUTIONS = np.vstack([RNG.dirichlet(np.ones(K), N - 1), np.zeros((1, K))])
DISTRIBUTIONS[-1] = DISTRIBUTIONS[0]
ROWS = {
    "ce": DISTRIBUTIONS,
    "ls:0.2": DISTRIBUTIONS,
    "bce": RNG.uniform(size=(N, K)),
    "mse": RNG.normal(size=(N, K)),
}
DECAYS = {"lam_w": 2e-2, "lam_h": 3e-3, "lam_b": 1e-2}


def data_loss(spec: str, V: np.ndarray, rows: np.ndarray) -> float:
    """The mean of the loss over the rows of logits V (N, K), from its formula."""
    if spec == "mse":
        return 0.5 * float(np.sum((V - rows) ** 2)) / len(V)
    if spec == "bce":
        terms = rows * np.logaddexp(0, -V) + (1 - rows) * np.logaddexp(0, V)
        return float(np.sum(terms)) / len(V)
    if spec == "ls:0.2":
        rows = 0.8 * rows + 0.2 / V.shape[1]
    log_p = V - np.logaddexp.reduce(V, axis=1)[:, None]
    return -float(np.sum(rows * log_p)) / len(V)


def full(spec, rows, W, H, b) -> float:
    decay = DECAYS["lam_w"] * np.sum(W**2) + DECAYS["lam_h"] * np.sum(H**2)
    return data_loss(spec, H @ W.T + b, rows) + 0.5 * (decay + DECAYS["lam_b"] * np.sum(b**2))


def convex_minimum(spec: str, rows: np.ndarray) -> float:
    """min over V, b of the loss + μ‖V‖_* + λ_b/2 ‖b‖²."""
    Z, b = cp.Variable((N, K)), cp.Variable((1, K))
    V = Z + np.ones((N, 1)) @ b
    if spec == "mse":
        loss = 0.5 * cp.sum_squares(V - rows)
    elif spec == "bce":
        loss = cp.sum(cp.multiply(rows, cp.logistic(-V)) + cp.multiply(1 - rows, cp.logistic(V)))
    else:
        target = rows if spec == "ce" else 0.8 * rows + 0.2 / K
        loss = cp.sum(cp.log_sum_exp(V, axis=1)) - cp.sum(cp.multiply(target, V))
    mu = (DECAYS["lam_w"] * DECAYS["lam_h"]) ** 0.5
    penalty = mu * cp.norm(Z, "nuc") + 0.5 * DECAYS["lam_b"] * cp.sum_squares(b)
    problem = cp.Problem(cp.Minimize(loss / N + penalty))
    return float(problem.solve(solver=cp.CLARABEL))


@functools.cache
def trained(spec: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, features as rows and b at a minimum, of samples in the order of the rows."""
    problem = ufm.Problem(
        loss=ufm.parse_loss(spec), targets=ROWS[spec], class_counts=(1,) * N, dim=DIM, **DECAYS
    )
    end = ufm.solve(problem, ufm.init_params(problem, jax.random.key(0))).params
    assert end.b is not None
    return np.array(end.W), np.array(end.H).T, np.array(end.b)


def layer_of(spec="ce", labels=None, **options):
    W, H, b = trained(spec)
    labels = ROWS[spec] if labels is None else labels
    return ufm.as_classifier(W, H, labels, loss=spec, b=b, **DECAYS | options)


@pytest.mark.parametrize("spec", ROWS)
def test_a_trained_layer_is_certified_and_bounded_by_the_convex_minimum(spec):
    W, H, b = trained(spec)
    found = ufm.examine(layer_of(spec))
    certificate, lowest = found.certificate, convex_minimum(spec, ROWS[spec])
    assert certificate.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(certificate.value) == pytest.approx(full(spec, ROWS[spec], W, H, b), rel=1e-13)
    assert float(certificate.lower_bound) <= lowest + 1e-7
    assert float(certificate.value) == pytest.approx(lowest, abs=1e-6)
    assert found.layer.problem.num_classes == len(np.unique(ROWS[spec], axis=0))
    assert found.targets is not None
    assert float(found.targets.nrc2) < 1e-10  # Hᵀ = −GᵀW/λ_H lies in the row space of W


@pytest.mark.parametrize("spec", ROWS)
def test_no_bound_is_above_a_value(spec):
    """At points of all sizes, from near the minimum to far off: f ≥ the bound of any of them."""
    rng, (W, H, b) = np.random.default_rng(2), trained(spec)
    values, bounds = [], []
    problem, order = layer_of(spec).problem, layer_of(spec).order
    for i in range(400):
        size = 10.0 ** rng.uniform(-6, 1)
        point = [x + size * rng.normal(size=x.shape) for x in (W, H, b)]
        values.append(full(spec, ROWS[spec], *point))
        if i % 20 == 0:
            params = ufm.Params(*map(jax.numpy.asarray, (point[0], point[1][order].T, point[2])))
            found = ufm.certify(problem, params)
            bounds.append(float(found.lower_bound))
            assert float(found.value) == pytest.approx(values[-1], rel=1e-12)
    assert max(bounds) <= min(values)
    assert max(bounds) > min(values) - 1e-4  # near the minimum it is tight


def test_rows_that_are_nearly_one_hot_are_not_rounded():
    rows = (1.0 - 1.5e-4) * np.eye(K)[np.arange(N) % K] + 0.5e-4
    W, H, b = trained("ce")
    layer = layer_of("ce", rows)
    value = float(ufm.objective(layer.problem, layer.params))
    assert value == pytest.approx(full("ce", rows, W, H, b), rel=1e-14)
    assert abs(value - full("ce", np.round(rows), W, H, b)) > 1e-6
    said = "(3 different rows, 12 of them nearly one-hot and not rounded) (`soft_labels`)"
    assert any(said in note for note in layer.notes)
    exact = layer_of("ce", np.eye(K)[np.arange(N) % K])
    assert not exact.problem.has_targets


def test_argmax_takes_the_class_of_the_largest_entry_and_says_that_it_is_another_problem():
    layer = layer_of("ce", soft_labels="argmax")
    W, H, b = trained("ce")
    hard = np.eye(K)[np.argmax(DISTRIBUTIONS, axis=1)]
    value = float(ufm.objective(layer.problem, layer.params))
    assert value == pytest.approx(full("ce", hard, W, H, b), rel=1e-14)
    assert any("another problem" in note for note in layer.notes)
    with pytest.raises(ValueError, match=r"no single largest entry in row 0"):
        layer_of("ce", np.full((N, K), 1 / K), soft_labels="argmax")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.full((N, 2), 0.5)}, r"soft labels must be N x K.*W has 3 classes"),
        ({"labels": DISTRIBUTIONS - 0.5}, r"labels must be distributions.*row 0"),
        ({"labels": np.full((N, K), np.nan)}, "labels must be finite: row 0"),
        ({"loss": "fl:2"}, "one-hot targets only"),
        ({"class_weights": np.ones(K)}, "class_weights of soft labels are not supported"),
        ({"sample_weights": np.ones(N)}, "sample_weights of soft labels are not supported"),
        ({"in_memory": False}, "soft labels are certified in memory only"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        layer_of(**{"labels": DISTRIBUTIONS} | options) if "loss" not in options else (
            ufm.as_classifier(*trained("ce")[:2], DISTRIBUTIONS, loss="fl:2", lam_w=1e-2)
        )
    assert "\n" not in str(error.value)


def test_the_minimum_of_very_many_rows_is_not_computed(monkeypatch):
    monkeypatch.setattr(examination, "_MOST_TARGETS", 10)
    stages: list[str] = []
    found = ufm.examine(layer_of("ce"), on_stage=stages.append)
    first = ["metrics", *(f"{x}, centred features" for x in ("global minimum", "certificate"))]
    assert stages[:3] == first
    assert stages[-3:] == ["global minimum", "certificate", "nearest minimiser"]
    assert found.certificate.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert not found.minimum.is_exact
    assert found.nearest is None
    assert "11 different targets" in found.minimum.reason


def test_the_command_prints_how_they_were_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    W, H, b = trained("ce")
    np.savez("layer.npz", W=W, H=H, b=b, labels=DISTRIBUTIONS, loss="ce", **DECAYS)
    assert cli.main(["certify", "layer.npz"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "labels of shape (12, 3) are soft" in printed
    assert "(11 different rows) (--soft-labels)" in printed
    assert "GLOBAL_MINIMUM" in printed
    assert "NRC2" in printed
    assert "NC1" not in printed
    assert "Check: python layer.certificate/verify.py" in printed
    with pytest.raises(SystemExit):
        cli.main(["measure", "layer.npz"])
    assert "--soft-labels argmax" in capsys.readouterr().err
    assert cli.main(["measure", "layer.npz", "--soft-labels", "argmax"]) == 0
