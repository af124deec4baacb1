"""A sweep on Dask: two worker processes, one of them killed midway; the same table."""

import subprocess
import sys

import numpy as np
import pytest

from sweeps import SIZES, TIMES, loaded, written
from ufm.cli import main
from ufm.sweep import COLUMNS, open_store, run_sweep

pytest.importorskip("distributed")

TEXT = f"""
loss = ["ce"]
[problem]
{SIZES}
lam_w = {{ from = 1e-3, to = 1e-1, num = 10, spacing = "log" }}
lam_h = "lam_w"
[start]
count = 20
"""
#: In a process of its own: what Dask warns of and leaves running is not the tests' business.
SCRIPT = """
import os, signal, sys
import jax

def main():
    jax.config.update("jax_enable_x64", True)
    from distributed import Client, LocalCluster
    from ufm.sweep import load_sweep, run_sweep

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            victim = next(iter(client.run(os.getpid).values()))
        killed = []

        def told(state):
            print(state.done, flush=True)
            if state.done and not killed:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

        run_sweep(load_sweep(sys.argv[1]), sys.argv[2], dask=cluster.scheduler_address,
                  on_progress=told)
        assert killed

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_worker_killed_midway_costs_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, written(tmp_path, TEXT), tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    counts = list(map(int, done.stdout.split()))
    assert counts[0] == 0
    assert counts[-1] == 200
    assert len(counts) > 5  # batches came one by one, and most after the kill
    found = open_store(tmp_path / "out").table()
    expected = run_sweep(loaded(tmp_path, TEXT), tmp_path / "here").table()
    for name in set(COLUMNS) - set(TIMES):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_where_there_is_no_scheduler_it_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ufm.sweep.cluster._TIMEOUT", "1s")
    with pytest.raises(SystemExit) as stop:
        main(["sweep", str(written(tmp_path)), "--dask", "tcp://127.0.0.1:1",
              "--out", str(tmp_path / "out")])  # fmt: skip
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("ufm: error: there is no Dask scheduler at tcp://127.0.0.1:1")
    assert said.count("\n") == 1


def test_without_dask_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'ufm\[dask\]'"):
        run_sweep(loaded(tmp_path), tmp_path / "out", dask="tcp://127.0.0.1:1")
