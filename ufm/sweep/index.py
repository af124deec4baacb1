"""The index of a store: an SQL row for every finished run, made only from the batches.

It can be lost, damaged or out of date without harm: `reconcile` updates it from the .npz files, and
reads only files whose name, size or time has changed. One process writes it, in ordinary journal
mode, because write-ahead logs break on network file systems.
"""

import contextlib
import dataclasses
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ufm._support.settings import perhaps
from ufm.sweep.batch import Batch, Batches, DamagedBatchError, ForeignBatchError
from ufm.sweep.condition import authorise, check
from ufm.sweep.record import Columns, rows

FILE = "index.sqlite"
#: Increased when the tables change: an index of another version is rebuilt.
_VERSION = 3


@dataclasses.dataclass(frozen=True)
class Changes:
    """The batches that `reconcile` found added, gone with their cells, damaged, or foreign."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def _schema(columns: Columns) -> str:
    # In quotes, because a column may be called like a word of SQL: "order".
    listed = ", ".join(f'"{name}" {kind.upper()}' for name, kind in columns.items())
    return f"""
    CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER, environment TEXT);
    CREATE TABLE sweep (identity TEXT);
    CREATE TABLE cells ({listed}, file TEXT, position INTEGER, PRIMARY KEY (cell));
    PRAGMA user_version = {_VERSION};
    """


def open_for_writing(batches: Batches) -> tuple[sqlite3.Connection, bool]:
    """Open the index on disk; say whether it was unusable and had to be rebuilt."""
    path = batches.store / FILE
    existed = path.exists()
    if existed:
        with closed_on_error(sqlite3.connect(path)) as connection:
            if _is_usable(connection, batches):
                with connection:
                    connection.execute("UPDATE sweep SET identity = ?", (batches.sweep,))
                return connection, False
        connection.close()
        discard(batches)
    return _made(sqlite3.connect(path), batches), existed


def _made(connection: sqlite3.Connection, batches: Batches) -> sqlite3.Connection:
    with closed_on_error(connection):
        connection.executescript(_schema(batches.columns))
        with connection:
            connection.execute("INSERT INTO sweep VALUES (?)", (batches.sweep,))
    return connection


@contextlib.contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Close a connection if it is not ready for its user at the end."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def discard(batches: Batches) -> None:
    """Remove the index."""
    for name in (FILE, f"{FILE}-journal"):
        (batches.store / name).unlink(missing_ok=True)


def in_memory(batches: Batches) -> sqlite3.Connection:
    """Make an empty index in memory."""
    return _made(sqlite3.connect(":memory:"), batches)


def open_for_reading(batches: Batches) -> tuple[sqlite3.Connection, Changes]:
    """The index of the current batches, without writing any file.

    If the file on disk is up to date it is used, otherwise an updated copy in memory.
    """
    connection = _on_disk(batches)
    if connection is not None and _known(connection) == _found(batches):
        return connection, Changes()
    with closed_on_error(in_memory(batches)) as memory:
        if connection is not None:
            with contextlib.closing(connection):
                connection.backup(memory)
        return memory, reconcile(memory, batches)


def _on_disk(batches: Batches) -> sqlite3.Connection | None:
    path = batches.store / FILE
    if not path.exists():
        return None
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0)
        if _is_usable(connection, batches):
            return connection
        connection.close()
    return None


def _is_usable(connection: sqlite3.Connection, batches: Batches) -> bool:
    """Whether it is an intact database of this version, of this sweep, with its table.

    An index of another sweep would hide that the batches are of that sweep.
    """
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if version != _VERSION or sound != "ok":
            return False
        names = [row[1] for row in connection.execute("PRAGMA table_info(cells)")]
        identities = connection.execute("SELECT identity FROM sweep").fetchall()
    except sqlite3.Error:
        return False
    return names == [*batches.columns, "file", "position"] and (
        len(identities) == 1 and identities[0][0] in batches.accepted
    )


def _known(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    entries = connection.execute("SELECT name, size, changed FROM files").fetchall()
    return {name: (size, changed) for name, size, changed in entries}


def _found(batches: Batches) -> dict[str, tuple[int, int]]:
    return {path.name: _state(path) for path in batches.files()}


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def reconcile(connection: sqlite3.Connection, batches: Batches) -> Changes:
    """Update the index from the batches."""
    known, found = _known(connection), _found(batches)
    removed = [name for name in known if known[name] != found.get(name)]
    added, damaged, foreign = [], [], []
    held = {name: _cells_of(connection, name) for name in removed if name not in found}
    with connection:
        if removed:  # a cell of theirs may also be in another batch
            connection.execute("DELETE FROM cells")
            connection.execute("DELETE FROM files")
        for name in found:
            if not removed and known.get(name) == found[name]:
                continue
            try:
                batch = batches.read(batches.folder / name)
            except DamagedBatchError:
                damaged.append(name)
            except ForeignBatchError:
                foreign.append(name)
            else:
                _insert(connection, batches, name, found[name], batch)
                added.append(name)
    there = finished(connection) if held else set()
    gone = [name for name, cells in held.items() if not cells <= there]
    return Changes(tuple(added), tuple(gone), tuple(damaged), tuple(foreign))


def _cells_of(connection: sqlite3.Connection, name: str) -> set[int]:
    found = connection.execute("SELECT cell FROM cells WHERE file = ?", (name,))
    return {cell for (cell,) in found}


def insert(connection: sqlite3.Connection, batches: Batches, path: Path, batch: Batch) -> None:
    """Add a newly written batch."""
    with connection:
        _insert(connection, batches, path.name, _state(path), batch)


def _insert(
    connection: sqlite3.Connection,
    batches: Batches,
    name: str,
    state: tuple[int, int],
    batch: Batch,
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (name, *state, batch.environment)
    )
    marks = ", ".join("?" * (len(batches.columns) + 2))
    # A copied file repeats cells with the same bits: the first copy counts.
    connection.executemany(
        f"INSERT OR IGNORE INTO cells VALUES ({marks})",
        [(*row, name, position) for position, row in enumerate(rows(batch.table, batches.columns))],
    )


def environments(connection: sqlite3.Connection) -> list[str]:
    """The environments of the cells, as JSON, in the order of the batches."""
    found = connection.execute("SELECT environment FROM files ORDER BY name").fetchall()
    return list(dict.fromkeys(text for (text,) in found))


def place(connection: sqlite3.Connection, cell: int) -> tuple[str, int] | None:
    """The file and position of a finished cell."""
    query = "SELECT file, position FROM cells WHERE cell = ?"
    return connection.execute(query, (cell,)).fetchone()


def finished(connection: sqlite3.Connection) -> set[int]:
    """The numbers of the finished cells."""
    return {cell for (cell,) in connection.execute("SELECT cell FROM cells")}


def select(
    connection: sqlite3.Connection, columns: Columns, where: str = ""
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of the cells that satisfy the clause, in order.

    Raises `ValueError`, in one line, for an invalid clause.
    """
    # The line break ends a comment.
    clause = f"WHERE (\n{where}\n)" if where.strip() else ""
    connection.set_authorizer(authorise)
    try:
        check(where, tuple(columns))
        listed = ", ".join(f'"{name}"' for name in columns)
        query = f"SELECT {listed} FROM cells {clause} ORDER BY cell"
        cursor = connection.execute(query)
        return [item[0] for item in cursor.description], cursor.fetchall()
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        said = " ".join(str(error).split())
        unknown = re.match(r'no such column: "?(\w+)', said)
        hint = perhaps(unknown[1], list(columns)) if unknown else ""
        raise ValueError(
            f"{where!r} is not a condition on the cells ({said}{hint}): write a WHERE clause such "
            "as \"verdict != 'GLOBAL_MINIMUM' AND lam_w < 1e-3\""
        ) from None
    finally:
        connection.set_authorizer(None)
