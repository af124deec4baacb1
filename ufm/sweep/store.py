"""The folder of a sweep: one .npz for each batch, written whole or not at all, and an index.

sweep.json        what is swept, and the environment of the first run
batches/*.npz     the results; they alone count
index.sqlite      the same as a table of SQL, made anew whenever it is lost (`ufm.sweep.index`)
locks/            who is working on it (`ufm.sweep.lock`)

>>> store = open_store("ufm-results/decays")
>>> store.query("verdict != 'GLOBAL_MINIMUM'")
>>> store.arrays(7)["history_value"]
"""

import contextlib
import dataclasses
import io
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ufm._json import dumps
from ufm.results import PARTIAL, unwritable, write_whole
from ufm.sweep import index
from ufm.sweep.config import SweepConfig, as_builtins
from ufm.sweep.lock import locked
from ufm.sweep.provenance import differences, provenance
from ufm.sweep.record import COLUMNS, Record, pack, unpack

_MANIFEST = "sweep.json"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class SweepStore:
    """Results of a sweep, for reading; see the module. Nothing here writes to the folder."""

    path: Path
    manifest: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The sweep's file with every default written out."""
        return self.manifest["config"]

    @property
    def num_cells(self) -> int:
        """Cells that the sweep has, finished or not."""
        return int(self.manifest["cells"])

    def finished(self) -> set[int]:
        """The cells that are done."""
        _, found = self.select(columns=("cell",))
        return {cell for (cell,) in found}

    def query(self, where: str = "") -> list[dict[str, Any]]:
        """The finished cells where an SQL condition on the columns holds, as dictionaries.

        Unknown numbers are None. Raises `ValueError` for anything but a condition.
        """
        names, found = self.select(where)
        return [dict(zip(names, row, strict=True)) for row in found]

    def select(
        self, where: str = "", columns: Sequence[str] = ()
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The same as column names and rows."""
        connection, _ = index.open_for_reading(self.path)
        try:
            return index.select(connection, where, columns)
        finally:
            connection.close()

    def table(self, where: str = "") -> dict[str, np.ndarray]:
        """The finished cells as columns; unknown real numbers are NaN, whole ones −1."""
        names, found = self.select(where)
        columns = zip(*found, strict=True) if found else ((),) * len(names)
        return {
            name: _column(values, COLUMNS[name])
            for name, values in zip(names, columns, strict=True)
        }

    def arrays(self, cell: int) -> dict[str, np.ndarray]:
        """What was kept of a run: history_*, W, H, b, eigenvalues, multiplicities.

        Raises `ValueError` for a cell that is not finished.
        """
        connection, _ = index.open_for_reading(self.path)
        with connection:
            query = "SELECT file, position FROM cells WHERE cell = ?"
            found = connection.execute(query, (cell,)).fetchone()
        connection.close()
        if found is None:
            raise ValueError(f"cell {cell} is not finished in {self.path}")
        name, position = found
        with np.load(self.path / index.BATCHES / name, allow_pickle=False) as packed:
            wanted = {key: packed[key] for key in packed.files if key not in COLUMNS}
        return unpack(wanted, position)


def _column(values: Sequence[Any], kind: str) -> np.ndarray:
    if kind == "text":
        return np.array(values, np.str_)
    missing, dtype = (np.nan, np.float64) if kind == "real" else (-1, np.int64)
    return np.array([missing if x is None else x for x in values], dtype)


def open_store(path: str | os.PathLike[str]) -> SweepStore:
    """A folder that `ufm sweep` made. Raises `ValueError` for any other."""
    folder = Path(path)
    marker = folder / _MANIFEST
    if not marker.is_file():
        raise ValueError(f"{folder} is no folder of a sweep: there is no {_MANIFEST} in it")
    try:
        manifest = json.loads(marker.read_text(encoding="utf-8"))
        known = manifest["format"] == _FORMAT
        assert isinstance(manifest["config"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(
            f"{marker} cannot be read ({error}): run the sweep again with another --out, and move "
            "the old batches there"
        ) from None
    if not known:
        raise ValueError(
            f"{marker} has format {manifest['format']}, which this version cannot read"
        )
    return SweepStore(folder, manifest)


def make_store(path: Path, config: SweepConfig, num_cells: int) -> SweepStore:
    """The folder of a sweep: made, or the one that holds the same sweep.

    Raises `ValueError` for a folder of something else or of another sweep, and where it cannot be
    written. The title may change.
    """
    wanted = as_builtins(config)
    if (path / _MANIFEST).exists():
        store = open_store(path)
        if _identity(store.config) != _identity(wanted):
            raise ValueError(f"{path} holds another sweep: choose another --out")
        return store
    if path.exists() and (not path.is_dir() or _foreign(path)):
        raise ValueError(f"{path} exists and is no folder of a sweep: choose another --out")
    manifest = {
        "format": _FORMAT,
        "config": wanted,
        "cells": num_cells,
        "environment": provenance(),
    }
    try:
        (path / index.BATCHES).mkdir(parents=True, exist_ok=True)
        # Shards may begin at the same moment: each writes a file of its own.
        write_whole(path / _MANIFEST, dumps(manifest).encode(), owner=f".{os.getpid()}")
    except OSError as error:
        raise unwritable(path, error) from None
    return open_store(path)


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in json.loads(json.dumps(config)).items() if key != "title"}


def _foreign(folder: Path) -> bool:
    """Is there anything but what a first run that was killed at once left behind?"""
    left = {index.BATCHES, "locks", _MANIFEST}
    names = [entry.name for entry in folder.iterdir()]
    return any(name not in left and not name.endswith(PARTIAL) for name in names)


class Writer:
    """Adds batches to a store. One writer at a time (`ufm.sweep.lock`), or one for each shard.

    `notes` says in one line each what had to be repaired. With `shared` other shards write beside
    it: the index on disk is then left alone.
    """

    def __init__(self, store: SweepStore, shared: bool = False) -> None:
        self.store = store
        self.notes: list[str] = []
        try:
            (store.path / index.BATCHES).mkdir(exist_ok=True)
            if not shared:
                self._clear_partial()
            self._connection = self._open(shared)
            self._take_in()
            self._compare()
        except (OSError, sqlite3.Error) as error:
            raise _cannot_use(store.path, error) from None

    def _clear_partial(self) -> None:
        """Remove what a killed process had not finished writing."""
        for path in (self.store.path / index.BATCHES).glob(f"*{PARTIAL}"):
            path.unlink()

    def _open(self, shared: bool) -> sqlite3.Connection:
        if shared:
            return index.in_memory()
        connection, damaged = index.open_for_writing(self.store.path)
        if damaged:
            self.notes.append("index.sqlite was damaged: it is made anew from the batches")
        return connection

    def _take_in(self) -> None:
        changes = index.reconcile(self._connection, self.store.path)
        for name in changes.damaged:
            damaged = self.store.path / index.BATCHES / name
            os.replace(damaged, damaged.with_suffix(".damaged"))
            self.notes.append(f"{name} is damaged: its cells are computed again")
        if changes.removed:
            listed = ", ".join(changes.removed)
            self.notes.append(f"{listed} is gone: its cells are computed again")

    def _compare(self) -> None:
        """Say where the numbers may differ in their last bits from those already there."""
        changed = differences(self.store.manifest["environment"], provenance())
        if changed and self.finished():
            self.notes.append(f"the first cells were computed with another {', '.join(changed)}")

    def finished(self) -> set[int]:
        """The cells that are done."""
        return {cell for (cell,) in self._connection.execute("SELECT cell FROM cells")}

    def add(self, records: Sequence[Record]) -> None:
        """Write a batch. When this returns, its cells are finished whatever happens next.

        Raises `ValueError` where the folder cannot be written: then nothing of the batch counts.
        """
        packed = pack(records)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **packed)  # pyright: ignore[reportArgumentType]  # names are ours
        try:
            path = self._fresh(records)
            write_whole(path, buffer.getvalue())
            index.insert(self._connection, path, packed)
        except (OSError, sqlite3.Error) as error:
            raise _cannot_use(self.store.path, error) from None

    def _fresh(self, records: Sequence[Record]) -> Path:
        """A name that says which cells are inside, and that nothing has."""
        name = f"{records[0].cell:07d}-{records[-1].cell:07d}-{len(records)}"
        folder = self.store.path / index.BATCHES
        path, i = folder / f"{name}.npz", 1
        while path.exists():
            i += 1
            path = folder / f"{name}-{i}.npz"
        return path

    def close(self) -> None:
        """Let go of the index."""
        self._connection.close()


def reindex(store: SweepStore) -> index.Changes:
    """Make the index anew from the batches, all data of which are checked.

    Raises `ValueError` while a sweep writes to the folder, and where it cannot be written.
    """
    with locked(store.path):
        try:
            index.discard(store.path)
            connection, _ = index.open_for_writing(store.path)
            with contextlib.closing(connection):
                return index.reconcile(connection, store.path)
        except (OSError, sqlite3.Error) as error:
            raise _cannot_use(store.path, error) from None


def _cannot_use(path: Path, error: Exception) -> ValueError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return ValueError(
        f"{path} cannot be read or written ({why}): what is finished is safe; make room or choose "
        "another --out, and run the same command again"
    )
