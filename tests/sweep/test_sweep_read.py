"""Reading a store: queries, exports, arrays of a run, and all of it while a sweep is running."""

import csv
import os
import sys
import threading

import pytest

from ufm.sweep import COLUMNS, export_table, open_store, run_sweep


def test_a_query_is_a_condition_and_nothing_else(copy):
    _, out = copy
    store = open_store(out)
    assert len(store.query()) == 8
    found = store.query("kind = 'origin' AND lam_w > 0.1")
    assert {cell["lam_w"] for cell in found} == {0.5}
    assert [cell["cell"] for cell in store.query("cell IN (SELECT max(cell) FROM cells)")] == [7]
    assert store.query("alpha IS NULL AND nc1 < 1e-5 -- a comment")
    before = (out / "index.sqlite").read_bytes()
    for bad in (
        "1); DROP TABLE cells; --",
        "1; DELETE FROM cells",
        "cell = load_extension('x')",
        "cell IN (WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t) SELECT n FROM t)",
        "verdict = ",
        "lamw = 1",
        "PRAGMA user_version = 3",
        ")",
        "cell = 1) UNION SELECT * FROM cells WHERE (1",
        "cell = 1) GROUP BY (loss",
        "(cell = 1",
        "[",
        "cell < (SELECT count(*) FROM sqlite_master)",
        "(SELECT count(*) FROM files) > 0",
        "file = 'x'",
        'verdict = "GLOBAL_MINIMUM"',
    ):
        with pytest.raises(ValueError, match="is not a condition on the cells") as caught:
            store.query(bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="perhaps you meant 'lam_w'"):
        store.query("lamw = 1")
    with pytest.raises(ValueError, match="put text in single quotes"):
        store.query('verdict = "GLOBAL_MINIMUM"')
    assert len(store.query("\"lam_w\" > 0.1 AND verdict != ') OR (' -- ) it's")) == 4
    assert (out / "index.sqlite").read_bytes() == before
    assert len(store.query()) == 8


def test_the_table_as_csv_has_the_same_bits(copy, tmp_path):
    _, out = copy
    store = open_store(out)
    assert export_table(store, tmp_path / "all.csv") == 8
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    for row, cell in zip(rows, store.query(), strict=True):
        for name, value in cell.items():
            if value is None:
                assert row[name] == ""
            else:
                assert type(value)(row[name]) == value
    assert export_table(store, tmp_path / "some.csv", "lam_w > 0.1") == 4
    with pytest.raises(ValueError, match=r"must end with .csv or .parquet"):
        export_table(store, tmp_path / "all.xlsx")
    with pytest.raises(ValueError, match=r"cannot be written .*: choose another FILE"):
        export_table(store, tmp_path / "nowhere" / "all.csv")


def test_the_table_as_parquet(copy, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    _, out = copy
    store = open_store(out)
    assert export_table(store, tmp_path / "all.parquet") == 8
    assert parquet.read_table(tmp_path / "all.parquet").to_pylist() == store.query()


def test_without_pyarrow_parquet_says_what_to_install(copy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'ufm\[parquet\]'"):
        export_table(open_store(copy[1]), tmp_path / "all.parquet")
    assert os.listdir(tmp_path) == ["out"]


def test_arrays_of_a_cell(copy):
    store = open_store(copy[1])
    arrays = store.arrays(3)
    assert set(arrays) == {f"history_{name}" for name in ("step", "products", "value", "grad_norm")}
    (row,) = store.query("cell = 3")
    assert arrays["history_step"][-1] == row["steps"]
    assert arrays["history_value"][-1] == row["value"]
    with pytest.raises(ValueError, match="cell 99 is not finished"):
        store.arrays(99)


def test_a_reader_in_another_thread_sees_whole_batches_only(whole, tmp_path):
    sweep, _ = whole
    out, seen = tmp_path / "out", []
    ended = threading.Event()

    def read():
        while not ended.is_set():
            if (out / "sweep.json").exists():
                seen.append(len(open_store(out).finished()))

    reader = threading.Thread(target=read)
    reader.start()
    run_sweep(sweep, out, batch_seconds=0.0)
    ended.set()
    reader.join()
    assert seen == sorted(seen)
    assert len(open_store(out).finished()) == 8
