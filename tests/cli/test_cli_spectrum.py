"""`ufm spectrum`: what it prints and writes, and how it says no."""

import csv
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import complaint
from dossiers import minimiser
from figures import names_of
from model_oracle import dense_hessian
from points import make
from tex import compile_table, number_of, rows_of

from ufm import CrossEntropy, Problem, global_minimum, init_params, origin
from ufm.cli import main

#: What test_cli.py uses, so that the programs are compiled once.
SMALL = ["--num-classes", "3", "--dim", "3", "--per-class", "2"]
PROBLEM = Problem(CrossEntropy(), (2, 2, 2), 3, 5e-4, 5e-4, 1e-2)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def printed(capsys, *options: str) -> str:
    assert main(["spectrum", *options]) == 0
    return capsys.readouterr().out


def said(capsys, *options: str) -> list[dict]:
    return json.loads(printed(capsys, *options, "--json"))["spectra"]


def listed(entry: dict) -> np.ndarray:
    """Every eigenvalue as often as its multiplicity."""
    rows = entry["eigenvalues"]
    return np.repeat([x["eigenvalue"] for x in rows], [x["multiplicity"] for x in rows])


def lapack(problem, params) -> np.ndarray:
    return np.linalg.eigvalsh(dense_hessian(problem, params))


def test_the_table_of_a_minimum(capsys):
    lines = printed(capsys, *SMALL, "--losses", "ce").splitlines()
    assert lines[0] == "K=3, d=3, n=2, λ_W=0.0005, λ_H=0.0005, λ_b=0.01"
    # K=3, d=3: a frame of rank 2 has 2·1 + 1 rotations.
    assert lines[-3:] == [
        "30 eigenvalues: 0 negative, 3 zero, 27 positive. Rotations explain 3 of the 3 zeros.",
        "Modulo rotations the Hessian is positive definite.",
        "Method: closed_form, at the minimum.",
    ]
    first = next(line.split() for line in lines if line.startswith(" " * 8))
    assert first[:2] in (["eigenvalue", "multiplicity"], ["0", "3"])
    assert os.listdir() == []


def test_a_saddle_and_the_way_down(capsys):
    lines = printed(capsys, *SMALL, "--losses", "ce", "--at", "origin").splitlines()
    # ‖G‖ = 1/(K√n), and with equal decays the smallest eigenvalue is λ − ‖G‖.
    smallest = f"{5e-4 - 1 / (3 * 2**0.5):.6e}"
    assert "6 negative, 0 zero, 24 positive" in lines[-5]
    assert lines[-2:] == [
        f"The smallest eigenvalue is {smallest}.",
        f"Along the theory's escape direction: −2(‖G‖−μ)μ/(λ_W+λ_H) = {smallest}.",
    ]


def test_shifts_of_a_free_bias_are_named(capsys):
    out = printed(capsys, *SMALL, "--losses", "ce", "--lam-b", "0")
    assert "Rotations and shifts of b explain 4 of the 4 zeros." in out


@pytest.mark.parametrize("method", ["auto", "closed_form", "collapsed", "dense"])
def test_every_method_says_the_same(method, capsys):
    (entry,) = said(capsys, *SMALL, "--losses", "ce", "--method", method)
    point = global_minimum(PROBLEM).params(jax.random.key(5))
    np.testing.assert_allclose(listed(entry), lapack(PROBLEM, point), atol=1e-11)
    assert (entry["negative"], entry["zero"], entry["positive"]) == (0, 3, 27)
    assert entry["definite_modulo_rotations"] is True
    assert entry["complete"] is True
    assert entry["escape_curvature"] is None


def test_dense_at_an_imbalanced_origin(capsys):
    options = ["--losses", "ce", "--counts", "4", "2", "1", "--dim", "4", "--at", "origin"]
    (entry,) = said(capsys, *options, "--method", "dense")
    problem = Problem(CrossEntropy(), (4, 2, 1), 4, 5e-4, 5e-4, 1e-2)
    np.testing.assert_allclose(listed(entry), lapack(problem, origin(problem)), atol=1e-12)
    (other,) = said(capsys, *options)
    np.testing.assert_allclose(listed(other), listed(entry), atol=1e-9)
    assert other["method"] == "collapsed"


def test_many_eigenvalues_are_cut_in_the_middle(monkeypatch, capsys):
    monkeypatch.setattr("ufm.report.spectra.table.MOST", 26)
    point = init_params(make(CrossEntropy(), lam_b=1e-2), jax.random.key(0))
    file = stored(point)
    (entry,) = said(capsys, file)
    values = [row["eigenvalue"] for row in entry["eigenvalues"]]
    lines = printed(capsys, file, "--out", "folder").splitlines()[:-1]
    rows = rows_of(Path("folder/table.tex").read_text(encoding="utf-8"))
    assert rows.pop(12) == ["", r"$\vdots$", f"{len(values) - 24} more", "", ""]
    ends = [*values[:12], *values[-12:]]
    np.testing.assert_allclose([number_of(row[1]) for row in rows], ends, rtol=1e-4)
    (cut,) = [i for i, line in enumerate(lines) if line.split()[:1] == ["…"]]
    assert lines[cut].split()[1:3] == [f"{len(values) - 24}", "more"]
    shown = [float(lines[i].split()[0]) for i in [*range(cut - 12, cut), *range(cut + 1, cut + 13)]]
    np.testing.assert_allclose(shown, ends, rtol=1e-6)
    assert lines[-2].startswith("Method: dense")


def stored(params, name: str = "layer.npz", **changes) -> str:
    arrays = {
        "W": params.W,
        "H": params.H,
        "b": params.b,
        "labels": [0, 0, 1, 1, 2, 2],
        "lam_w": 2e-2,
        "lam_h": 5e-3,
        "lam_b": 1e-2,
        "loss": "ce",
    } | changes
    np.savez(name, **{k: x for k, x in arrays.items() if x is not None})
    return name


def test_a_last_layer(capsys):
    problem = make(CrossEntropy(), lam_b=1e-2)
    point = minimiser(problem)
    (entry,) = said(capsys, stored(point))
    np.testing.assert_allclose(listed(entry), lapack(problem, point), atol=1e-9)
    assert entry["method"] == "collapsed"
    assert entry["lam_w"] == 2e-2


def test_a_solution_that_solve_stored(capsys):
    assert main(["solve", *SMALL, "--losses", "ce", "--starts", "2", "--out", "run"]) == 0
    capsys.readouterr()
    (entry,) = said(capsys, "run/ce.npz")
    assert (entry["loss"], entry["dim"], entry["class_counts"]) == ("ce", 3, [2, 2, 2])
    assert entry["lam_b"] == 1e-2
    expected = lapack(PROBLEM, global_minimum(PROBLEM).params(jax.random.key(0)))
    np.testing.assert_allclose(listed(entry), expected, atol=1e-6)
    assert (entry["negative"], entry["zero"]) == (0, 3)
    for save, word in (("none", "has no W and H"), ("all", "holds the W and H of 2 starts")):
        options = ["--losses", "ce", "--starts", "2", "--save", save, "--out", save]
        assert main(["solve", *SMALL, *options]) == 0
        capsys.readouterr()
        assert word in refused(capsys, f"{save}/ce.npz")


def test_files_read_back_to_the_same_numbers(capsys):
    options = [*SMALL, "--losses", "ce", "mse", "--out", "folder"]
    out = printed(capsys, *options)
    assert out.endswith("Results: folder\n")
    names = ["config.json", "spectrum.csv", "spectrum.json", "spectrum.npz", "table.tex"]
    assert sorted(os.listdir("folder")) == names
    entries = json.loads(Path("folder/spectrum.json").read_text())["spectra"]
    values = [row["eigenvalue"] for entry in entries for row in entry["eigenvalues"]]
    with np.load("folder/spectrum.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["eigenvalues"], values)
        for entry in entries:
            chosen = arrays["loss"] == entry["loss"]
            assert arrays["multiplicities"][chosen].sum() == entry["dimension"] == 30
            rows = entry["eigenvalues"]
            assert arrays["labels"][chosen].tolist() == [row["label"] for row in rows]
            assert all(row["parts"] for row in rows)
            assert arrays["residuals"][chosen].tolist() == [row["residual"] for row in rows]
    with open("folder/spectrum.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    np.testing.assert_array_equal([float(row["eigenvalue"]) for row in table], values)
    # Its configuration repeats it, now with figures.
    printed(capsys, "--config", "folder/config.json", "--out", "again", "--figures")
    again = Path("again/spectrum.csv").read_bytes()
    assert again == Path("folder/spectrum.csv").read_bytes()
    assert set(os.listdir("again/figures")) == names_of("spectrum")


def test_the_table_for_a_paper_has_the_rows_of_the_json(capsys, tmp_path):
    printed(capsys, *SMALL, "--losses", "ce", "fl:2", "--out", "folder")
    entries = json.loads(Path("folder/spectrum.json").read_text())["spectra"]
    table = Path("folder/table.tex").read_text(encoding="utf-8")
    rows = iter(rows_of(table))
    for entry, label in zip(entries, ("CE", r"FL ($\gamma=2$)"), strict=True):
        assert f"% {entry['label']}: closed_form, at the minimum." in table
        for i, expected in enumerate(entry["eigenvalues"]):
            loss, *numbers, origin = next(rows)
            assert (loss, origin) == ("" if i else label, expected["label"])
            value, multiplicity, error = map(number_of, numbers)
            exact = expected["eigenvalue"]
            assert value == pytest.approx(0.0 if abs(exact) <= entry["zero_tol"] else exact, 5.1e-5)
            assert multiplicity == expected["multiplicity"]
            assert error == pytest.approx(expected["residual"], 0.051, abs=0.0)
    assert next(rows, None) is None
    compile_table(table, tmp_path)


def test_along_a_run(capsys):
    options = [*SMALL, "--losses", "ce", "--along", "run", "--points", "3"]
    (entry,) = said(capsys, *options, "--out", "folder", "--figures")
    assert len(entry["step"]) == 3
    names = ("negative", "zero", "positive", "rotations")
    assert [sum(x) for x in zip(*(entry[name] for name in names), strict=True)] == [30, 30, 30]
    assert entry["negative"][0] > 0
    assert [entry[name][-1] for name in names] == [0, 0, 27, 3]
    start = init_params(PROBLEM, jax.random.key(0), 0.1, 1)
    dense = lapack(PROBLEM, jax.tree.map(lambda x: x[0], start))
    # Three directions are left out: Cauchy's interlacing (`ufm.spectra` has its own oracle).
    error = entry["error"][0]
    assert dense[0] - error <= entry["smallest"][0] <= dense[3] + error
    assert dense[-4] - error <= entry["largest"][0] <= dense[-1] + error
    assert "spectrum-along.png" in os.listdir("folder/figures")
    with np.load("folder/spectrum.npz") as arrays:
        np.testing.assert_array_equal(arrays["negative"], entry["negative"])
    rows = rows_of(Path("folder/table.tex").read_text(encoding="utf-8"))
    assert [row[0] for row in rows] == ["CE", "", ""]
    names = ("step", "value", "smallest", "largest", "negative", "zero", "positive")
    columns = zip(*([number_of(cell) for cell in row[1:]] for row in rows), strict=True)
    for name, column in zip(names, columns, strict=True):
        np.testing.assert_allclose(column, entry[name], rtol=5.1e-5)


def refused(capsys, *options: str) -> str:
    return complaint(capsys, "spectrum", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--losses hinge", "unknown loss 'hinge'"),
        ("--seed 3", "--seed is for a run: add --along run"),
        ("--along run --at origin", "--at is for one point: leave it out with --along run"),
        ("--along run --points 1", "--points must be at least 2, got 1"),
        ("--along run --scale nan", "--scale must be non-negative and finite, got nan"),
        ("--along run --num-classes 3 --dim 3 --per-class 2 --scale 1e200", "entries overflow"),
        ("--along run --seed -1", "--seed must be in [0, 2^32), got -1"),
        ("none.npz", "none.npz does not exist"),
        ("none.npz --at origin", "none.npz is a point with its own problem: leave out --at"),
        ("none.npz --lam-w 1", "none.npz is a point with its own problem: leave out --lam-w"),
        ("--lam-h 0 --losses ce", "with lam_w or lam_h = 0 there may be no minimum"),
        ("--method dense --losses ce", "as a matrix it would need 2.1 GB"),
        ("--method closed_form --counts 3 2 1", "the closed form is known for balanced"),
        ("--at top", "invalid choice 'top' for argument '--at'"),
    ],
)
def test_bad_options(options, message, capsys):
    assert message in refused(capsys, *options.split(), "--out", "folder")


def test_figures_need_a_folder(capsys):
    assert refused(capsys, "--figures") == "--figures needs a folder: add --out FOLDER"


def test_points_that_a_method_is_not_for(capsys):
    point = init_params(make(CrossEntropy(), lam_b=1e-2), jax.random.key(0))
    assert "the point is not collapsed" in refused(
        capsys, stored(point), "--method", "collapsed", "--out", "folder"
    )
    broken = stored(point, W=np.full((3, 4), np.nan))
    assert "W has 12 of 12 entries NaN" in refused(capsys, broken)
    assert refused(capsys, stored(point, lam_w=None)).endswith(": add it")


def test_a_folder_of_something_else_is_left_alone(capsys):
    Path("mine").mkdir()
    Path("mine/notes").write_text("precious")
    assert "holds no ufm results" in refused(capsys, *SMALL, "--losses", "ce", "--out", "mine")
    assert os.listdir("mine") == ["notes"]
