"""Two processes on one folder: who may, who may not, and what a dead one leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import finished_store, go_on
from ufm.sweep import open_store, parse_shard, run_sweep
from ufm.sweep.lock import locked


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep and its finished store."""
    return finished_store(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it to be damaged."""
    return whole[0], Path(shutil.copytree(whole[1], tmp_path / "out"))


def test_two_processes_do_not_work_on_one_folder(copy):
    sweep, out = copy
    with locked(out), pytest.raises(ValueError, match=f"in use by process {os.getpid()} on"):
        run_sweep(sweep, out)
    assert go_on(sweep, out) == ([], [])  # released


def test_a_shard_and_the_whole_exclude_each_other_but_shards_do_not(copy):
    sweep, out = copy
    with locked(out, "1-of-2"):
        with pytest.raises(ValueError, match="in use by"):
            run_sweep(sweep, out)
        with pytest.raises(ValueError, match="in use by"):
            run_sweep(sweep, out, shard=parse_shard("1/2"))
        run_sweep(sweep, out, shard=parse_shard("2/2"))
    with locked(out), pytest.raises(ValueError, match="in use by"):
        run_sweep(sweep, out, shard=parse_shard("1/2"))
    assert go_on(sweep, out) == ([], [])


def test_the_lock_of_a_process_that_died_is_taken_over(copy):
    sweep, out = copy
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom ufm.sweep.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run([sys.executable, "-c", code, out], check=False)
    assert died.returncode == -9
    holder = json.loads((out / "locks" / "whole.lock").read_text())
    computed, notes = go_on(sweep, out)
    assert computed == []
    assert notes == [f"process {holder['pid']} died while it worked on {out}: going on"]
    assert go_on(sweep, out) == ([], [])


def test_an_entry_of_another_machine_is_believed(copy):
    sweep, out = copy
    lock = out / "locks" / "whole.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(ValueError, match=r"process 7 on elsewhere.*remove .*whole.lock") as caught:
        run_sweep(sweep, out)
    assert "\n" not in str(caught.value)
    lock.unlink()
    assert go_on(sweep, out) == ([], [])


def test_readers_need_no_lock(copy):
    _, out = copy
    with locked(out):
        assert len(open_store(out).finished()) == 8
