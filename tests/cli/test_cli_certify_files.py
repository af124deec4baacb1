"""`ufm certify` on layers in several files, and with weights in the loss."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from dossiers import minimiser, verify
from points import gaussian, make
from safetensors.numpy import save_file

from ufm import LabelSmoothing
from ufm.cli import main

PROBLEM = make(LabelSmoothing(0.1), lam_b=1e-2)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def save(**weights) -> str:
    """A point of CE with these weights, ordered by class."""
    params = gaussian(PROBLEM, 1, 1.0)
    settings = {"lam_w": 2e-2, "lam_h": 5e-3, "lam_b": 1e-2, "loss": "ce"}
    arrays = {"W": params.W, "H": params.H, "b": params.b, "labels": PROBLEM.labels}
    np.savez("layer.npz", **arrays, **settings | weights)
    return "layer.npz"


def write_parts(params) -> list[str]:
    """A state dict, features in shards, and labels from 1, as three kinds of files."""
    state = {"fc.weight": params.W, "fc.bias": params.b, "conv.weight": np.ones((8, 4, 3, 3))}
    save_file({name: np.asarray(x) for name, x in state.items()}, "head.safetensors")
    os.mkdir("feats")
    rows = np.asarray(params.H).T
    for i in (0, 1):
        np.save(f"feats/part{i}.npy", rows[3 * i : 3 * i + 3])
    np.savez("y.npz", targets=PROBLEM.labels + 1)
    return ["head.safetensors", "feats", "y.npz", "--features-name", "part"]


def test_parts_in_several_files_are_one_layer_and_inferences_name_their_flags(capsys):
    params = minimiser(PROBLEM)
    settings = ["--loss", "ls:0.1", "--lam-w", "0.02", "--lam-h", "0.005", "--lam-b", "0.01"]
    assert main(["certify", *write_parts(params), *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("verdict"))
    assert lines[1:end] == [
        "Read as:",
        "  labels are targets (6) (--labels)",
        "  W is fc.weight (3 x 4) (--weight)",
        "  b is fc.bias (3) (--bias)",
        "  not used: conv.weight",
        "  features are stored as rows (N x d), as PyTorch does (--features)",
        "  labels 1..3 are read as 0..2 (--first-label)",
    ]
    assert lines[end].startswith("verdict  GLOBAL_MINIMUM ")
    told = json.loads(Path("head.certificate/certificate.json").read_text())
    assert list(told["source"]) == ["head.safetensors", "part0.npy", "part1.npy", "y.npz"]
    [(code, said)] = verify(Path("head.certificate"))
    assert code == 0, said


def test_sample_weights_are_certified_with_a_folder(capsys):
    path = save(sample_weights=np.array([1.0, 2.0, 1.0, 3.0, 1.0, 1.0]))
    assert main(["certify", path]) == 0
    printed = capsys.readouterr().out
    assert "  sample weights c_i, scaled to mean 1: f averages c_i L_i" in printed
    [(code, said)] = verify(Path("layer.certificate"))
    assert code == 0, said
    assert "ok             form               ce, K=3, d=4, N=6, sample weights" in said


def test_a_loss_that_the_script_has_not_is_certified_without_a_folder(capsys, monkeypatch):
    path = save(loss="brier")
    before = sorted(os.listdir())
    assert main(["certify", path]) == 0
    why = "a certificate on file is for CE, LS, FL, MSE and BCE, which verify.py checks, got Brier"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"No certificate is written: {why}")
    assert sorted(os.listdir()) == before
    monkeypatch.setattr("ufm.last_layer.examine.examine", None)  # would raise if called
    assert complaint(capsys, "certify", path, "--json") == f"{why}: leave --out and --json out"


def test_class_weights_are_certified_with_a_folder(capsys):
    path = save(class_weights=np.array([1.0, 2.0, 5.0]))
    assert main(["certify", path]) == 0
    printed = capsys.readouterr().out
    assert "CE with class weights, K=3, d=4, n=2, " in printed
    [(code, said)] = verify(Path("layer.certificate"))
    assert code == 0, said
    assert "ok             form               ce, K=3, d=4, N=6, class weights" in said
