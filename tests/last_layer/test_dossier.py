"""Written certificates: verify.py, alone in another interpreter, says yes to true ones only."""

import ast
import dataclasses
import json
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from dossiers import SCRIPT, examination, failed, minimiser, verify, write_three
from model_oracle import columns, dense_hessian, objective_and_gradient
from points import BALANCED, SKEWED, cast, gaussian, make, origin

from ufm import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Verdict,
    as_classifier,
    examine,
    solve,
    write_dossier,
)
from ufm.last_layer.dossier import check_target
from ufm.losses import ClassWeighted


def stopped(problem: Problem) -> Params:
    return solve(problem, gaussian(problem, 0, 1.0)).params


LOSSES = (CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE(5.0, 3.0), BinaryCrossEntropy())


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_true_certificates_pass(loss, lam_b, tmp_path):
    problem = make(loss, lam_b=lam_b)
    star = minimiser(problem)
    points = {Verdict.GLOBAL_MINIMUM: star, Verdict.NOT_CRITICAL: gaussian(problem, 1, 1.0)}
    # The bias of other losses moves from the origin.
    if lam_b is None or not isinstance(loss, MSE | BinaryCrossEntropy):
        points[Verdict.STRICT_SADDLE] = origin(problem)
    for verdict, params in points.items():
        found = examination(problem, params, lam_h=problem.lam_h)
        assert found.certificate.verdict is verdict
        write_dossier(found, tmp_path / verdict.name)
    for code, said in verify(*tmp_path.iterdir()):
        assert (code, "0 failed, 0 not checkable" in said) == (0, True), said


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])
@pytest.mark.parametrize("loss", LOSSES[::-1], ids=lambda loss: loss.name)
def test_true_certificates_with_class_weights_pass(loss, lam_b, tmp_path):
    plain = make(loss, SKEWED, lam_b=lam_b)
    weights = np.array([0.5, 1.0, 4.0])
    problem = dataclasses.replace(plain, loss=ClassWeighted(loss, weights))
    points = {"stopped": stopped(problem), "anywhere": gaussian(problem, 1, 1.0)}
    for name, params in points.items():
        found = examination(problem, params, lam_h=problem.lam_h)
        said = write_dossier(found, tmp_path / name)
        assert said["problem"]["class_weights"] == weights.tolist()
        rng = np.random.default_rng(3)
        step = rng.normal(size=(3, 4)), rng.normal(size=(4, 7))
        value, gradient, bend = _weighted(plain, found.layer.params, weights[problem.labels], *step)
        point = SCRIPT.read(tmp_path / name).point
        curved, noise = SCRIPT.curvature(SCRIPT.read(tmp_path / name).problem, point, *step)
        assert abs(curved - bend) < noise < 1e-10
        assert point.value == pytest.approx(value, rel=1e-13)
        assert point.grad_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9, abs=1e-13)
        if name == "stopped" and not isinstance(loss, Focal):
            assert said["claims"]["verdict"] == "GLOBAL_MINIMUM"
    for code, said in verify(*tmp_path.iterdir()):
        assert (code, "0 failed" in said) == (0, True), said


def test_the_bias_of_a_light_class_is_within_the_range_that_the_script_allows(tmp_path):
    """At W = H = 0 softmax(b) is the share of each class; beyond μ = G's norm that is optimal."""
    weights = np.array([1e-6, 1.0, 1.0])
    problem = make(ClassWeighted(CrossEntropy(), weights), SKEWED, 0.0, mu=0.6)
    shares = weights * np.array(SKEWED)
    b = np.log(shares / shares.sum())
    write_dossier(examination(problem, origin(problem, b), lam_h=problem.lam_h), tmp_path / "x")
    assert not failed(tmp_path / "x")
    case = SCRIPT.read(tmp_path / "x")
    assert case.claims["verdict"] == "GLOBAL_MINIMUM"
    assert SCRIPT.bias_range(case.problem, case.point.dual) >= b.max() - b.min()


def test_a_bias_of_single_outputs_is_within_the_range_that_the_script_allows(tmp_path):
    """At W = H = 0 the sigmoid of b is the share of each class."""
    problem = make(BinaryCrossEntropy(), (1, 7, 1), 0.0, mu=0.6)
    shares = np.array([1.0, 7.0, 1.0]) / 9.0
    b = np.log(shares / (1.0 - shares))
    write_dossier(examination(problem, origin(problem, b), lam_h=problem.lam_h), tmp_path / "x")
    assert not failed(tmp_path / "x")
    case = SCRIPT.read(tmp_path / "x")
    assert case.claims["verdict"] == "GLOBAL_MINIMUM"
    assert SCRIPT.bias_range(case.problem, case.point.dual) >= 2.0 * np.abs(b).max()


def test_clipping_is_charged_to_the_bias(tmp_path):
    """The term is θ²‖r‖² / (2 λ_b), whose sums r clipping moves by as much as `spill`."""
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    params = gaussian(problem, 1, 1.0)
    write_dossier(examination(problem, params, lam_h=problem.lam_h), tmp_path / "x")
    case = SCRIPT.read(tmp_path / "x")
    theta, spill = 0.7, 1e-3
    most, rounding, _ = SCRIPT.bias_gain(case.problem, case.point.dual, theta, None, False, spill)
    of_bias = objective_and_gradient(problem, params)[1][-problem.num_outputs :]
    sums = np.abs(of_bias - 1e-2 * np.asarray(params.b))
    exact, moved = (theta**2 * np.sum(r**2) / (2 * 1e-2) for r in (sums, sums + spill))
    assert most == pytest.approx(moved, rel=1e-9)
    assert rounding == pytest.approx(moved - exact, rel=1e-6)


def _weighted(plain: Problem, params: Params, weights, dW, dH) -> tuple[float, np.ndarray, float]:
    """f, ∇f and the curvature along (dW, dH), the loss of column i times weights[i]: 50 digits."""
    W, H = np.asarray(params.W), np.asarray(params.H)
    value, gradient = objective_and_gradient(plain, params)
    of_w, of_h = np.zeros_like(W), np.zeros_like(H)
    of_b = np.zeros(len(W))
    bend = float(plain.lam_w) * np.sum(dW**2) + float(plain.lam_h) * np.sum(dH**2)
    for i, (omega, _, exact) in enumerate(columns(plain, params)):
        more = omega * (weights[i] - 1.0)
        g = more * exact.gradient.astype(float)
        value += more * float(exact.value)
        q, full = dW @ H[:, i] + W @ dH[:, i], omega * weights[i]
        bend += full * (q @ exact.hessian.astype(float) @ q)
        bend += 2 * full * (exact.gradient.astype(float) @ dW @ dH[:, i])
        of_w, of_b, of_h[:, i] = of_w + np.outer(g, H[:, i]), of_b + g, W.T @ g
    parts = [of_w.ravel(), of_h.ravel()] + ([] if params.b is None else [of_b])
    return value, gradient + np.concatenate(parts), bend


#: Losses as far from ordinary as the library accepts them.
ODD_LOSSES = (
    CrossEntropy(),
    LabelSmoothing(1 - 1e-8),
    Focal(0.0),
    Focal(20.0),
    MSE(1e6, 1e-6),
    MSE(1e-100, 1.0),
    MSE(1.0, 1e-200),
    BinaryCrossEntropy(),
)


def odd_points(problem: Problem) -> dict[str, Params]:
    """Points at which something underflows, overflows, vanishes, or is lost in rounding."""
    frame = np.eye(3, 4)
    features = frame.T[:, problem.labels]
    points = {
        "every sample that confident": (20.0 * frame, 20.0 * features),
        "no loss is left at all": (100.0 * frame, 100.0 * features),
        "W alone": (frame, 0.0 * features),
        "lopsided": (1e100 * frame, 1e-100 * features),
        "features far from 0": (frame, features + 1e6),
        "class means on a line": (frame, np.ones((4, 1)) * problem.labels.astype(float)),
    }
    bias = None if problem.lam_b is None else jnp.zeros(3)
    return {
        "origin": origin(problem),
        "squares underflow": gaussian(problem, 1, 1e-200),
        "logits of 1e16": gaussian(problem, 1, 1e8),
        **{name: Params(jnp.asarray(W), jnp.asarray(H), bias) for name, (W, H) in points.items()},
    }


@pytest.mark.repeats
@pytest.mark.parametrize(("lam_b", "mu"), [(None, 1e-2), (0.0, 0.4), (1e-2, 1e-30)])
@pytest.mark.parametrize("loss", ODD_LOSSES, ids=lambda loss: loss.label())
def test_true_certificates_of_extreme_points_pass(loss, lam_b, mu, tmp_path):
    problem = make(loss, lam_b=lam_b, mu=mu)
    for name, params in odd_points(problem).items():
        write_dossier(examination(problem, params, lam_h=problem.lam_h), tmp_path / name)
        assert not failed(tmp_path / name), name


def test_what_a_certificate_cannot_hold_is_refused_in_one_line(tmp_path):
    problem = make(CrossEntropy())
    for scale, decay, remedy in ((1e100, 1e-2, "rescale"), (1.0, 1e-160, "lam_h is 1e-160")):
        tiny = dataclasses.replace(problem, lam_h=decay)
        found = examination(tiny, gaussian(problem, 1, scale), lam_h=decay)
        with pytest.raises(ValueError, match=remedy) as refusal:
            write_dossier(found, tmp_path / "proof")
        assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_float32_layers_are_taken_to_float64_exactly_or_refused(tmp_path):
    problem = make(CrossEntropy())
    params = gaussian(problem, 1, 1.0)
    narrow = cast(params, jnp.float32)
    found = examination(problem, narrow, lam_h=problem.lam_h)
    write_dossier(found, tmp_path / "proof")
    assert not failed(tmp_path / "proof")
    with np.load(tmp_path / "proof" / "arrays.npz") as arrays:
        assert arrays["W"].dtype == np.float64
        np.testing.assert_array_equal(arrays["W"], np.asarray(narrow.W, np.float64))
    mixed = dataclasses.replace(found.layer, params=Params(params.W, narrow.H, None))
    by_hand = dataclasses.replace(found, layer=mixed)
    with pytest.raises(ValueError, match="needs double precision"):
        write_dossier(by_hand, tmp_path / "mixed")
    assert [entry.name for entry in tmp_path.iterdir()] == ["proof"]


@pytest.mark.parametrize(
    ("problem", "params", "verdict"),
    [
        (make(CrossEntropy(), SKEWED, 1e-2), stopped, "GLOBAL_MINIMUM"),
        (make(CrossEntropy(), SKEWED, 1e-2, mu=0.0), stopped, None),
        (make(Focal(3.0), SKEWED, 1e-2), stopped, "MINIMUM_ON_CONVEX_REGION"),
        (make(CrossEntropy(), dim=1), stopped, "LOCAL_MINIMUM"),
    ],
    ids=["imbalanced", "no decay", "focal, imbalanced", "too few dimensions"],
)
def test_what_cannot_be_recomputed_is_not_called_ok(problem, params, verdict, tmp_path):
    found = examination(problem, params(problem), lam_h=problem.lam_h)
    said = write_dossier(found, tmp_path / "proof")["claims"]["verdict"]
    assert verdict in (None, said)
    [(code, lines)] = verify(tmp_path / "proof")
    assert code == 0, lines
    beyond = said in ("MINIMUM_ON_CONVEX_REGION", "LOCAL_MINIMUM")
    assert ("not checkable  verdict" in lines) == beyond
    assert ("ok             verdict" in lines) != beyond


@pytest.mark.repeats
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_script_knows_f_and_its_derivatives(loss, tmp_path):
    """Against 50 digits and a Hessian assembled entry by entry."""
    problem = make(loss, SKEWED, 1e-2)
    params = gaussian(problem, 2, 1.0)
    found = examination(problem, params, lam_h=problem.lam_h)
    write_dossier(found, tmp_path / "proof")
    case = SCRIPT.read(tmp_path / "proof")
    x = case.point
    layer = found.layer
    value, gradient = objective_and_gradient(layer.problem, layer.params)
    assert x.value == pytest.approx(value, rel=1e-14)
    assert x.grad_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-13)
    step = np.random.default_rng(3).normal(size=gradient.size)
    step[-3:] = 0.0  # the bias
    dW, dH = step[:12].reshape(3, 4), step[12:-3].reshape(4, -1)
    expected = step @ dense_hessian(layer.problem, layer.params) @ step
    bend, noise = SCRIPT.curvature(case.problem, x, dW, dH)
    assert bend == pytest.approx(expected, rel=1e-12)
    assert abs(bend - expected) < noise < 1e-10


def test_an_inferred_decay_and_a_tolerance_of_ones_own_are_checked(tmp_path):
    problem = make(CrossEntropy())
    found = examination(problem, gaussian(problem, 1, 1.0), tol=0.5)
    said = write_dossier(found, tmp_path / "proof")
    assert said["lam_h_inferred"]
    assert said["tol"] == 0.5
    [(code, lines)] = verify(tmp_path / "proof")
    assert code == 0
    assert "ok             lam_h inferred" in lines


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    return write_three(tmp_path_factory.mktemp("proofs"))


# The folder --------------------------------------------------------------------------------------


def test_the_script_needs_numpy_only(proofs):
    source = (proofs / "minimum" / "verify.py").read_text(encoding="utf-8")
    modules = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) == {"numpy"}
    assert source.isascii()


def test_an_older_certificate_is_replaced_and_anything_else_left_alone(proofs, tmp_path):
    target = tmp_path / "proof"
    shutil.copytree(proofs / "saddle", target)
    problem = make(LabelSmoothing(0.1), lam_b=1e-2)
    found = examination(problem, gaussian(problem, 1, 1.0))
    write_dossier(found, target)
    assert json.loads((target / "certificate.json").read_text())["claims"]["verdict"] == (
        "NOT_CRITICAL"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["proof"]
    (target / "thesis.tex").write_text("precious")
    for path in (target, target / "thesis.tex"):
        with pytest.raises(ValueError, match="choose another `out`"):
            check_target(path)
    assert (target / "thesis.tex").read_text() == "precious"


def test_nothing_is_left_of_a_certificate_that_could_not_be_written(tmp_path, monkeypatch):
    problem = make(LabelSmoothing(0.1), lam_b=1e-2)
    found = examination(problem, gaussian(problem, 1, 1.0))
    write_dossier(found, tmp_path / "proof")
    before = (tmp_path / "proof" / "certificate.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left on device\)"):
        write_dossier(found, tmp_path / "proof")
    with pytest.raises(ValueError, match="No space left"):
        write_dossier(found, tmp_path / "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["proof"]
    assert (tmp_path / "proof" / "certificate.json").read_bytes() == before


def test_what_verify_could_not_check_is_not_written(tmp_path):
    def quadratic(z, _):
        return jnp.sum(z**2)

    problem = Problem(
        CustomLoss(quadratic, convex=True, lower_bound=0.0), BALANCED, 4, 1.0, 1.0, None
    )
    layer = as_classifier(
        np.ones((3, 4)), np.ones((4, 6)), problem.labels, loss=problem.loss, lam_w=1.0
    )
    W, H = np.full((3, 4), 1e100), np.full((4, 6), 1e100)  # squares of logits overflow
    with pytest.raises(ValueError, match="too large, rescale"):
        examine(as_classifier(W, H, problem.labels, loss="mse:1,1", lam_w=1.0, lam_h=1.0))
    with pytest.raises(ValueError, match="has no name"):
        write_dossier(examine(layer), tmp_path / "proof")
    assert list(tmp_path.iterdir()) == []
