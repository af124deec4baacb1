"""`ufm certify`: what it prints and writes, and how it says no."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import complaint
from dossiers import minimiser, verify
from points import gaussian, make, origin
from tex import compile_table, number_of, rows_of

from ufm import (
    LabelSmoothing,
    Params,
    certify,
    global_minimum,
    load_classifier,
    nc_metrics,
    nearest_minimiser,
)
from ufm.cli import main
from ufm.last_layer.examine import examine

PROBLEM = make(LabelSmoothing(0.1), lam_b=1e-2)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def save(params, path="layer.npz", **changes) -> str:
    """As PyTorch would have it: rows, unsorted."""
    order = [5, 1, 3, 0, 2, 4]
    arrays = {
        "W": params.W,
        "H": np.asarray(params.H).T[order],
        "b": params.b,
        "labels": PROBLEM.labels[order],
        "lam_w": 2e-2,
        "lam_h": 5e-3,
        "lam_b": 1e-2,
        "loss": "ls:0.1",
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def refused(capsys, *arguments: str) -> str:
    return complaint(capsys, "certify", *arguments)


def test_the_summary_of_a_minimum(capsys):
    params = minimiser(PROBLEM)
    assert main(["certify", save(params)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "LS(α=0.1), K=3, d=4, n=2, λ_W=0.02, λ_H=0.005, λ_b=0.01"
    assert lines[1:4] == [
        "Read as:",
        "  features are stored as rows (N x d), as PyTorch does (--features)",
        "  samples were not ordered by class: they were sorted, stably",
    ]
    assert lines[4].startswith("verdict  GLOBAL_MINIMUM ")
    assert lines[-2:] == [
        "Certificate: layer.certificate",
        "Check: python layer.certificate/verify.py, with NumPy alone",
    ]
    assert sorted(os.listdir("layer.certificate")) == [
        "arrays.npz",
        "certificate.json",
        "table.tex",
        "verify.py",
    ]
    [(code, said)] = verify(Path("layer.certificate"))
    assert code == 0, said


def test_the_table_has_the_numbers_of_both_views(tmp_path):
    rows = np.random.default_rng(3).normal(size=(6, 4)) + 2.0  # a mean, as after a ReLU
    assert main(["certify", save(minimiser(PROBLEM), H=rows), "--gap-tol", "1e-5"]) == 0
    table = Path("layer.certificate/table.tex").read_text()
    told = {name: cells for name, *cells in rows_of(table)}
    found = examine(load_classifier("layer.npz"), 1e-5)
    assert found.centred is not None
    for i, view in enumerate((found, found.centred)):
        shown = [number_of(told[name][i]) for name in ("$f$", "gap", r"$\mathcal{NC}_2$")]
        exact = [view.certificate.value, view.certificate.gap, view.metrics.nc2]
        np.testing.assert_allclose(shown, np.array(exact, float), rtol=1e-3)
        assert told["verdict"][i] == view.certificate.verdict.name.lower().replace("_", " ")
    compile_table(table, tmp_path)


def numbers(printed: str) -> dict[str, str]:
    """The first two columns of the table of a view."""
    rows = printed[printed.index("verdict  ") :].split("\n\n")[0]
    return dict(re.findall(r"^(\S+(?: f\|)?) +(\S+)", rows, flags=re.MULTILINE))


def test_the_numbers_printed_are_those_of_the_library(capsys):
    params = gaussian(PROBLEM, 1, 1.0)
    assert main(["certify", save(params)]) == 0
    printed = capsys.readouterr().out
    first, second = printed.split("The same layer with centred features\n")
    assert first.startswith("The layer as given\nLS(")
    shown = numbers(first)
    certificate, metrics = certify(PROBLEM, params), nc_metrics(PROBLEM, params)
    nearest = nearest_minimiser(PROBLEM, params)
    assert nearest is not None
    expected = {
        "f": certificate.value,
        "gap": certificate.gap,
        "|grad f|": certificate.grad_norm,
        "|G|/mu": certificate.dual_norm / certificate.threshold,
        "NC1": metrics.nc1,
        "NC2": metrics.nc2,
        "NC3": metrics.nc3,
        "NC4": metrics.nc4,
        "distance": nearest.distance,
    }
    assert shown["verdict"] == "NOT_CRITICAL"
    assert set(shown) == {"verdict", "f*", *expected}
    star = global_minimum(PROBLEM).value
    assert float(shown["f*"]) == pytest.approx(star, rel=1e-9)
    assert f"simplex ETF; f - f* = {float(certificate.value) - star:.2e}" in printed
    for name, number in expected.items():
        assert float(shown[name]) == pytest.approx(float(number), rel=6e-3), name
    # The other view, from its definition: the same logits, and a free bias.
    mean = jnp.mean(params.H, axis=1)
    assert params.b is not None
    moved = Params(params.W, params.H - mean[:, None], params.b + params.W @ mean)
    free = certify(make(LabelSmoothing(0.1), lam_b=0.0), moved)
    assert float(numbers(second)["f"]) == pytest.approx(float(free.value), rel=1e-9)
    assert float(numbers(second)["gap"]) == pytest.approx(float(free.gap), rel=6e-3)
    assert "The certificate is of the layer as given" in second


def test_a_saddle_has_a_way_down(capsys):
    assert main(["certify", save(origin(PROBLEM)), "--out", "proof"]) == 0
    printed = capsys.readouterr().out
    assert "STRICT_SADDLE" in printed
    with np.load("proof/arrays.npz", allow_pickle=False) as arrays:
        assert arrays["escape_W"].shape == (3, 4)
        assert arrays["escape_H"].shape == (4, 6)
    told = json.loads(Path("proof/certificate.json").read_text())
    # At the origin theory knows it: -2(|G|-mu) mu / (lam_w + lam_h), |G| = (1-alpha)/(K sqrt(n)).
    mu, norm = 1e-2, 0.9 / (3 * 2**0.5)
    expected = -2 * (norm - mu) * mu / 2.5e-2
    assert told["claims"]["escape_curvature"] == pytest.approx(expected, rel=1e-10)
    assert f"{expected:.3e}" in printed


def test_an_inferred_decay_is_said_before_the_verdict(capsys):
    assert main(["certify", save(gaussian(PROBLEM, 1, 1.0), lam_h=None)]) == 0
    printed = capsys.readouterr().out
    assert "is inferred as lam_w |W|^2 / |H|^2" in printed
    assert printed.index("inferred") < printed.index("verdict ")


def test_json_is_all_that_standard_output_gets(capsys):
    path = save(gaussian(PROBLEM, 1, 1.0))
    assert main(["certify", path, "--json", "--lam-w", "0.01", "--gap-tol", "0.5"]) == 0
    told = json.loads(capsys.readouterr().out)
    centred = told.pop("centred")
    assert told == json.loads(Path("layer.certificate/certificate.json").read_text())
    assert centred["problem"] == told["problem"] | {"lam_b": 0.0}
    assert told["problem"]["lam_w"] == 0.01
    assert told["tol"] == 0.5
    assert told["notes"][0] == "the given lam_w = 0.01 overrides 0.02 of the file"
    digest = hashlib.sha256(Path("layer.npz").read_bytes()).hexdigest()
    assert told["source"] == {"layer.npz": digest}


def test_as_many_samples_as_features_ask_for_the_flag(capsys):
    params = jax.tree.map(
        np.asarray, gaussian(make(LabelSmoothing(0.1), lam_b=1e-2, dim=6), 0, 1.0)
    )
    path = save(params)
    assert refused(capsys, path) == (
        "H is 6 x 6, as many samples as features: say how it is stored with --features rows "
        "(N x d, as PyTorch does) or --features columns (d x N)"
    )


GOLDEN = {
    "NaN": ({"lam_w": np.nan}, (), "lam_w must be non-negative and finite, got nan"),
    "inf": (
        {"b": np.array([0.0, np.inf, 0.0])},
        (),
        "b has 1 of 3 entries NaN or infinite, the first at [1]: a certificate needs finite "
        "numbers",
    ),
    "negative decay": ({}, ("--lam-h", "-1"), "lam_h must be non-negative and finite, got -1.0"),
    "alpha": ({}, ("--loss", "ls:1"), "alpha must be in [0, 1), got 1.0"),
    "unknown loss": (
        {},
        ("--loss", "hinge"),
        "unknown loss 'hinge': choose ce, ls:ALPHA, fl:GAMMA or mse:SCALE,TARGET, or poly, gce, "
        "sce, taylor, mae, brier, nl, cce, cot, bitempered, cs, ww, bce, temperature, logitnorm",
    ),
    "wrong shape": (
        {"H": np.ones((5, 4))},
        (),
        "H must have shape (4, 6) by columns or (6, 4) by rows for W with 4 columns and 6 labels, "
        "got (5, 4)",
    ),
    "no features": (
        {"W": np.ones((3, 0))},
        (),
        "W must be K x d with at least 2 classes and 1 feature, got shape (3, 0)",
    ),
    "label out of range": (
        {"labels": np.array([0, 1, 2, 3, 0, 1])},
        (),
        "labels must lie in 0..2 (W has 3 classes), got 3 at sample 3",
    ),
    "missing class": (
        {"labels": np.array([0, 0, 2, 2, 0, 2])},
        (),
        "labels has no sample of class 1: every one of the 3 classes of W needs samples; add some "
        "(W without a class is a different classifier)",
    ),
    "bias without decay": (
        {"lam_b": None},
        (),
        "b is given without its decay: give --lam-b, 0 for a bias that was trained without decay",
    ),
    "no decay": (
        {"lam_w": None},
        (),
        "layer.npz has no lam_w (it has H, W, b, labels, lam_b, lam_h, loss): add it, or give "
        "--lam-w",
    ),
    "pickled": (
        {"W": np.array([[{}]], dtype=object)},
        (),
        "W in layer.npz is an array of Python objects (a pickle), which is never loaded: save "
        "plain numbers",
    ),
    "name": (
        {},
        ("--weight", "fc.weight"),
        "layer.npz has no fc.weight (it has H, W, b, labels, lam_b, lam_h, lam_w, loss): correct "
        "--weight",
    ),
    "two weights": (
        {"W": None, "a.weight": np.ones((3, 4)), "c.weight": np.ones((3, 4))},
        (),
        "W may be a.weight (3 x 4) or c.weight (3 x 4): say which with --weight NAME",
    ),
    "temperature": (
        {},
        ("--temperature", "-1"),
        "temperature must be positive and finite, got -1.0",
    ),
    "pixels": (
        {"labels": np.array([0, 1, 2, 0, 1, 255])},
        (),
        "labels must lie in 0..2 (W has 3 classes), got 255 at sample 5: if the loss ignored these "
        "1 of 6 samples, give --ignore-index 255",
    ),
    "tolerance": ({}, ("--gap-tol", "2"), "tol must be in [0, 1), relative to f(0) − f*, got 2.0"),
    "overflow": (
        {"W": np.full((3, 4), 1e200)},
        (),
        "W has entries above 1e+150, whose squares overflow: rescale",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bad_input_is_one_line_and_writes_nothing(name, capsys):
    changes, flags, message = GOLDEN[name]
    assert refused(capsys, save(gaussian(PROBLEM, 1, 1.0), **changes), *flags) == message


def test_bad_files_are_one_line_and_write_nothing(capsys):
    save(gaussian(PROBLEM, 1, 1.0))
    content = Path("layer.npz").read_bytes()
    Path("half.npz").write_bytes(content[: len(content) // 2])
    Path("text.npz").write_text("W: 1 2 3")
    Path("pickle.npz").write_bytes(b"\x80\x04\x95")
    os.mkdir("folder.npz")
    how = "write it with numpy.savez(FILE, W=..., H=..., labels=..., ...)"
    for path, message in {
        "nowhere.npz": "does not exist: check the path",
        "half.npz": "is damaged or truncated: write it again",
        "text.npz": f"is not an .npz, .npy, .safetensors or .pt file: {how}",
        "pickle.npz": f"is a pickle, which is never loaded: {how}",
        "folder.npz": "is a folder without .npy files: give the file itself",
    }.items():
        assert refused(capsys, path) == f"{path} {message}"


def test_folders_that_cannot_be_written_are_refused_before_anything_is_computed(
    capsys, monkeypatch
):
    path = save(gaussian(PROBLEM, 1, 1.0))
    Path("file").write_text("precious")
    monkeypatch.setattr("ufm.last_layer.examine.examine", None)  # would raise if called
    assert refused(capsys, path, "--out", "file") == (
        "file exists and is not a certificate of ufm: choose another --out"
    )
    assert refused(capsys, path, "--out", "file/proof") == (
        "file/proof cannot be written (Not a directory): choose another --out"
    )
    # Read-only even for root.
    if sys.platform == "linux":
        assert refused(capsys, path, "--out", "/proc/proof").startswith(
            "/proc/proof cannot be written ("
        )


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["certify"], "FILE"),
        (["certify", "layer.npz", "--lam-v", "1"], "--lam-w"),
        (["measure", "layer.npz", "--features", "diagonal"], "rows"),
        (["certify", "layer.npz", "--lam-w", "much"], "--lam-w"),
        (["certifi", "layer.npz"], "certify"),
    ],
)
def test_misspelt_options_end_with_two_and_a_hint(arguments, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert hint in captured.err
    assert "Traceback" not in captured.err
    assert os.listdir() == []
