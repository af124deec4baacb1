"""The folder of a run: strict JSON, arrays that say the same, and repairs after interruptions."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from model_oracle import objective_and_gradient

from ufm import Params, Problem, parse_loss
from ufm.cli import main

#: What test_cli.py uses, so that the programs are compiled once.
SMALL = ["--num-classes", "3", "--dim", "3", "--per-class", "2", "--starts", "2"]
FIRST = ["--losses", "ce", "--out", "run"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    yield
    jax.config.update("jax_enable_x64", True)


def solve(*options: str) -> int:
    return main(["solve", *SMALL, *options])


def refused(capsys, *options: str) -> str:
    """The one line on standard error of a command that ends with 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        solve(*options)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ufm: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def strict(path: Path | str):
    def no_constants(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=no_constants)


def arrays(path: Path | str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def names(folder: str = "run") -> list[str]:
    return sorted(os.listdir(folder))


# What is written ---------------------------------------------------------------------------------


def test_the_arrays_of_every_run_say_what_the_json_says(capsys):
    assert solve("--losses", "ce", "--save", "all", "--seed", "3", "--out", "run") == 0
    assert names() == ["ce.json", "ce.npz", "config.json", "results.json", "table.tex"]
    stored, (entry,) = arrays("run/ce.npz"), strict("run/results.json")["losses"]
    assert strict("run/ce.json") == entry
    assert strict("run/config.json") == strict("run/results.json")["config"]
    assert list(stored["labels"]) == [0, 0, 1, 1, 2, 2]
    assert stored["W"].shape == (2, 3, 3)
    assert stored["history_value"].shape == (2, 256)
    problem = Problem(parse_loss("ce"), (2, 2, 2), 3, 5e-4, 5e-4, 1e-2)
    for i, run in enumerate(entry["runs"]):
        point = Params(*(jax.numpy.asarray(stored[name][i]) for name in "WHb"))
        value, gradient = objective_and_gradient(problem, point)
        assert run["value"] == stored["value"][i] == pytest.approx(value, rel=1e-14, abs=0)
        assert run["grad_norm"] == pytest.approx(np.linalg.norm(gradient), abs=1e-15)
        assert (run["start"], run["status"], run["verdict"]) == (i, "CONVERGED", "GLOBAL_MINIMUM")
        assert (run["gap"], 0) == (stored["gap"][i], stored["verdict"][i])
        steps = stored["history_step"][i]
        assert steps[steps >= 0][-1] == run["steps"]
    assert entry["verdicts"]["GLOBAL_MINIMUM"] == entry["geometry_matches"] == 2


def test_nothing_or_the_best_run_is_saved():
    without_bias = ["--losses", "mse", "--lam-b", "None", "--max-steps", "2"]
    assert solve(*without_bias, "--save", "none", "--out", "none") == 0
    assert not {"W", "H", "b", "start"} & set(arrays("none/mse_1.0_1.0.npz"))
    assert solve(*without_bias, "--out", "best") == 0
    stored = arrays("best/mse_1.0_1.0.npz")
    assert {"W", "H", "start"} <= set(stored)
    assert "b" not in stored
    assert stored["value"][stored["start"]] == min(stored["value"]) < max(stored["value"])
    problem = Problem(parse_loss("mse"), (2, 2, 2), 3, 5e-4, 5e-4, None)
    point = Params(jax.numpy.asarray(stored["W"]), jax.numpy.asarray(stored["H"]), None)
    value = objective_and_gradient(problem, point)[0]
    assert value == pytest.approx(min(stored["value"]), rel=1e-14, abs=0)


def test_seeds_and_scales_reach_the_starts():
    values = []
    for options in (["--seed", "0"], ["--seed", "1"], ["--scale", "0.2"]):
        folder = "".join(options).strip("-")
        assert solve("--losses", "ce", "--max-steps", "0", *options, "--out", folder) == 0
        values.append(arrays(f"{folder}/ce.npz")["value"])
    assert len(np.unique(values)) == 6  # two starts each, all different


def test_runs_without_a_number_leave_null_and_a_table(capsys):
    assert solve("--losses", "ce", "--scale", "1e200", "--out", "run") == 0
    (entry,) = strict("run/results.json")["losses"]
    for run in entry["runs"]:
        assert (run["status"], run["verdict"]) == ("NON_FINITE", "UNDECIDED")
        assert run["gap"] is run["value"] is None
    assert len(arrays("run/ce.npz")["value"]) == 2
    table = capsys.readouterr().out
    assert "0 of 2 runs ended at a proven global minimum" in table
    assert "NON_FINITE" in table


def test_runs_in_single_precision_are_finished_and_certified_in_double():
    assert solve("--losses", "ce", "--float32", "--out", "run") == 0
    (entry,) = strict("run/results.json")["losses"]
    assert entry["dtype"] == "float64"
    assert all(run["verdict"] == "GLOBAL_MINIMUM" for run in entry["runs"])
    assert all(run["gap"] < 1e-7 for run in entry["runs"])
    assert entry["minimum"]["kind"] == "simplex ETF"
    assert entry["geometry_matches"] == 2


def test_a_folder_with_a_time_is_made_where_none_is_given():
    for seed in ("0", "1"):  # both within a second
        assert solve("--losses", "ce", "--max-steps", "0", "--seed", seed) == 0
    folders = names("ufm-results")
    assert len(folders) == 2
    for folder in folders:
        assert folder.startswith("solve-")
        assert "results.json" in names(f"ufm-results/{folder}")


# After an interruption ---------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["config.json", "ce.npz", "ce.json", "results.json"])
def test_a_stop_before_any_file_is_in_place_can_be_continued(last, monkeypatch, capsys):
    replace = os.replace

    def stopped(source, target) -> None:
        if Path(target).name == last:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("ufm._support.atomic_files.os.replace", stopped)
        assert solve(*FIRST) == 130
    assert last not in names()
    assert f"{last}.part" in names()
    capsys.readouterr()
    assert solve(*FIRST) == 0
    said = capsys.readouterr().err
    # Only what was whole is taken over.
    assert ("already in" in said) == (last == "results.json")
    assert names() == ["ce.json", "ce.npz", "config.json", "results.json", "table.tex"]
    assert len(strict("run/results.json")["losses"]) == 1


@pytest.mark.parametrize("broken", ["config.json", "ce.json"])
def test_a_file_that_is_not_whole_is_named(broken, capsys):
    assert solve("--max-steps", "0", *FIRST) == 0
    Path("run", broken).write_text('{"losses": [')
    assert f"{Path('run', broken)} cannot be read" in refused(capsys, "--max-steps", "0", *FIRST)


@pytest.mark.parametrize("field", ["runs", "verdicts", "minimum", "label"])
def test_a_field_that_is_missing_is_named_with_its_file(field, capsys):
    assert solve("--max-steps", "0", *FIRST) == 0
    entry = json.loads(Path("run/ce.json").read_text())
    del entry[field]
    Path("run/ce.json").write_text(json.dumps(entry))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        solve("--max-steps", "0", *FIRST)
    assert stop.value.code == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert f"run/ce.json cannot be read (the field {field!r} is missing): remove it" in said


def test_an_empty_folder_is_as_good_as_none():
    os.mkdir("run")
    assert solve("--max-steps", "0", *FIRST) == 0
    assert "results.json" in names()


def test_folders_that_cannot_be_written_are_named(monkeypatch, capsys):
    Path("file").write_text("")
    assert "Not a directory" in refused(capsys, "--losses", "ce", "--out", "file/run")

    def full(*_) -> None:
        raise OSError(28, "No space left on device", "run/config.json.part")

    monkeypatch.setattr("ufm._support.atomic_files.os.fsync", full)
    assert "No space left on device" in refused(capsys, *FIRST)


# The process -------------------------------------------------------------------------------------


def test_the_installed_command_runs_where_the_locale_knows_no_greek():
    command = Path(sys.executable).with_name("ufm")
    environment = {
        **os.environ,
        "LC_ALL": "POSIX",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    options = ["solve", *SMALL, "--losses", "ls", "--max-steps", "0", "--out", "run"]
    for _ in range(2):  # the second time reads what the first has written
        done = subprocess.run(
            [command, *options], env=environment, capture_output=True, check=False, timeout=240
        )
        assert done.stderr.decode("ascii", "replace").count("error") == 0
        assert done.returncode == 0
    assert strict("run/results.json")["losses"][0]["label"] == "LS(α=0.1)"


def test_versions(capsys):
    assert main(["version"]) == 0
    said = capsys.readouterr().out.split()
    assert said[0] == "ufm"
    assert jax.__version__ in said


def test_the_package_runs_as_the_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ufm", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("ufm", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("ufm ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["slove"],
        ["solve", "--seed", "x"],
        ["solve", "--counts", "2.5", "3"],
        ["solve", "--method", "sgd"],
        ["solve", "--lam-b"],
        ["solve", "--dim", "3", "surplus"],
    ],
)
def test_arguments_that_cannot_be_read_end_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err
    assert "Traceback" not in captured.err
    assert os.listdir() == []
