"""Losses in processes of their own: the same bytes, errors, interrupts and deaths."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import parent_process
from pathlib import Path

import pytest

from ufm.cli import main
from ufm.cli.workers import Workers
from ufm.solvers._solve import _newton

SMALL = ("--num-classes", "3", "--per-class", "2", "--dim", "3", "--starts", "20")


def square(number, advance):
    for _ in range(number):
        advance()
    return number**2


def fail(number, advance):
    if number == 2:
        raise ValueError(f"{number} cannot be done")
    work_for_ever(None, advance)


def die(advance):
    if parent_process():
        os.kill(os.getpid(), signal.SIGKILL)
    work_for_ever(None, advance)


def work_for_ever(folder, advance):
    while True:
        if folder:
            (Path(folder) / str(os.getpid())).touch()
        advance()
        time.sleep(0.01)


def nothing():
    return None


@pytest.mark.parametrize("helpers", [0, 1])
def test_tasks_begin_in_their_order_and_each_advances_its_own_bar(helpers):
    begun, steps = [], []

    def on_begin(i):
        begun.append(i)
        return lambda: steps.append(i)

    with Workers(helpers, square) as workers:
        found = dict(workers.results([(n,) for n in (5, 1, 3, 2)], on_begin))
        assert found == {0: 25, 1: 1, 2: 9, 3: 4}
        assert [steps.count(i) for i in range(4)] == [5, 1, 3, 2]
        assert begun == [0, 1, 2, 3]
        assert dict(workers.results([(7,)], on_begin)) == {0: 49}


def test_processes_prepare_before_they_have_a_task(tmp_path):
    with Workers(1, square, (tmp_path / "prepared").mkdir):
        deadline = time.monotonic() + 60
        while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert any(tmp_path.iterdir())


def test_an_error_of_a_task_is_raised_with_its_traceback():
    with Workers(1, fail) as workers, pytest.raises(ValueError, match="2 cannot be done") as stop:
        list(workers.results([(1,), (2,), (3,)], lambda _: nothing))
    assert "in fail" in stop.value.__notes__[0]


def test_a_killed_process_is_said():
    with Workers(1, die) as workers, pytest.raises(ChildProcessError, match="ended with code -9"):
        list(workers.results([(), ()], lambda _: nothing))


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(how, tmp_path):
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from test_cli_workers import Workers, nothing, work_for_ever\n"
        "with Workers(2, work_for_ever) as workers:\n"
        "    list(workers.results([(sys.argv[1],)] * 3, lambda _: nothing))"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 3
    parent.send_signal(how)
    said = parent.communicate(timeout=60)[1]
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))
    assert said.count("Traceback") == (how is signal.SIGINT)  # the parent's alone


def stored(folder):
    """Everything in the folder but times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes()
        if path.suffix == ".json":
            fields = json.loads(content)
            results = fields["losses"] if path.name == "results.json" else [fields]
            for entry in (fields, *results):
                entry.pop("seconds", None)
                entry.pop("folder", None)
            content = json.dumps(fields)
        found[path.name] = content
    return found


def test_bytes_depend_neither_on_the_number_of_processes_nor_on_an_interruption(
    tmp_path, monkeypatch
):
    # These share a program. NumPy makes 13 of its runs, of 5,000 numbers each and a few: XLA would
    # compile it for the third loss if the runs of all were counted.
    monkeypatch.setattr(_newton, "_host_work", 70_000)
    command = ("solve", *SMALL, "--starts", "5", "--losses", "fl:1", "fl:2", "fl:3", "--out")
    monkeypatch.setattr("ufm._support.threads.cores", lambda: 1)
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*command, str(alone)]) == 0
    together.mkdir()
    for path in (alone / "config.json", *alone.glob("fl_1*")):
        (together / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("ufm._support.threads.cores", lambda: 2)
    assert main([*command, str(together)]) == 0
    expected, found = stored(alone), stored(together)
    assert len(expected) == 9
    assert expected == found


def test_invalid_options_are_said_once_with_processes_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ufm._support.threads.cores", lambda: 2)
    with pytest.raises(SystemExit) as stop:
        main(["solve", *SMALL, "--losses", "ce", "hinge", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()
