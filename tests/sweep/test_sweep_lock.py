"""Two processes on one folder: who may, who may not, and what a dead one leaves behind."""

import contextlib
import errno
import json
import math
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import pytest

from sweeps import go_on
from ufm.sweep import open_store, parse_shard, run_sweep
from ufm.sweep.lock import locked
from ufm.sweep.store import StoreWarning


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
    assert notes == [f"process {holder['pid']} died while it used {out}: continuing"]
    assert go_on(sweep, out) == ([], [])


def test_shards_of_different_divisions_exclude_each_other(copy, monkeypatch):
    sweep, out = copy
    monkeypatch.setattr("ufm.sweep.writer._PATIENCE", 0.1)
    with locked(out, "1-of-2"):
        with pytest.raises(ValueError, match=r"in use by.*1-of-2.lock"):
            run_sweep(sweep, out, shard=parse_shard("3/3"))
        with locked(out, "index.sqlite"):
            run_sweep(sweep, out, shard=parse_shard("2/2"))


def test_a_lock_can_be_waited_for(copy):
    """Whoever waits is told for whom, and lets that one end: nothing hangs on who is quicker."""
    _, out = copy
    held, waited_for, told = threading.Event(), threading.Event(), []

    def hold():
        with locked(out, "index.sqlite"):
            held.set()
            assert waited_for.wait(60)

    def on_wait(holder: str) -> None:
        told.append(holder)
        waited_for.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    with locked(out, "index.sqlite", patience=60.0, on_wait=on_wait):
        assert waited_for.is_set()
    holder.join()
    assert set(told) <= {f"process {os.getpid()} on {socket.gethostname()}", "another process"}


def test_those_that_exclude_each_other_and_wait_all_come_to_it(copy):
    _, out = copy
    done = []

    def work(name: str) -> None:
        for _ in range(3):
            with locked(out, name, patience=math.inf):
                done.append(name)

    names = ("whole", "1-of-2", "2-of-2", "1-of-3")
    workers = [threading.Thread(target=work, args=(name,)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(done) == sorted(names * 3)


def test_a_job_that_was_queued_again_waits_until_its_old_machine_counts_as_dead(copy, monkeypatch):
    """The locks of another machine do not reach here, only the time of its last sign of life."""
    sweep, out = copy
    lock = out / "locks" / "whole.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    os.utime(lock, (time.time() - 300,) * 2)
    said = r"process 7 on elsewhere, last alive \d+ s ago, which counts as dead after 600 s: "
    with pytest.raises(ValueError, match=said):
        run_sweep(sweep, out)
    real = warnings.warn

    def die(message, *rest, **named):
        """As if time went by once it is told."""
        os.utime(lock, (time.time() - 601,) * 2)
        real(message, *rest, **named)

    monkeypatch.setattr("ufm.sweep.runner.warnings.warn", die)
    with pytest.warns(StoreWarning, match=r"waiting: .* is in use by process 7 on elsewhere"):
        computed, notes = go_on(sweep, out, wait=True)
    assert computed == []
    assert notes == [f"process 7 on elsewhere died while it used {out}: continuing"]


def test_waiting_ends_when_it_is_asked_to(copy):
    sweep, out = copy
    with locked(out), pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, out, wait=True, should_stop=lambda: True)


def test_another_machine_that_shows_no_life_for_ten_minutes_is_dead(copy):
    sweep, out = copy
    lock = out / "locks" / "whole.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    os.utime(lock, (time.time() - 300,) * 2)
    with pytest.raises(ValueError, match="process 7 on elsewhere"):
        run_sweep(sweep, out)
    os.utime(lock, (time.time() - 900,) * 2)
    computed, notes = go_on(sweep, out)
    assert computed == []
    assert notes == [f"process 7 on elsewhere died while it used {out}: continuing"]


def test_whoever_holds_a_lock_shows_life(copy, monkeypatch):
    monkeypatch.setattr("ufm.sweep.lock._BEAT", 0.02)
    lock = copy[1] / "locks" / "whole.lock"
    with locked(copy[1]):
        os.utime(lock, (0, 0))
        while lock.stat().st_mtime == 0:  # up to the limit of a test's time
            time.sleep(0.01)
        assert time.time() - lock.stat().st_mtime < 3600


def test_a_full_disk_at_the_lock_is_said_in_one_line(copy, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ValueError, match="No space left on device"), locked(copy[1]):
        pass


def test_shards_bring_the_index_up_to_date_when_they_end(whole, tmp_path):
    sweep, _ = whole
    out = tmp_path / "out"
    for i in (1, 2):
        run_sweep(sweep, out, shard=parse_shard(f"{i}/2"))
    with contextlib.closing(sqlite3.connect(out / "index.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (8,)


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
