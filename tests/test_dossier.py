"""Written certificates: verify.py, alone in another interpreter, says yes to true ones only."""

import ast
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
    global_minimum,
    solve,
    write_dossier,
)
from ufm.dossier import check_target

#: Runs scripts in an interpreter that can import neither this library nor what it is made of.
ALONE = """
import contextlib, io, json, runpy, sys
sys.modules.update(ufm=None, jax=None, scipy=None, optax=None)
results = []
for path in sys.argv[1:]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as stop:
            results.append((stop.code, said.getvalue()))
print(json.dumps(results))
"""


def verify(*folders: Path) -> list[tuple[int, str]]:
    """Exit code and lines of the verify.py in each folder."""
    scripts = [str(folder / "verify.py") for folder in folders]
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    return [(code, said) for code, said in json.loads(done.stdout)]


def examination(problem: Problem, params: Params, tol=None, lam_h=None):
    """As if the point had come from PyTorch: rows, in another order."""
    order = np.random.default_rng(0).permutation(problem.num_columns)
    layer = as_classifier(
        params.W,
        np.asarray(params.H).T[order],
        problem.labels[order],
        loss=problem.loss,
        lam_w=problem.lam_w,
        lam_h=lam_h,
        b=params.b,
        lam_b=problem.lam_b,
        features="rows",
    )
    return examine(layer, tol)


def minimiser(problem: Problem) -> Params:
    return global_minimum(problem).params(jax.random.key(3))


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


def test_an_inferred_decay_and_a_tolerance_of_ones_own_are_checked(tmp_path):
    problem = make(CrossEntropy())
    found = examination(problem, gaussian(problem, 1, 1.0), tol=0.5)
    said = write_dossier(found, tmp_path / "proof")
    assert said["lam_h_inferred"]
    assert said["tol"] == 0.5
    [(code, lines)] = verify(tmp_path / "proof")
    assert code == 0
    assert "ok             lam_h inferred" in lines


# Tampering ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    """A minimum and a saddle to tamper with."""
    folder = tmp_path_factory.mktemp("proofs")
    problem = make(LabelSmoothing(0.1), lam_b=1e-2)
    for name, params in (("minimum", minimiser(problem)), ("saddle", origin(problem))):
        write_dossier(examination(problem, params, lam_h=problem.lam_h), folder / name)
    random = gaussian(problem, 1, 1.0)
    write_dossier(examination(problem, random), folder / "anywhere")
    return folder


def tampered(source: Path, target: Path, change, sign: bool = True) -> Path:
    """A copy in which `change(said, arrays)` was at work, signed again with the right digest."""
    shutil.copytree(source, target)
    said = json.loads((target / "certificate.json").read_text())
    with np.load(target / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    change(said, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (target / "arrays.npz").write_bytes(buffer.getvalue())
    if sign:
        said["arrays_sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    (target / "certificate.json").write_text(json.dumps(said))
    return target


def claim(name, change):
    def tamper(said, _):
        said["claims"][name] = change(said["claims"][name])

    return tamper


def both(*changes):
    def tamper(said, arrays):
        for change in changes:
            change(said, arrays)

    return tamper


def scalar(name, change):
    def tamper(said, _):
        said["problem"][name] = change(said["problem"][name])

    return tamper


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


def swapped(labels):
    return labels[np.argsort([0, 2, 1, 3, 4, 5])]


def verdict(name):
    return claim("verdict", lambda _: name)


def lowered_and_consistent(said, _):
    said["claims"]["lower_bound"] = said["claims"]["value"]
    said["claims"]["gap"] = 0.0


#: (which, what was done, a check that must fail)
TAMPERED = {
    "saddle for minimum": ("saddle", verdict("GLOBAL_MINIMUM"), "verdict"),
    "saddle for local minimum": ("saddle", verdict("LOCAL_MINIMUM"), "verdict"),
    "saddle for undecided": ("saddle", verdict("UNDECIDED"), "verdict"),
    "minimum for saddle": ("minimum", verdict("STRICT_SADDLE"), "reading"),
    "minimum for undecided": ("minimum", verdict("UNDECIDED"), "verdict"),
    "minimum for local": ("minimum", verdict("MINIMUM_ON_CONVEX_REGION"), "verdict"),
    "anywhere for minimum": ("anywhere", verdict("GLOBAL_MINIMUM"), "verdict"),
    "anywhere with a lax tolerance": (
        "anywhere",
        both(verdict("GLOBAL_MINIMUM"), claim("tol", lambda _: 1e3)),
        "tol ",
    ),
    "anywhere called critical": (
        "anywhere",
        both(verdict("UNDECIDED"), claim("critical_tol", lambda _: 1e3)),
        "critical_tol",
    ),
    "f lowered": ("minimum", claim("value", lambda f: f - 1e-9), "f "),
    "bound raised": ("minimum", claim("lower_bound", lambda f: f + 1e-9), "lower bound"),
    "bound raised to f": ("anywhere", lowered_and_consistent, "lower bound"),
    "gap": ("anywhere", claim("gap", lambda gap: 0.5 * gap), "gap"),
    "no gap": ("anywhere", claim("gap", lambda _: None), "gap"),
    "gradient": ("anywhere", claim("grad_norm", lambda x: 1.001 * x), "|grad f|"),
    "dual norm": ("anywhere", claim("dual_norm", lambda x: 1.001 * x), "|Gamma|_2"),
    "mu": ("minimum", claim("threshold", lambda x: 1.001 * x), "mu"),
    "curvature": ("saddle", claim("escape_curvature", lambda x: 1.001 * x), "escape curvature"),
    "direction": ("saddle", array("escape_W", lambda x: -x), "escape curvature"),
    "long direction": ("saddle", array("escape_W", lambda x: 2 * x), "escape length"),
    "NC1": ("anywhere", claim("nc1", lambda x: 0.9 * x), "nc1"),
    "NC2": ("anywhere", claim("nc2", lambda x: 0.9 * x), "nc2"),
    "NC3": ("anywhere", claim("nc3", lambda x: 0.9 * x), "nc3"),
    "NC4": ("anywhere", claim("nc4", lambda x: x + 1 / 6), "nc4"),
    "NC1 where there is none": ("saddle", claim("nc1", lambda _: 0.0), "nc1"),
    "variability": ("anywhere", claim("within_between_ratio", lambda x: 0.9 * x), "within_b"),
    "f*": ("minimum", claim("minimum", lambda f: 1.001 * f), "minimum f*"),
    "minimiser": ("minimum", array("minimum_W", lambda x: 0.9 * x), "minimum f*"),
    "distance": ("anywhere", claim("distance", lambda x: 0.9 * x), "distance"),
    "relative": ("anywhere", claim("relative_distance", lambda x: 0.9 * x), "relative distance"),
    "decay of W": ("minimum", scalar("lam_w", lambda x: 1.001 * x), "f "),
    "decay of H": ("minimum", scalar("lam_h", lambda x: 1.001 * x), "f "),
    "decay of b": ("anywhere", scalar("lam_b", lambda x: 1.001 * x), "f "),
    "inferred": ("anywhere", scalar("lam_h", lambda x: 1.001 * x), "lam_h inferred"),
    "loss": ("minimum", scalar("loss", lambda _: "ls:0.1001"), "f "),
    "another loss": ("minimum", scalar("loss", lambda _: "hinge"), "reading"),
    "counts": ("minimum", scalar("class_counts", lambda _: [3, 2, 1]), "problem"),
    "W": ("minimum", array("W", lambda x: 1.001 * x), "f "),
    "H": ("anywhere", array("H", lambda x: x[:, ::-1]), "f "),
    "b": ("anywhere", array("b", lambda x: -x), "f "),
    "labels": ("minimum", array("labels", swapped), "f "),
    "shape": ("minimum", array("H", lambda x: x[:, 1:]), "problem"),
    "not a number": ("minimum", array("W", lambda x: x * np.nan), "reading"),
}


@pytest.fixture(scope="module")
def judged(proofs, tmp_path_factory):
    """What verify.py says of every tampered copy."""
    base = tmp_path_factory.mktemp("tampered")
    folders = [
        tampered(proofs / which, base / str(i), change)
        for i, (which, change, _) in enumerate(TAMPERED.values())
    ]
    return dict(zip(TAMPERED, verify(*folders), strict=True))


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_certificates_fail(name, judged):
    code, said = judged[name]
    assert code == 1, said
    assert f"FAILED         {TAMPERED[name][2]}" in said, said


def test_the_copies_that_were_tampered_with_pass_untouched(proofs, tmp_path):
    names = ("minimum", "saddle", "anywhere")
    copies = [tampered(proofs / name, tmp_path / name, lambda *_: None) for name in names]
    for code, said in verify(*copies):
        assert (code, "0 failed, 0 not" in said) == (0, True), said


def test_arrays_of_another_certificate_are_noticed_by_their_digest(proofs, tmp_path):
    def turn(_, arrays):  # of no consequence for any number
        arrays["order"] = arrays["order"][::-1]

    [(code, said)] = verify(tampered(proofs / "minimum", tmp_path / "proof", turn, sign=False))
    assert code == 1
    assert "FAILED         arrays.npz" in said
    assert said.count("FAILED") == 1


def test_a_pickle_in_the_arrays_is_refused(proofs, tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("LOADED",))

    change = array("b", lambda _: np.array([Trap()], dtype=object))
    [(code, said)] = verify(tampered(proofs / "minimum", tmp_path / "proof", change))
    assert code == 1
    assert "LOADED" not in said
    assert "allow_pickle=False" in said


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
