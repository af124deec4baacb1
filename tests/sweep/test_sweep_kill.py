"""kill -9 at random moments: no finished cell lost, none computed twice, the same table at the end.

Twenty kills of a process whose cells are stand-ins, which needs no compilation, and one of one
that solves. UFM_KILLS=20 for as many of either as it says.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

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
CHILD = """
import sys, jax
sys.path.insert(0, sys.argv[4])
jax.config.update("jax_enable_x64", True)
from ufm.sweep import load_sweep, run_sweep, runner
runner.num_workers = lambda: 2  # the sizes of batches do not hang on the machine
if sys.argv[3] == "stand-in":
    import stand_in
def told(state):
    print(state.done, *state.notes, flush=True)
run_sweep(load_sweep(sys.argv[1]), sys.argv[2], batch_seconds=0.05, on_progress=told)
"""


STAND_IN = """
import time
import numpy as np
from ufm.sweep import COLUMNS, Record
from ufm.sweep.problems.cell import Solving

def run(self, cells):
    return [run_cell(cell) for cell in cells]

def run_cell(cell):
    begun = time.perf_counter()
    time.sleep(0.004)
    row = {name: "x" if kind == "text" else cell.index for name, kind in COLUMNS.items()}
    row["value"] = np.random.default_rng(cell.index).normal()
    row["seconds"] = time.perf_counter() - begun
    return Record(row, {"history_value": np.arange(cell.index % 5) + 0.5})

Solving.run, Solving.prepare = run, lambda self, cell: None
"""


def start(file: Path, out: Path, cells: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(file), str(out), cells, str(file.parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def times(out: Path) -> dict[int, float]:
    """When a cell is computed again, its time changes."""
    if not (out / "sweep.json").exists():
        return {}
    table = open_store(out).table()
    return dict(zip(table["cell"].tolist(), table["seconds"].tolist(), strict=True))


@pytest.mark.parametrize(("cells", "kills"), [("stand-in", 20), ("real", 1)])
def test_kill_9_at_random_moments(cells, kills, tmp_path):
    kills = int(os.environ.get("UFM_KILLS", kills))
    file, out = written(tmp_path, TEXT), tmp_path / "out"
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    rng = np.random.default_rng(0)
    begun = time.monotonic()
    with start(file, tmp_path / "whole", cells) as child:
        assert child.stdout is not None
        next(child.stdout)
        ready = time.monotonic() - begun
        child.communicate()
    whole = open_store(tmp_path / "whole").table()

    finished: dict[int, float] = {}
    progress = []
    for i in range(kills):
        with start(file, out, cells) as child:
            assert child.stdout is not None
            if i % 4 == 3:  # at any moment before the first cell
                time.sleep(rng.uniform(0.0, ready))
            else:  # some batches after it, within the length of another
                for _ in range(rng.integers(1, 10)):
                    next(child.stdout, "")
                time.sleep(rng.uniform(0.0, 0.1))
            child.kill()
            child.wait()
        now = times(out)
        assert finished.items() <= now.items(), "a finished cell was lost or computed again"
        progress.append(len(now))
        finished = now
    assert any(0 < count < 400 for count in progress), progress

    with start(file, out, cells) as child:
        child.communicate()
    assert child.returncode == 0
    assert finished.items() <= times(out).items()
    table = open_store(out).table()
    for name in set(COLUMNS) - set(TIMES):
        np.testing.assert_array_equal(table[name], whole[name], err_msg=name)
    # No cell is in two batches.
    packed = [np.load(path)["cell"] for path in (out / "batches").glob("*.npz")]
    assert sorted(np.concatenate(packed)) == list(range(400))
    sys.stderr.write(f"cells after each kill: {progress}\n")  # what pytest -s shows
