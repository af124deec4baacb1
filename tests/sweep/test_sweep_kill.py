"""kill -9 at random moments: no finished cell lost, none computed twice, the same table at the end.

Eight kills of a process whose cells are stand-ins, which needs no compilation; with --full twenty,
and one of one that solves. UFM_KILLS=20 for as many of either as it says.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from sweep_child import run

from sweeps import SIZES, TIMES, written
from ufm.sweep import COLUMNS, open_store

#: 400 cells, in batches of some hundredths of a second.
TEXT = f"""
loss = ["ce"]
[problem]
{SIZES}
lam_w = {{ from = 1e-4, to = 1e-1, num = 10, spacing = "log" }}
lam_h = {{ from = 1e-4, to = 1e-1, num = 10, spacing = "log" }}
[start]
count = 4
"""
#: Each process is a fork of one that has imported everything and run nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ufm.sweep.problems.cell", "ufm.sweep.runner"])


@contextmanager
def started(file: Path, out: Path, cells: str) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs the sweep, and what it tells of every batch."""
    told, telling = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=run, args=(file, out, cells, telling), daemon=True)
    child.start()
    telling.close()
    with told:
        yield child, told
        child.join()


def heard(told: Connection) -> bool:
    """Wait for the end of a batch; False where there is none to come."""
    try:
        told.recv()
    except EOFError:
        return False
    return True


def finish(told: Connection) -> None:
    while heard(told):
        pass


def times(out: Path) -> dict[int, float]:
    """When a cell is computed again, its time changes."""
    if not (out / "sweep.json").exists():
        return {}
    table = open_store(out).table()
    return dict(zip(table["cell"].tolist(), table["seconds"].tolist(), strict=True))


@pytest.mark.repeats
@pytest.mark.parametrize(("cells", "kills"), [("stand-in", 20), ("real", 1)])
def test_kill_9_at_random_moments(cells, kills, tmp_path, full):
    kills = int(os.environ.get("UFM_KILLS", kills if full else min(kills, 8)))
    file, out = written(tmp_path, TEXT), tmp_path / "out"
    rng = np.random.default_rng(0)
    with started(file, tmp_path / "whole", cells) as (_, told):
        begun = time.monotonic()
        assert heard(told)
        ready = time.monotonic() - begun
        finish(told)
    whole = open_store(tmp_path / "whole").table()

    finished: dict[int, float] = {}
    progress = []
    for i in range(kills):
        with started(file, out, cells) as (child, told):
            if i % 4 == 3:  # at any moment before the first cell
                time.sleep(rng.uniform(0.0, ready))
            else:  # some batches after it, within the length of another
                for _ in range(rng.integers(1, 10)):
                    heard(told)
                time.sleep(rng.uniform(0.0, 0.1))
            child.kill()
        now = times(out)
        assert finished.items() <= now.items(), "a finished cell was lost or computed again"
        progress.append(len(now))
        finished = now
    assert any(0 < count < 400 for count in progress), progress

    with started(file, out, cells) as (child, told):
        finish(told)
    assert child.exitcode == 0
    assert finished.items() <= times(out).items()
    table = open_store(out).table()
    for name in set(COLUMNS) - set(TIMES):
        np.testing.assert_array_equal(table[name], whole[name], err_msg=name)
    # No cell is in two batches.
    packed = [np.load(path)["cell"] for path in (out / "batches").glob("*.npz")]
    assert sorted(np.concatenate(packed)) == list(range(400))
    sys.stderr.write(f"cells after each kill: {progress}\n")  # what pytest -s shows
