"""The command: what it prints, what it writes, and how it says no."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ufm import Params, Problem, objective, parse_loss
from ufm.cli import main

SMALL = ["--num-classes", "3", "--dim", "3", "--per-class", "2", "--starts", "2"]


@pytest.fixture(autouse=True)
def _keep_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def solve(*options: str) -> int:
    return main(["solve", *SMALL, *options])


def test_results_are_whole_and_reproduce_the_value(tmp_path, capsys):
    out = tmp_path / "run"
    assert solve("--losses", "ce", "fl:2", "--out", str(out)) == 0
    table = capsys.readouterr().out
    assert "4 of 4 runs ended at a proven global minimum" in table
    report = json.loads((out / "results.json").read_text())
    assert [entry["loss"] for entry in report["losses"]] == ["ce", "fl:2.0"]
    for entry in report["losses"]:
        with np.load(out / f"{entry['loss'].replace(':', '_')}.npz", allow_pickle=False) as arrays:
            problem = Problem(parse_loss(entry["loss"]), (2,) * 3, 3, 5e-4, 5e-4, 1e-2)
            point = Params(*(jnp.asarray(arrays[name]) for name in "WHb"))
            best = min(run["value"] for run in entry["runs"])
            assert float(objective(problem, point)) == pytest.approx(best, rel=1e-14)
        assert all(run["verdict"] == "GLOBAL_MINIMUM" for run in entry["runs"])
        assert entry["minimum"]["value"] == pytest.approx(entry["runs"][0]["value"], rel=1e-12)


def test_json_is_all_that_standard_output_gets(tmp_path, capsys):
    assert solve("--losses", "mse", "--json", "--lam-b", "None", "--out", str(tmp_path / "a")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["losses"][0]["minimum"]["kind"] == "orthogonal frame"
    assert report["config"]["lam_b"] is None


def test_a_finished_loss_is_not_computed_again(tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "run")
    assert solve("--losses", "ce", "--out", out) == 0
    before = capsys.readouterr().out
    monkeypatch.setattr("ufm.cli.solve.Solve._solve", pytest.fail)
    assert solve("--losses", "ce", "--out", out) == 0
    captured = capsys.readouterr()
    assert captured.out == before
    assert "already in" in captured.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--lam-w", "-1"], "lam_w"),
        (["--lam-h", "nan"], "lam_h"),
        (["--losses", "ls:1"], "alpha"),
        (["--losses", "hinge"], "unknown loss"),
        (["--losses", "fl:x"], "fl:x"),
        (["--losses", "ce", "CE"], "twice"),
        (["--counts", "5", "0"], "class_counts"),
        (["--counts", "5"], "class_counts"),
        (["--starts", "0"], "--starts"),
        (["--dim", "0"], "dim"),
        (["--scale", "-1"], "--scale"),
        (["--tol", "nan"], "tol"),
        (["--gap-tol", "2"], "tol"),
        (["--max-steps", "-5"], "max_steps"),
        (["--seed", str(2**70)], "--seed"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(options, word, tmp_path, capsys):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        solve(*options, "--out", str(out))
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("ufm: error: ")
    assert word in message
    assert message.count("\n") == 1
    assert not out.exists()


def test_a_misspelt_option_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        solve("--lam-v", "1")
    assert stop.value.code == 2
    assert "lam-w" in "".join(capsys.readouterr())


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    for path in (out, out / "thesis.tex"):
        with pytest.raises(SystemExit) as stop:
            solve("--losses", "ce", "--out", str(path))
        assert stop.value.code == 2
        assert "choose another --out" in capsys.readouterr().err
    assert (out / "thesis.tex").read_text() == "precious"
    assert sorted(entry.name for entry in out.iterdir()) == ["thesis.tex"]


def test_another_configuration_in_the_same_folder_is_refused(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert solve("--losses", "ce", "--out", out) == 0
    with pytest.raises(SystemExit) as stop:
        solve("--losses", "ce", "--seed", "1", "--out", out)
    assert stop.value.code == 2
    assert "another configuration" in capsys.readouterr().err


def test_help_does_not_wait_for_jax():
    code = (
        "import sys, ufm.cli\n"
        "try: ufm.cli.main(['solve', '--help'])\n"
        "except SystemExit as stop: assert stop.code in (0, None)\n"
        "assert not {'jax', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "weight decay of the classifier" in shown.stdout.lower()


def interrupted(running: subprocess.Popen) -> str:
    """What a process says on Ctrl-C, pressed again if it goes on.

    Python drops an interrupt that arrives inside a weak reference's callback, as JAX has many.
    """
    said: list[str] = []

    def read() -> None:
        for line in running.stderr or ():
            said.append(line)

    reader = threading.Thread(target=read)
    with running:
        reader.start()
        # Not again once it has answered: a second one could hit it while it ends.
        while reader.is_alive() and not any("Interrupted" in line for line in said):
            running.send_signal(signal.SIGINT)
            reader.join(6)
        reader.join()
    return "".join(said)


def test_an_interrupted_run_keeps_what_it_has_and_continues(tmp_path, capsys):
    out = tmp_path / "run"
    # Enough after the first and second loss that a signal never comes too late.
    later = [f"fl:{gamma}" for gamma in range(1, 8)]
    # What a shell starts in the background inherits a SIGINT that is ignored.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ufm.cli import main; raise SystemExit(main())"
    )
    options = ["--losses", "ce", "mse", *later, "ls", "--out", str(out)]
    command = [sys.executable, "-c", program, "solve", *SMALL, *options]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(out / "ce.json", running)
    said = interrupted(running)
    assert running.returncode == 130
    assert "Continue with --out" in said
    assert "Traceback" not in said
    finished = (out / "ce.json").read_bytes()

    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(out / "mse_1.0_1.0.json", running)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(timeout=60)

    assert solve(*options) == 0
    assert "20 of 20 runs ended at a proven global minimum" in capsys.readouterr().out
    assert (out / "ce.json").read_bytes() == finished


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, "the command ended early"
        assert time.monotonic() < deadline
        time.sleep(0.05)
