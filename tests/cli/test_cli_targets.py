"""Targets from a file, for `ufm solve`, `spectrum`, `landscape` and `sweep`."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import complaint

from sweeps import written
from ufm import CrossEntropy, Problem, global_minimum, open_store
from ufm.cli import main

SOFT = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.0, 1.0, 0.0]])
SMALL = ("--dim", "3", "--lam-w", "1e-2", "--lam-h", "1e-2", "--lam-b", "none")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("soft.npz", targets=SOFT)
    np.savez("sized.npz", targets=SOFT, class_counts=[3, 1, 2, 1])
    np.savez("numbers.npz", targets=4.0 * SOFT - 1.0)
    return tmp_path


def test_solve_certifies_and_stores_groups(folder, capsys):
    run = ["--targets", "sized.npz", "--losses", "ce", "--starts", "2", "--out", "found"]
    assert main(["solve", *run, *SMALL, "--figures"]) == 0
    printed = capsys.readouterr().out
    assert "K=3, d=3, 4 groups of samples, counts (3, 1, 2, 1)" in printed
    assert "2 of 2 runs ended at a proven global minimum" in printed
    assert "CE on targets: NRC1 " in printed
    problem = Problem(CrossEntropy(), (3, 1, 2, 1), 3, 1e-2, 1e-2, None, targets=SOFT)
    result = json.loads(Path("found/results.json").read_text())["losses"][0]
    star = global_minimum(problem).value
    assert [r["value"] for r in result["runs"]] == pytest.approx([star] * 2, rel=1e-12)
    with np.load("found/ce.npz") as arrays:
        np.testing.assert_array_equal(arrays["targets"], SOFT)
        np.testing.assert_array_equal(arrays["groups"], [0, 0, 0, 1, 2, 2, 3])
        assert "labels" not in arrays  # nothing takes it for a classifier
    figures = {path.stem for path in Path("found/figures").iterdir()}
    assert {"collapse", "gram", "singular-values", "convergence"} <= figures
    said = complaint(capsys, "spectrum", "found/ce.npz")
    assert "a point of a problem with targets" in said


def test_a_folder_keeps_to_the_content_of_its_targets(folder, capsys):
    run = ["--targets", "soft.npz", "--losses", "mse", "--starts", "1", *SMALL]
    assert main(["solve", *run, "--out", "found"]) == 0
    assert main(["solve", *run, "--out", "found"]) == 0  # finished: shown again
    assert main(["solve", "--config", "found/config.json", "--out", "again"]) == 0
    before = Path("found/results.json").read_bytes()
    np.savez("soft.npz", targets=SOFT[::-1])
    said = complaint(capsys, "solve", *run, "--out", "found")
    assert "results of another configuration" in said
    assert "is not the file" in complaint(capsys, "solve", "--config", "found/config.json")
    assert Path("found/results.json").read_bytes() == before


def test_spectrum_and_landscape_take_targets(folder, capsys):
    given = ["--targets", "soft.npz", "--per-class", "1", "--losses", "ce", *SMALL]
    assert main(["spectrum", *given]) == 0
    assert "Modulo rotations the Hessian is positive definite" in capsys.readouterr().out
    few = ["--starts-per-rank", "1", "--root-starts", "1", "--flows", "0", "--no-descents"]
    assert main(["landscape", *given, *few, "--out", "points"]) == 0
    assert "global minimum" in capsys.readouterr().out
    (census,) = json.loads(Path("points/results.json").read_text())["losses"]
    assert census["problem"]["targets"] == SOFT.tolist()
    assert "save" in complaint(capsys, "landscape", *given, "--save-points")


def test_a_sweep_keeps_its_targets(folder, capsys):
    text = """
loss = ["ce"]
[problem]
targets = "soft.npz"
per_class = 2
dim = 3
lam_w = [1e-2, 3e-2]
lam_h = "lam_w"
lam_b = "none"
"""
    assert main(["sweep", str(written(folder, text)), "--out", "store"]) == 0
    Path("soft.npz").unlink()  # the store has them
    table = open_store(Path("store")).table()
    assert json.loads(table["targets"][0]) == SOFT.tolist()
    for mu, value, verdict in zip(table["lam_w"], table["value"], table["verdict"], strict=True):
        problem = Problem(CrossEntropy(), (2,) * 4, 3, mu, mu, None, targets=SOFT)
        assert value == pytest.approx(global_minimum(problem).value, rel=1e-11)
        assert verdict == "GLOBAL_MINIMUM"
    assert np.isnan(table["rho"].astype(float)).all()
    assert main(["report", "store", "--figures"]) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--targets", "missing.npz"], "missing.npz"),
        (["--targets", "soft.npz"], "FL(γ=3) takes one-hot targets only"),
        (["--targets", "numbers.npz", "--losses", "ce"], "but row 0 is"),
        (["--targets", "soft.npz", "--losses", "ce", "--counts", "1", "2"], "the 2 entries"),
        (["--targets", "empty.npz", "--losses", "ce"], "no array named targets"),
        (["--targets", "words.npz", "--losses", "ce"], "matrix of numbers"),
        (["--targets", "halves.npz", "--losses", "ce"], "whole numbers"),
    ],
)
def test_targets_that_do_not_fit_are_one_line(folder, capsys, given, said):
    np.savez("empty.npz", Y=SOFT)
    np.savez("words.npz", targets=np.array([["a"]]))
    np.savez("halves.npz", targets=SOFT, class_counts=np.full(4, 0.5))
    assert said in complaint(capsys, "solve", *given)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('targets = "none.npz"\nper_class = 2', "none.npz"),
        ("targets = [[0.5, 0.5], [1, 0]]\nper_class = 2\nnum_classes = 2", "leave out num_classes"),
        ("targets = [[0.5, 0.7], [1, 0]]\nper_class = 2", "targets must be"),
        ("targets = [[0.5, 0.5], [1]]\nper_class = 2", "targets"),
    ],
)
def test_a_sweep_refuses_such_targets(folder, capsys, lines, said):
    text = f'loss = ["ce"]\n[problem]\n{lines}\ndim = 2\nlam_w = 1e-2\nlam_h = 1e-2\n'
    file = str(written(folder, text))
    assert said in complaint(capsys, "sweep", file, "--out", "store")
