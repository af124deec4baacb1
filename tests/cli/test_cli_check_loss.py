"""`ufm check-loss`: what it prints and draws, a function of a module, and how it says no."""

import json
from pathlib import Path

import numpy as np
import pytest
from tex import compile_table, number_of, rows_of

from ufm.cli import main
from ufm.loss_check.report import check_loss
from ufm.report import style
from ufm.report.loss_check.figure import loss_figure

MINE = """
import jax

def mine(z, k):
    return jax.nn.logsumexp(z) - z[k]

def vector(z, k):
    return z

number = 5
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checked_losses.py").write_text(MINE)


def printed(capsys, *options: str) -> str:
    assert main(["check-loss", *options]) == 0
    return capsys.readouterr().out


def test_json_says_what_the_report_says(capsys):
    found = json.loads(printed(capsys, "gce:0.7", "--num-classes", "4", "--starts", "2", "--json"))
    report = check_loss("gce:0.7", 4, num_starts=0)
    assert found["threshold"] == report.threshold
    assert found["answers"]["contrastive"]["answer"] == "yes"
    assert found["answers"]["convex"]["witness"]["eigenvalue"] < 0
    assert [p["kind"] for p in found["predictions"]] == ["simplex ETF", "simplex ETF"]
    assert all(len(o["values"]) == 2 for o in found["outcomes"])


def test_the_folder_has_the_report_the_table_and_the_figure(capsys, tmp_path):
    options = ["mae", "--num-classes", "4", "--starts", "2", "--out", "mae", "--figures"]
    assert "Results: mae" in printed(capsys, *options)
    told = json.loads(Path("mae/loss.json").read_text())
    table = Path("mae/table.tex").read_text()
    compared = dict(rows_of(table))
    assert compared["convex"] == told["answers"]["convex"]["answer"] == "no"
    assert number_of(compared[r"collapse up to $K\sqrt n\,\mu=$"]) == pytest.approx(
        told["threshold"], rel=1e-4
    )
    second = rows_of(table.split("bigskip")[1])
    for row, prediction, outcome in zip(second, told["predictions"], told["outcomes"], strict=True):
        assert row[1] == prediction["kind"]
        shown = [number_of(cell) for cell in (row[0], *row[2:4])]
        exact = [prediction["decay"], prediction["value"], outcome["best"]]
        np.testing.assert_allclose(shown, exact, rtol=1e-4)
    drawn = {path.name for path in Path("mae/figures").iterdir()}
    assert drawn == {f"loss.{kind}" for kind in ("csv", "pdf", "png", "svg", "tex")}
    compile_table(table, tmp_path)


def test_the_figure_shows_profile_convexity_and_phases():
    report = check_loss("mae", 4, num_starts=0)
    with style():
        profile, convexity, phases = loss_figure(report).axes
    s, value = (np.asarray(x) for x in profile.lines[0].get_data())
    np.testing.assert_allclose(value, 1 - 1 / (1 + 3 * np.exp(-s)), atol=1e-14)
    # The envelope is the chord up to the tie, and nowhere above the profile.
    assert np.all(np.asarray(profile.lines[1].get_ydata()) <= value + 1e-14)
    p, bend = (np.asarray(x) for x in convexity.lines[1].get_data())
    np.testing.assert_allclose(bend, p * (1 - p) * (2 * p - 1), atol=1e-12)
    decay, lowest = (np.asarray(x) for x in phases.lines[0].get_data())
    beyond = decay > report.threshold
    np.testing.assert_allclose(lowest[beyond], 0.75, atol=1e-12)
    assert np.all(lowest[~beyond] < 0.75)


def test_a_function_of_a_module_here(capsys):
    said = printed(capsys, "checked_losses:mine", "--num-classes", "4", "--starts", "0")
    assert said.startswith("mine, K = 4, no bias")
    assert "equivariant: undecided" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("hinge", "unknown loss 'hinge'"),
        ("nowhere:mine", "there is no module nowhere"),
        ("mine.py:loss", "name the module without .py, mine:loss"),
        ("checked_losses:yours", "checked_losses has no function yours"),
        ("checked_losses:number", "number in checked_losses is not a function"),
        ("checked_losses:vector", "vector must return one number"),
        ("ce --num-classes 1", "num_classes must be at least 2"),
        ("ce --num-classes 1000000000", "numbers, more than the 8,589,934,592 a run can have"),
        ("ce --lam-b -1", "lam_b must be non-negative"),
        ("ce --seed -1", "seed"),
        ("gce:2", "exponent must be in (0, 1]"),
        ("ce --figures", "--figures needs a folder: add --out FOLDER"),
    ],
)
def test_bad_input_is_one_line(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["check-loss", *options.split()])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_folder_of_something_else_is_refused_before_the_check(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ufm.loss_check.report.check_loss", lambda *_, **__: pytest.fail("checked"))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["check-loss", "ce", "--out", str(tmp_path)])
    assert "holds no ufm results" in capsys.readouterr().err
