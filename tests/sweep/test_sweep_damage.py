"""Damaged, lost, copied and foreign batches: nothing finished is lost, and the user is told."""

import os
import shutil
import sqlite3
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from sweeps import TINY, batches, check_same, go_on, loaded
from ufm.sweep import COLUMNS, index, open_store, reindex, run_sweep
from ufm.sweep.batch import DamagedBatchError
from ufm.sweep.provenance import threads
from ufm.sweep.store import StoreWarning


def cells_in(path: Path) -> list[int]:
    with np.load(path, allow_pickle=False) as packed:
        return packed["cell"].tolist()


def in_the_data(path: Path, name: str = "value") -> int:
    """A byte of the compressed values of f, or of another array."""
    with zipfile.ZipFile(path) as file:
        member = file.getinfo(f"{name}.npy")
        header = path.read_bytes()[member.header_offset :]
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return member.header_offset + 30 + name + extra + member.compress_size // 2


@pytest.mark.parametrize("damage", ["flip", "history", "truncate", "garbage", "empty"])
def test_a_damaged_batch_is_set_aside_and_its_cells_computed_again(copy, whole, damage):
    sweep, out = copy
    victim = batches(out)[1]
    lost, content = cells_in(victim), bytearray(victim.read_bytes())
    if damage == "flip":
        content[in_the_data(victim)] ^= 0xFF
    elif damage == "history":  # no column of the table
        content[in_the_data(victim, "array_history_value")] ^= 0xFF
    elif damage == "truncate":
        content = content[: len(content) // 2]
    else:
        content = bytearray(b"PK\x03\x04 nonsense" if damage == "garbage" else b"")
    victim.write_bytes(content)
    # Readers see what is whole, say what is not, and write nothing.
    with pytest.warns(StoreWarning, match=f"{victim.name} is damaged: its cells are missing here"):
        assert open_store(out).finished() == set(range(8)) - set(lost)
    assert victim.exists()
    computed, notes = go_on(sweep, out)
    assert computed == lost
    assert notes == [f"{victim.name} is damaged: its cells are computed again"]
    assert victim.with_suffix(".damaged").read_bytes() == content
    check_same(out, whole[1])


def test_a_flipped_bit_is_found_or_changes_no_number(copy):
    """Bytes of the archive's own bookkeeping may be read past; those of the data may not."""
    path = batches(copy[1])[0]
    read, whole = open_store(copy[1]).batches.read, path.read_bytes()
    good = read(path).table
    found = 0
    for position in np.random.default_rng(0).integers(len(whole), size=300):
        content = bytearray(whole)
        content[position] ^= 1 << (position % 8)
        path.write_bytes(content)
        try:
            table = read(path).table
        except DamagedBatchError:
            found += 1
            continue
        for name in COLUMNS:
            np.testing.assert_array_equal(table[name], good[name])
    assert found > 150


def test_data_that_rot_without_a_trace_are_named_when_they_are_read(copy):
    _, out = copy
    victim = batches(out)[0]
    state, content = victim.stat(), bytearray(victim.read_bytes())
    content[in_the_data(victim, "array_history_value")] ^= 0xFF
    victim.write_bytes(content)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(
        ValueError, match=r"is damaged: check all with `ufm store reindex`"
    ) as caught:
        open_store(out).arrays(cells_in(batches(out)[1])[0] - 1)
    assert "\n" not in str(caught.value)


def test_a_batch_of_another_sweep_is_left_out(copy, whole, tmp_path):
    sweep, out = copy
    other = tmp_path / "other"
    run_sweep(loaded(tmp_path, TINY.replace("count = 2", "count = 2\nseed = 1")), other)
    # Under the name of a batch that is gone, and under a name of its own.
    gone = batches(out)[0]
    shutil.copy(batches(other)[0], gone)
    shutil.copy(batches(other)[0], gone.with_name("extra.npz"))
    left_out = [f"{x} belongs to another sweep: it is ignored" for x in (gone.name, "extra.npz")]
    with pytest.warns(StoreWarning) as caught:
        assert len(open_store(out).finished()) < 8
    assert [str(warning.message) for warning in caught] == left_out
    computed, notes = go_on(sweep, out)
    assert computed
    assert notes[:2] == left_out
    with pytest.warns(StoreWarning):
        check_same(out, whole[1])


def test_without_its_description_a_folder_keeps_its_batches(copy, whole):
    sweep, out = copy
    (out / "sweep.json").unlink()
    (out / "report.html").write_text("x")
    assert go_on(sweep, out) == ([], [])
    check_same(out, whole[1])


def test_a_cell_in_two_batches_outlives_one_of_them(copy, whole):
    sweep, out = copy
    first = batches(out)[0]
    shutil.copy(first, first.with_name("9999999-copy.npz"))
    assert go_on(sweep, out) == ([], [])
    first.unlink()
    assert go_on(sweep, out) == ([], [])  # nothing is missing, nothing is said to be
    check_same(out, whole[1])


def test_the_index_of_another_sweep_vouches_for_nothing(copy, tmp_path):
    """The folder's description is lost, and another sweep of as many cells goes on with it."""
    _, out = copy
    (out / "sweep.json").unlink()
    other = loaded(tmp_path, TINY.replace("count = 2", "count = 2\nseed = 1"))
    computed, notes = go_on(other, out)
    assert computed == list(range(8))
    assert notes[0] == "index.sqlite cannot be used: it is rebuilt from the batches"
    assert sum("belongs to another sweep: it is ignored" in note for note in notes) == 4
    with pytest.warns(StoreWarning):
        assert {cell["seed"] for cell in open_store(out).query()} == {1}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"environment": {', '"environment": null, "x": {', "environment: expected table"),
        ('"cell": "integer"', '"cell": null', "columns"),
        ('"cell": "integer"', '"cell);": "integer"', "columns"),
        ('"num_cells": 8', '"num_cells": "8"', "num_cells: expected int"),
        ('"num_cells": 8', '"num_cells": -5', "num_cells"),
        ('"kind": "problems"', '"kind": "foo"', "kind"),
        ('"format": 2', '"format": 1', "has format 1"),
        ('{', '[', "cannot be read"),
    ],
)  # fmt: skip
def test_a_description_edited_by_hand_is_refused_in_one_line(copy, old, new, field):
    _, out = copy
    text = (out / "sweep.json").read_text()
    assert old in text
    (out / "sweep.json").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"sweep.json") as caught:
        open_store(out)
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_no_batch(copy, whole):
    sweep, out = copy
    (out / "batches" / "folder.npz").mkdir()
    (out / "batches" / "nowhere.npz").symlink_to(out / "nothing")
    assert go_on(sweep, out) == ([], [])
    check_same(out, whole[1])


def test_a_reader_that_holds_the_index_does_not_stop_the_sweep(whole, tmp_path, monkeypatch):
    sweep, out = whole
    real, refused = index.insert, []

    def locked_twice(*arguments):
        if len(refused) < 2:
            refused.append(arguments)
            raise sqlite3.OperationalError("database is locked")
        real(*arguments)

    monkeypatch.setattr("ufm.sweep.index.insert", locked_twice)
    run_sweep(sweep, tmp_path / "out", batch_seconds=0.0)
    assert len(refused) == 2
    check_same(tmp_path / "out", out)
    connection = sqlite3.connect(tmp_path / "out" / "index.sqlite")
    assert connection.execute("SELECT count(*) FROM cells").fetchone() == (8,)
    connection.close()


def test_float32_and_float64_do_not_mix(copy):
    sweep, out = copy
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(
            ValueError, match="holds this sweep in float64, but this process uses float32"
        ):
            run_sweep(sweep, out)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_where_the_cells_were_computed_is_kept_with_them(copy):
    sweep, out = copy
    (here,) = open_store(out).environments()
    assert here["threads"] == threads()
    batches(out)[0].unlink()
    text = (out / "sweep.json").read_text()
    (out / "sweep.json").write_text(text.replace(f'"threads": {threads()}', '"threads": 99'))
    _, notes = go_on(sweep, out)
    assert "the first cells were computed with other threads" in notes


def test_a_batch_that_is_gone_is_computed_again(copy, whole):
    sweep, out = copy
    victim = batches(out)[0]
    lost = cells_in(victim)
    victim.unlink()
    computed, notes = go_on(sweep, out)
    assert computed == lost
    assert notes == [f"{victim.name} is gone: its cells are computed again"]
    check_same(out, whole[1])


@pytest.mark.parametrize("damage", ["missing", "garbage", "other version", "cut", "rows lost"])
def test_the_index_is_made_anew_whatever_happened_to_it(copy, whole, damage):
    sweep, out = copy
    database = out / "index.sqlite"
    if damage == "missing":
        database.unlink()
    elif damage == "garbage":
        database.write_bytes(b"SQLite format 3\0" + b"\xff" * 3000)
    elif damage == "cut":
        database.write_bytes(database.read_bytes()[:5000])
    else:
        with sqlite3.connect(database) as connection:
            if damage == "other version":
                connection.execute("PRAGMA user_version = 99")
            else:
                connection.execute("DELETE FROM files WHERE name = ?", (batches(out)[0].name,))
                connection.execute("DELETE FROM cells WHERE file = ?", (batches(out)[0].name,))
        connection.close()
    before = database.read_bytes() if database.exists() else None
    check_same(out, whole[1])  # a reader does without
    assert (database.read_bytes() if database.exists() else None) == before
    computed, notes = go_on(sweep, out)
    assert computed == []
    told = ["index.sqlite cannot be used: it is rebuilt from the batches"]
    assert notes == (told if damage not in ("missing", "rows lost") else [])
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (8,)
    connection.close()


def test_an_index_that_fails_is_closed(copy, monkeypatch):
    sweep, out = copy
    opened = []

    def fails(connection, _):
        opened.append(connection)
        raise sqlite3.DatabaseError("disk full")

    monkeypatch.setattr("ufm.sweep.index.reconcile", fails)
    with pytest.raises(ValueError, match="disk full"):
        run_sweep(sweep, out)
    (out / "index.sqlite").unlink()
    with pytest.raises(sqlite3.DatabaseError, match="disk full"):
        open_store(out).finished()
    assert len(opened) == 2
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_reindex_checks_all_data(copy):
    _, out = copy
    victim = batches(out)[0]
    lost, state = cells_in(victim), victim.stat()
    content = bytearray(victim.read_bytes())
    content[in_the_data(victim)] ^= 0xFF
    victim.write_bytes(content)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))  # rot that leaves no trace
    assert open_store(out).finished() == set(range(8))
    changes = reindex(open_store(out))
    assert changes.damaged == (victim.name,)
    with pytest.warns(StoreWarning, match="its cells are missing"):
        assert open_store(out).finished() == set(range(8)) - set(lost)


def test_what_a_killed_process_was_writing_is_removed(copy):
    sweep, out = copy
    partial = out / "batches" / "0000000-0000001-2.npz.part"
    partial.write_bytes(b"half")
    assert go_on(sweep, out) == ([], [])
    assert not partial.exists()
