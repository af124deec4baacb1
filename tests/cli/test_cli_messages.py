"""Golden messages of `ufm solve`: bad input is one line on standard error, code 2, no files."""

import os
from pathlib import Path

import pytest

from ufm.cli import main
from ufm.cli.parsing.complaint import condense

LOSSES = (
    "ce, ls:ALPHA, fl:GAMMA or mse:SCALE,TARGET, or poly, gce, sce, taylor, mae, brier, nl, cce, "
    "cot, bitempered, cs, ww, bce, temperature, logitnorm"
)
GOLDEN = {
    "--lam-w nan": "lam_w must be non-negative and finite, got nan",
    "--lam-h inf": "lam_h must be non-negative and finite, got inf",
    "--lam-b -1": "lam_b must be non-negative and finite, got -1.0",
    "--losses ls:1": "alpha must be in [0, 1), got 1.0",
    "--losses ls:nan": "alpha must be in [0, 1), got nan",
    "--losses fl:inf": "gamma must be non-negative and finite, got inf",
    "--losses mse:0,1": "scale must be positive and finite, got 0.0",
    "--losses ce:1": "loss 'ce:1': ce takes no number, got 1",
    "--losses hinge": f"unknown loss 'hinge': choose {LOSSES}",
    "--losses": f"--losses needs at least one loss: {LOSSES}",
    "--counts 5 0": "class_counts must be a positive whole number, got 0",
    "--per-class 0": "--per-class must be at least 1, got 0",
    "--num-classes 0": "--num-classes must be at least 1, got 0",
    "--num-classes 1": "class_counts needs at least 2 classes, got 1",
    "--dim 0": "dim must be a positive whole number, got 0",
    "--num-classes 99999999999": (
        "99,999,999,999 classes, 9,999,999,999,900 samples and 16 dimensions make "
        "161,599,999,998,384 numbers, more than the 8,589,934,592 a run can have"
    ),
    "--per-class 1000000000000": (
        "10 classes, 10,000,000,000,000 samples and 16 dimensions make 160,000,000,000,160 "
        "numbers, more than the 8,589,934,592 a run can have"
    ),
    "--lam-hidden 0.1 --method lbfgs": (
        "method 'lbfgs' is not for problems with hidden layers; choose one of: newton, "
        "gradient_descent"
    ),
    "--scale nan": "--scale must be non-negative and finite, got nan",
    "--out file": "file exists and holds no ufm results: choose another --out",
    "--out file/run": "file/run cannot be written (Not a directory): choose another --out",
    "--dimm 3": "Unrecognized options: --dimm, 3; perhaps you meant --dim; see ufm --help",
    "--dim 3 surplus": "Unrecognized options: surplus; see ufm --help",
    "--dim": "Missing value for argument '--dim'. Expected 1 values; see ufm solve --help",
    "--method sgd": (
        "invalid choice 'sgd' for argument '--method'. Expected one of ('newton', 'lbfgs', "
        "'gradient_descent', 'heavy_ball', 'nesterov', 'adam'); see ufm solve --help"
    ),
}


def complaint(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("options", GOLDEN)
def test_bad_options_of_solve(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("file").write_text("precious")
    assert complaint(capsys, "solve", *options.split()) == f"ufm: error: {GOLDEN[options]}\n"
    assert os.listdir() == ["file"]
    assert Path("file").read_text() == "precious"


def test_memory_that_is_not_there_is_one_line(monkeypatch, capsys):
    def run(_):
        raise MemoryError

    monkeypatch.setattr("ufm.cli.solve.Solve.run", run)
    assert complaint(capsys, "solve") == "ufm: error: not enough memory: make the problem smaller\n"


def test_misspelt_commands(capsys):
    said = complaint(capsys, "slove")
    assert said.startswith("ufm: error: Unrecognized options: slove; available subcommands: solve")
    assert "see ufm --help" in said


def test_a_complaint_loses_its_box_and_what_python_calls_things():
    box = """\
╭─ Value error ─────────────────────────╮
│ Error parsing --lam-w: no type        │
│ matching FLOAT.                       │
│                                       │
│ Got errors:                           │
│ - <class 'float'>: could not convert  │
│ ───────────────────────────────────── │
│ Argument helptext:                    │
│     --lam-w FLOAT                     │
│ ───────────────────────────────────── │
│ For full helptext, see ufm --help     │
╰───────────────────────────────────────╯
"""
    said = "Error parsing --lam-w: no type matching FLOAT; see ufm --help"
    assert condense(box) == said
    plain = [line.replace("│", " ").replace("─", "-") for line in box.splitlines()[1:-1]]
    assert condense("\n".join([" Value error", " " + "-" * 30, *plain])) == said
    assert condense("no box at all\n") == "no box at all"
