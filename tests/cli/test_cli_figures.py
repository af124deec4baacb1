"""What `ufm solve` draws: from the folder alone, for whatever runs it holds."""

import csv
import os
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from figures import names_of

from ufm._support.quick_jit import counted_anew
from ufm.cli import main

#: What test_cli.py uses, so that the programs are compiled once.
SMALL = ["--num-classes", "3", "--dim", "3", "--per-class", "2", "--starts", "2", "--losses", "ce"]
NAMES = ("angles", "collapse", "convergence", "features", "gram", "singular-values")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    yield
    jax.config.update("jax_enable_x64", True)


def solve(*options: str) -> int:
    return main(["solve", *SMALL, "--out", "run", *options])


def draw(*options: str) -> int:
    with counted_anew():  # as in a process of its own
        return solve("--figures", *options)


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("run/figures").iterdir())}


def table(name: str) -> list[dict[str, str]]:
    with open(f"run/figures/{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_figures_show_what_is_stored(capsys):
    assert draw() == 0
    assert set(contents()) == names_of(*NAMES)
    assert r"CE & simplex ETF & 2/2" in Path("run/table.tex").read_text()
    with np.load("run/ce.npz") as arrays:
        stored = dict(arrays)
    gradients = [float(row["gradient_norm"]) for row in table("convergence")]
    np.testing.assert_array_equal(
        gradients, stored["history_grad_norm"][stored["history_step"] >= 0]
    )
    # The run drawn is the one with the lowest f, whose W is stored.
    W = stored["W"]
    found = np.array([float(row["classifier"]) for row in table("gram")]).reshape(3, 3)
    np.testing.assert_allclose(found, W @ W.T * 3 / np.sum(W**2), rtol=1e-13)
    ends = {int(row["step"]) for row in table("collapse")}
    assert max(ends) == stored["history_step"][stored["start"]].max()


def test_a_finished_run_is_drawn_again_without_being_solved(monkeypatch, capsys):
    assert draw("--save", "none") == 0
    assert "Figures:" not in capsys.readouterr().out
    before = contents()
    for path in Path("run/figures").iterdir():
        path.unlink()
    monkeypatch.setattr("ufm.cli.solve.Solve._solve", pytest.fail)
    assert draw("--save", "none") == 0
    assert contents() == before


def test_figures_are_drawn_by_the_command_that_is_printed(monkeypatch, capsys):
    folder = "a folder/run"
    assert main(["solve", *SMALL, "--lam-b", "None", "--out", folder]) == 0
    assert not Path(folder, "figures").exists()
    assert Path(folder, "table.tex").exists()
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Figures: ufm ")]
    assert len(said) == 1
    monkeypatch.setattr("ufm.cli.solve.Solve._solve", pytest.fail)
    assert main(shlex.split(said[0])[2:]) == 0
    assert {path.name for path in Path(folder, "figures").iterdir()} == names_of(*NAMES)


@pytest.mark.repeats
@pytest.mark.parametrize(
    "options",
    [
        ["--scale", "1e200"],  # not a number anywhere
        ["--scale", "0"],  # no direction anywhere
        ["--max-steps", "0"],  # a run of one point
        ["--lam-w", "0"],  # no minimum is known
        ["--dim", "1"],  # no plane to see the classes in
        ["--counts", "3", "2", "1"],
        ["--float32"],
    ],
    ids=" ".join,
)
def test_runs_of_any_kind_can_be_drawn(options, capsys):
    assert draw(*options) == 0
    seen = set(NAMES) - ({"features"} if options in (["--dim", "1"],) else set())
    assert set(contents()) == names_of(*seen)


def test_what_cannot_be_read_or_written_is_one_line(capsys):
    assert solve() == 0
    results = Path("run/results.json").read_bytes()
    capsys.readouterr()
    whole = Path("run/ce.npz").read_bytes()
    for broken, word in ((whole[:100], "run/ce.npz cannot be read"), (whole, "run/figures: ")):
        Path("run/ce.npz").write_bytes(broken)
        Path("run/figures").write_text("a file")
        with pytest.raises(SystemExit) as stop:
            draw()
        assert stop.value.code == 2
        lines = [x for x in capsys.readouterr().err.splitlines() if "already in" not in x]
        assert len(lines) == 1
        assert lines[0].startswith(f"ufm: error: {word}")
    # The numbers are safe.
    assert Path("run/results.json").read_bytes() == results


def test_an_interruption_while_drawing_loses_no_numbers(monkeypatch, capsys):
    replace = os.replace

    def stopped(source, target) -> None:
        if Path(target).suffix == ".pdf":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("ufm._support.atomic_files.os.replace", stopped)
        assert draw() == 130
    assert Path("run/results.json").exists()
    assert draw() == 0
    assert set(contents()) == names_of(*NAMES)
