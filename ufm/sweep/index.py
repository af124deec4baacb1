"""The index of a store: every finished run as a row of SQL, made from the batches and nothing else.

It can be lost, damaged or out of date without harm: `reconcile` brings it to what the .npz files
say, reading only those it does not know by name, size and time. One process writes it, in ordinary
journal mode, because write-ahead logs break on network file systems.
"""

import contextlib
import dataclasses
import re
import sqlite3
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ufm.archive import DAMAGED, read_arrays
from ufm.settings import perhaps
from ufm.sweep.record import COLUMNS, rows

FILE = "index.sqlite"
BATCHES = "batches"
#: Raised with the columns: an index of another version is made anew.
_VERSION = 1

_SCHEMA = f"""
CREATE TABLE files (name TEXT PRIMARY KEY, size INTEGER, changed INTEGER);
CREATE TABLE cells (
    {", ".join(f"{name} {kind.upper()}" for name, kind in COLUMNS.items())},
    file TEXT, position INTEGER, PRIMARY KEY (cell)
);
PRAGMA user_version = {_VERSION};
"""
#: What a query may do; everything else is refused by SQLite itself.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


@dataclasses.dataclass(frozen=True)
class Changes:
    """What `reconcile` found: batches that it took in, that are gone, and that are damaged."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    damaged: tuple[str, ...]


def batch_files(store: Path) -> list[Path]:
    """The batches, in the order of their names."""
    return sorted((store / BATCHES).glob("*.npz"))


def open_for_writing(store: Path) -> tuple[sqlite3.Connection, bool]:
    """The index on disk, and whether it had to be made anew because it was damaged."""
    path = store / FILE
    existed = path.exists()
    if existed:
        connection = sqlite3.connect(path)
        if _is_usable(connection):
            return connection, False
        connection.close()
        discard(store)
    connection = sqlite3.connect(path)
    connection.executescript(_SCHEMA)
    return connection, existed


def discard(store: Path) -> None:
    """Remove the index."""
    for name in (FILE, f"{FILE}-journal"):
        (store / name).unlink(missing_ok=True)


def in_memory() -> sqlite3.Connection:
    """An empty index that nobody else sees."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(_SCHEMA)
    return connection


def open_for_reading(store: Path) -> tuple[sqlite3.Connection, Changes]:
    """The index as the batches are now, without writing anything.

    The file is used as it is where it is up to date, else a copy in memory that is.
    """
    connection = _on_disk(store)
    if connection is not None and _known(connection) == _found(store):
        return connection, Changes((), (), ())
    memory = in_memory()
    if connection is not None:
        connection.backup(memory)
        connection.close()
    return memory, reconcile(memory, store)


def _on_disk(store: Path) -> sqlite3.Connection | None:
    path = store / FILE
    if not path.exists():
        return None
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0)
        if _is_usable(connection):
            return connection
        connection.close()
    return None


def _is_usable(connection: sqlite3.Connection) -> bool:
    """Is it a whole database of this version?"""
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error:
        return False
    return version == _VERSION and sound == "ok"


def _known(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    entries = connection.execute("SELECT name, size, changed FROM files").fetchall()
    return {name: (size, changed) for name, size, changed in entries}


def _found(store: Path) -> dict[str, tuple[int, int]]:
    stats = {path.name: path.stat() for path in batch_files(store)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def reconcile(connection: sqlite3.Connection, store: Path) -> Changes:
    """Bring the index to what the batches say."""
    known, found = _known(connection), _found(store)
    removed = [name for name in known if known[name] != found.get(name)]
    added, damaged = [], []
    with connection:
        for name in removed:
            connection.execute("DELETE FROM cells WHERE file = ?", (name,))
            connection.execute("DELETE FROM files WHERE name = ?", (name,))
        for name in found:
            if known.get(name) == found[name]:
                continue
            packed = read_batch(store / BATCHES / name)
            if packed is None:
                damaged.append(name)
            else:
                _insert(connection, name, found[name], packed)
                added.append(name)
    gone = [name for name in removed if name not in found]
    return Changes(tuple(added), tuple(gone), tuple(damaged))


def read_batch(path: Path) -> dict[str, np.ndarray] | None:
    """The columns of a batch whose data are all as they were written, else None.

    Raises `OSError` where the file cannot be read at all: that is no damage.
    """
    path.open("rb").close()
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return None
        found, _ = read_arrays(path, COLUMNS)
    except DAMAGED:
        return None
    lengths = {len(column) for column in found.values() if column.ndim == 1}
    return found if set(found) == set(COLUMNS) and len(lengths) == 1 else None


def insert(connection: sqlite3.Connection, path: Path, packed: dict[str, np.ndarray]) -> None:
    """Add a batch that has just been written."""
    stat = path.stat()
    with connection:
        _insert(connection, path.name, (stat.st_size, stat.st_mtime_ns), packed)


def _insert(
    connection: sqlite3.Connection,
    name: str,
    state: tuple[int, int],
    packed: dict[str, np.ndarray],
) -> None:
    connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (name, *state))
    marks = ", ".join("?" * (len(COLUMNS) + 2))
    # Shards of different divisions may have done a cell twice, with the same bits: the first stays.
    connection.executemany(
        f"INSERT OR IGNORE INTO cells VALUES ({marks})",
        [(*row, name, position) for position, row in enumerate(rows(packed))],
    )


def select(
    connection: sqlite3.Connection, where: str = "", columns: Sequence[str] = ()
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names and rows of the cells where the clause holds, in their order.

    Raises `ValueError`, in one line, for anything but a clause that reads.
    """
    # The line break ends a comment; parentheses that do not close are an error of syntax.
    clause = f"WHERE (\n{where}\n)" if where.strip() else ""
    names = ", ".join(columns or COLUMNS)
    connection.set_authorizer(_authorise)
    try:
        cursor = connection.execute(f"SELECT {names} FROM cells {clause} ORDER BY cell")
        return [item[0] for item in cursor.description], cursor.fetchall()
    except (sqlite3.Error, sqlite3.Warning) as error:
        unknown = re.fullmatch(r"no such column: (\w+)", str(error))
        hint = perhaps(unknown[1], list(COLUMNS)) if unknown else ""
        raise ValueError(
            f"{where!r} is no condition on the cells ({error}{hint}): write a WHERE clause such as "
            "\"verdict != 'GLOBAL_MINIMUM' AND lam_w < 1e-3\""
        ) from None
    finally:
        connection.set_authorizer(None)


def _authorise(action: int, first: Any, second: Any, *_: Any) -> int:
    forbidden = action == sqlite3.SQLITE_FUNCTION and second == "load_extension"
    return sqlite3.SQLITE_OK if action in _ALLOWED and not forbidden else sqlite3.SQLITE_DENY
