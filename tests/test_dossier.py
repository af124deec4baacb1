"""Written certificates: verify.py, alone in another interpreter, says yes to true ones only."""

import ast
import importlib.util
import json
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from dossiers import examination, minimiser, verify, write_three
from model_oracle import dense_hessian, objective_and_gradient
from points import BALANCED, SKEWED, gaussian, make, origin

from ufm import (
    MSE,
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
from ufm.dossier import check_target


def stopped(problem: Problem) -> Params:
    return solve(problem, gaussian(problem, 0, 1.0)).params


LOSSES = (CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE(5.0, 3.0))


@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_true_certificates_pass(loss, lam_b, tmp_path):
    problem = make(loss, lam_b=lam_b)
    star = minimiser(problem)
    points = {Verdict.GLOBAL_MINIMUM: star, Verdict.NOT_CRITICAL: gaussian(problem, 1, 1.0)}
    if not isinstance(loss, MSE) or lam_b is None:  # elsewhere its bias moves from the origin
        points[Verdict.STRICT_SADDLE] = origin(problem)
    for verdict, params in points.items():
        found = examination(problem, params, lam_h=problem.lam_h)
        assert found.certificate.verdict is verdict
        write_dossier(found, tmp_path / verdict.name)
    for code, said in verify(*tmp_path.iterdir()):
        assert (code, "0 failed, 0 not checkable" in said) == (0, True), said


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


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_script_knows_f_and_its_derivatives(loss, tmp_path):
    """Against 50 digits and a Hessian assembled entry by entry."""
    problem = make(loss, SKEWED, 1e-2)
    params = gaussian(problem, 2, 1.0)
    found = examination(problem, params, lam_h=problem.lam_h)
    write_dossier(found, tmp_path / "proof")
    spec = importlib.util.spec_from_file_location("proof", tmp_path / "proof" / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    _, its_problem, arrays = script.read(tmp_path / "proof")
    x = script.evaluate(its_problem, *(arrays[name] for name in ("W", "H", "b", "labels")))
    layer = found.layer
    value, gradient = objective_and_gradient(layer.problem, layer.params)
    assert x.value == pytest.approx(value, rel=1e-14)
    assert x.grad_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-13)
    step = np.random.default_rng(3).normal(size=gradient.size)
    step[-3:] = 0.0  # the bias
    dW, dH = step[:12].reshape(3, 4), step[12:-3].reshape(4, -1)
    expected = step @ dense_hessian(layer.problem, layer.params) @ step
    assert script.curvature(its_problem, x, dW, dH) == pytest.approx(expected, rel=1e-12)


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


def test_the_script_is_short_and_needs_numpy_only(proofs):
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
        with pytest.raises(ValueError, match="choose another --out"):
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
    huge = np.full((3, 4), 1e200)
    with pytest.raises(ValueError, match="too large, rescale"):
        examine(
            as_classifier(huge, np.ones((4, 6)), problem.labels, loss="ce", lam_w=1.0, lam_h=1.0)
        )
    with pytest.raises(ValueError, match="has no name"):
        write_dossier(examine(layer), tmp_path / "proof")
    assert list(tmp_path.iterdir()) == []
