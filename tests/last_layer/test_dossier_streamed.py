"""Certificates of layers that are read in blocks: with their features, and without."""

import shutil

import numpy as np
import pytest
from convex_oracle import wide_objective
from dossiers import SCRIPT, failed, forge, minimiser, write_streamed
from model_oracle import objective_and_gradient
from points import SKEWED, gaussian, make, perturbed

from ufm import MSE, BinaryCrossEntropy, CrossEntropy, Focal, LabelSmoothing, Verdict, solve
from ufm.last_layer.streaming import passes

LOSSES = (CrossEntropy(), LabelSmoothing(0.1), Focal(2.0), MSE(5.0, 3.0), BinaryCrossEntropy())


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(passes, "_NUMBERS", 1)
    monkeypatch.setattr(passes, "_FEWEST_ROWS", 3)
    monkeypatch.setattr(SCRIPT, "BLOCK", 8)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_true_certificates_pass_with_features_and_without(loss, lam_b, tmp_path):
    problem = make(loss, SKEWED if isinstance(loss, CrossEntropy) else (2, 2, 2), lam_b)
    best = minimiser(problem)
    points = best, perturbed(best, 3, 1e-3), gaussian(problem, 1, 1.0)
    cases = ((np.float64, "columns"), (np.float32, "rows"), (np.float16, "rows"))
    for i, (params, case) in enumerate(zip(points, cases, strict=True)):
        folder = tmp_path / str(i)
        found = write_streamed(folder, problem, params, *case)
        proofs = [path for path in folder.iterdir() if path.is_dir()]
        for path in proofs:
            lines = SCRIPT.check(path)
            assert {line.outcome for line in lines} == {"ok"}, lines
            assert "value recomputed" in lines[1].text
        view = SCRIPT.read(folder / "given").point
        layer = found.layer
        assert view.value == pytest.approx(wide_objective(layer.problem, layer.params), rel=1e-13)
        gradient = np.linalg.norm(objective_and_gradient(layer.problem, layer.params)[1])
        assert view.grad_norm == pytest.approx(gradient, rel=1e-9, abs=1e-13)
        if not isinstance(loss, MSE | BinaryCrossEntropy):
            W, H, b = layer.params.W, layer.params.H, layer.params.b
            V = np.asarray(W) @ np.asarray(H)
            V += 0.0 if b is None else np.asarray(b)[:, None]
            y = layer.problem.labels
            surprise = np.logaddexp.reduce(V, axis=0) - V[y, np.arange(len(y))]
            assert view.surprise == pytest.approx(surprise.max(), rel=1e-12)
        (folder / "H_1.npy").unlink()
        for path in proofs:
            told = {line.name: line.outcome for line in SCRIPT.check(path)}
            assert "FAILED" not in told.values()
            assert told["lower bound"] == "ok"
            assert {told["f"], told["features"]} == {"not checkable"}


def test_a_minimum_on_the_convex_region_is_not_called_ok(tmp_path):
    problem = make(Focal(3.0), SKEWED, 1e-2)
    best = solve(problem, gaussian(problem, 0, 0.3)).params
    found = write_streamed(tmp_path / "x", problem, best, np.float64)
    assert found.certificate.verdict is Verdict.MINIMUM_ON_CONVEX_REGION
    told = {line.name: line for line in SCRIPT.check(tmp_path / "x" / "given")}
    assert told["verdict"].outcome == "not checkable"
    assert "all samples where L is convex" in told["verdict"].text
    assert {line.outcome for name, line in told.items() if name != "verdict"} == {"ok"}


# Forgeries ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    """A minimum, and a point that is none, each with its features beside it."""
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    folder = tmp_path_factory.mktemp("streamed")
    for name, params in (("minimum", minimiser(problem)), ("anywhere", gaussian(problem, 1, 1.0))):
        write_streamed(folder / name, problem, params, np.float64)
    return folder


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


def claims(**changes):
    def tamper(said, _):
        said["claims"] |= {name: change(said["claims"][name]) for name, change in changes.items()}

    return tamper


def shard(name, value):
    def tamper(said, _):
        said["features"]["shards"][1][name] = value

    return tamper


def minimum_by_bound(said, _):
    """A bound at f, so that the gap is closed."""
    claims_ = said["claims"]
    said["claims"] = claims_ | {"verdict": "GLOBAL_MINIMUM", "gap": 0.0}
    said["claims"]["lower_bound"] = claims_["value"]


def minimum_by_value(said, _):
    """An f at the bound, with the tolerance that belongs to it: only the features tell."""
    claims_, problem = said["claims"], SCRIPT.read_problem(said["problem"])
    value = claims_["lower_bound"]
    said["claims"] = claims_ | {"verdict": "GLOBAL_MINIMUM", "gap": 0.0, "value": value}
    said["claims"]["tol"] = SCRIPT.tolerance(problem, None, value)


#: What was done, and the checks that must fail with the features, and without them.
TAMPERED = {
    "another dual": (array("dual", lambda x: -x), "dual", "lower bound"),
    "half the dual": (array("dual", lambda x: 0.5 * x), "dual", None),
    "no dual": (array("dual", lambda x: 0.0 * x), "dual", "lower bound"),
    "bound raised": (claims(lower_bound=lambda x: x + 1e-9), "lower bound", "lower bound"),
    "bound raised to f": (minimum_by_bound, "lower bound", "lower bound"),
    "f lowered to the bound": (minimum_by_value, "f", "bounds below f"),
    "f below the bound": (
        claims(value=lambda f: 0.01 * f, gap=lambda x: -x), "f", "bounds below f",
    ),
    "f lowered": (claims(value=lambda f: f - 1e-9), "f", "gap"),
    "a minimum": (claims(verdict=lambda _: "GLOBAL_MINIMUM"), "verdict", "verdict"),
    "a saddle": (
        claims(verdict=lambda _: "STRICT_SADDLE", escape_curvature=lambda _: -1.0), "form", "form",
    ),
    "gradient": (claims(grad_norm=lambda x: 1.001 * x), "|grad f|", None),
    "critical": (claims(critical_tol=lambda _: 1e3), "critical_tol", None),
    "NC1": (claims(nc1=lambda x: 0.9 * x), "nc1", None),
    "NC2": (claims(nc2=lambda x: 0.9 * x), "nc2", "nc2"),
    "distance": (claims(distance=lambda x: 0.9 * x), "distance", None),
    "f*": (claims(minimum=lambda f: 1.001 * f), "minimum f*", "minimum f*"),
    "labels": (array("labels", np.roll), "f", None),
    "counts": (
        lambda said, _: said["problem"].update(class_counts=[3, 3, 1]), "form", "form",
    ),
    "offset": (array("offset", lambda x: x + 1e-3), "f", None),
    "digest": (shard("sha256", "0" * 64), "form", None),
    "shape": (shard("shape", [3, 4]), "form", "form"),
    "another file": (shard("file", "../H_0.npy"), "form", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_forgeries_fail_where_they_can_be_told(name, proofs, tmp_path):
    change, with_features, without = TAMPERED[name]
    if name == "labels":
        change = array("labels", lambda x: np.roll(x, 1))
    beside = proofs / "anywhere" / name
    found = failed(forge(proofs / "anywhere" / "given", beside, change))
    shutil.rmtree(beside)
    assert with_features in found
    found = failed(forge(proofs / "anywhere" / "given", tmp_path / "alone", change))
    assert (without in found) if without else (not found)


def test_features_are_given_or_found_or_refused(proofs, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(proofs / "minimum" / "given", alone)
    files = [proofs / "minimum" / f"H_{i}.npy" for i in range(2)]
    lines = SCRIPT.check(alone)
    told = {line.name: line for line in lines}
    assert told["features"].outcome == "not checkable"
    assert "bound proven; value not recomputed: give the feature files by" in told["features"].text
    assert "--features H_0.npy H_1.npy" in told["features"].text
    assert told["lower bound"].outcome == "ok"
    assert {told[name].outcome for name in ("f", "|grad f|", "verdict", "nc1", "distance")} == {
        "not checkable"
    }
    told = {line.name: line for line in SCRIPT.check(alone, list(map(str, files)))}
    assert {line.outcome for line in told.values()} == {"ok"}
    assert "GLOBAL_MINIMUM" in told["verdict"].text
    other = np.load(files[1])
    other[0, 0] = np.nextafter(other[0, 0], np.inf)
    np.save(tmp_path / "other.npy", other)
    np.savez(tmp_path / "other.npz", H=other)
    np.save(tmp_path / "objects.npy", other.astype(object))
    wrong = {
        "does not have the SHA-256": [files[0], tmp_path / "other.npy"],
        "1 files are given": files[:1],
        "does not exist": [files[0], tmp_path / "none.npy"],
        "other.npz is not an .npy file": [files[0], tmp_path / "other.npz"],
        "objects.npy is not an .npy file": [files[0], tmp_path / "objects.npy"],
        "H_1.npy does not have the SHA-256": files[::-1],
    }
    for text, given in wrong.items():
        [line] = SCRIPT.check(alone, list(map(str, given)))
        assert (line.outcome, text in line.text) == ("FAILED", True), line


def test_the_script_reads_features_block_by_block(proofs, monkeypatch):
    """No array of the size of the features is made: the largest block is recorded."""
    sizes, evaluate = [], SCRIPT.evaluate

    def recorded(problem, W, b, blocks, *rest):
        if isinstance(blocks, list):  # the minimiser
            return evaluate(problem, W, b, blocks, *rest)

        def each():
            for block in blocks:
                sizes.append(block[0].shape[1])
                yield block

        return evaluate(problem, W, b, each(), *rest)

    monkeypatch.setattr(SCRIPT, "evaluate", recorded)
    assert not failed(proofs / "anywhere" / "centred")
    assert (sum(sizes), max(sizes)) == (7, 2)
