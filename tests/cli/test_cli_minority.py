"""`ufm solve --counts` says which classes have merged, and why."""

import json

import numpy as np
import pytest

from ufm.cli import main


def solve(tmp_path, capsys, mu, counts=("9", "9", "1", "1")):
    out = tmp_path / f"{mu}"
    problem = ["--counts", *counts, "--dim", "4", "--lam-b", "none"]
    decays = ["--lam-w", f"{mu}", "--lam-h", f"{mu}"]
    run = ["--losses", "ce", "--starts", "1", "--out", f"{out}"]
    assert main(["solve", *problem, *decays, *run]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "samples have" in line]
    assert json.loads((out / "results.json").read_text())["losses"][0]["minority"] == (
        said[0].removeprefix("CE: ").removesuffix(".") if said else ""
    )
    with np.load(out / "ce.npz") as arrays:
        return said, arrays["W"]


@pytest.mark.parametrize(("mu", "merged"), [(0.06, True), (0.04, False)])
def test_merged_classes_are_named_with_their_threshold(tmp_path, capsys, monkeypatch, mu, merged):
    monkeypatch.chdir(tmp_path)
    (said,), W = solve(tmp_path, capsys, mu)
    # The threshold is √1/20; merged, the minimum has lost the small classes' difference.
    done, relation, rank = ("merged", "≥", 2) if merged else ("not merged", "<", 3)
    assert said == (
        f"CE: the 2 classes of 1 samples have {done}: μ = {mu} {relation} 0.05 "
        f"(√1/20, exact for any bias and any other classes); the minimum has rank {rank}."
    )
    assert (np.linalg.norm(W[2] - W[3]) < 1e-4 * np.linalg.norm(W)) == merged
    assert np.linalg.matrix_rank(W, tol=1e-4) == rank


def test_balanced_classes_are_not_spoken_of(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert solve(tmp_path, capsys, 0.06, ("3", "3", "3"))[0] == []
