"""The folder of a sweep: what happens to it, nothing finished is lost and the user is told."""

import errno
import os
import sqlite3
import stat

import pytest

from sweeps import TINY, batches, check_same, go_on, loaded
from ufm._support import atomic_files as _files
from ufm.sweep import open_store, run_sweep

# Going on ------------------------------------------------------------------------------------


def test_a_finished_sweep_computes_nothing(copy):
    sweep, out = copy
    before = {path: path.read_bytes() for path in out.rglob("*.npz")}
    assert go_on(sweep, out) == ([], [])
    assert {path: path.read_bytes() for path in out.rglob("*.npz")} == before


def test_it_ends_after_the_batch_and_goes_on_with_the_rest(whole, tmp_path):
    sweep, out = whole
    done: list[int] = []

    def stop():
        return len(batches(tmp_path / "out")) >= 1

    run_sweep(sweep, tmp_path / "out", should_stop=stop, batch_seconds=0.0,
              on_progress=lambda state: done.append(state.done))  # fmt: skip
    finished = open_store(tmp_path / "out").finished()
    assert 0 < len(finished) < 8
    assert done[-1] == len(finished)
    computed, notes = go_on(sweep, tmp_path / "out")
    assert computed == sorted(set(range(8)) - finished)
    assert notes == []
    check_same(tmp_path / "out", out)


def test_another_sweep_or_folder_is_refused_but_a_title_may_change(copy, tmp_path):
    sweep, out = copy
    other = loaded(tmp_path, TINY.replace("dim = 6", "dim = 5"))
    with pytest.raises(ValueError, match=r"holds another sweep .*choose another `out`"):
        run_sweep(other, out)
    assert go_on(loaded(tmp_path, TINY.replace("tiny", "renamed")), out) == ([], [])
    assert open_store(out).config["title"] == "renamed"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not the folder of a sweep: choose another `out`"):
        run_sweep(sweep, tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]
    with pytest.raises(ValueError, match=r"it has no sweep.json"):
        open_store(tmp_path / "mine")


# A folder that cannot be written -------------------------------------------------------------


@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_a_full_disk_costs_the_batch_that_was_being_written(whole, tmp_path, monkeypatch, fails_at):
    sweep, out = whole
    real, written = os.fsync, []

    def full(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            if len(written) == fails_at + 1:  # sweep.json is the first
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(handle)
        real(handle)

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(ValueError, match=r"No space left on device.*finished cells are safe"):
        run_sweep(sweep, tmp_path / "out", batch_seconds=0.0)
    monkeypatch.undo()
    finished = open_store(tmp_path / "out").finished()
    assert len(batches(tmp_path / "out")) == fails_at
    assert not list((tmp_path / "out").rglob("*.part"))
    computed, _ = go_on(sweep, tmp_path / "out")
    assert computed == sorted(set(range(8)) - finished)
    check_same(tmp_path / "out", out)


def test_an_index_that_cannot_be_written_loses_no_batch(whole, tmp_path, monkeypatch):
    sweep, out = whole

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("ufm.sweep.index.insert", full)
    with pytest.raises(ValueError, match=r"disk is full.*finished cells are safe"):
        run_sweep(sweep, tmp_path / "out", batch_seconds=0.0)
    monkeypatch.undo()
    finished = open_store(tmp_path / "out").finished()
    assert len(finished) > 0
    assert go_on(sweep, tmp_path / "out")[0] == sorted(set(range(8)) - finished)
    check_same(tmp_path / "out", out)


def test_a_folder_that_cannot_be_written_is_said_in_one_line_and_can_be_read(copy, monkeypatch):
    """As root nothing is read-only: the system's answer is simulated."""
    sweep, out = copy
    real = os.open

    def denied(path, flags, *rest, **named):
        if str(path).startswith(str(out)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ValueError, match="cannot be written") as caught:
        run_sweep(sweep, out)
    assert "\n" not in str(caught.value)
    assert len(open_store(out).query()) == 8


def test_a_place_where_no_folder_can_be_made_is_refused(whole, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"cannot be written|is not the folder of a sweep"):
        run_sweep(whole[0], tmp_path / "file" / "out")
