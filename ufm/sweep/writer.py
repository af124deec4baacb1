"""Make the folder of a sweep, and add batches to it."""

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ufm._support.atomic_files import PARTIAL, unwritable, write_whole
from ufm._support.strict_json import dumps
from ufm.sweep import batch, index
from ufm.sweep.lock import FOLDER as LOCKS
from ufm.sweep.lock import locked
from ufm.sweep.provenance import differences, provenance
from ufm.sweep.record import Record
from ufm.sweep.store import FORMAT, MANIFEST, Contents, SweepStore, notes, open_store

#: Seconds that a shard waits to update the index while another one does.
_PATIENCE = 30.0


def store_of(path: Path, contents: Contents) -> SweepStore | None:
    """The folder's store if there is one. Raises `ValueError` if it belongs to another sweep.

    It may be older than the growth of the sweep's file.
    """
    if not (path / MANIFEST).exists():
        return None
    store = open_store(path)
    if store.contents.identity not in contents.identities:
        raise ValueError(
            f"{path} holds {_how_other(store.contents, contents)}: choose another `out`"
        )
    return store


def _how_other(there: Contents, here: Contents) -> str:
    if dataclasses.replace(there, precision=here.precision).identity == here.identity:
        return f"this sweep in {there.precision}, but this process uses {here.precision}"
    if dataclasses.replace(there, columns=here.columns).identity == here.identity:
        return (
            "this sweep with other columns, since its losses have other hyperparameters or another "
            "version of ufm began it"
        )
    return "another sweep"


def make_store(path: Path, contents: Contents) -> SweepStore:
    """Make the folder of a sweep, or open the folder of the same sweep.

    Raises `ValueError` for a folder with other contents or another sweep, or one that cannot be
    written. The title may change.
    """
    store = store_of(path, contents)
    if store is not None and store.contents == contents:
        return store
    if store is None and path.exists() and (not path.is_dir() or _foreign(path)):
        raise ValueError(f"{path} exists and is not the folder of a sweep: choose another `out`")
    where = provenance() if store is None else store.environment
    manifest = {"format": FORMAT, **dataclasses.asdict(contents), "environment": where}
    if not contents.before:
        del manifest["before"]
    try:
        (path / batch.FOLDER).mkdir(parents=True, exist_ok=True)
        # Shards may start at the same moment, so each writes its own file.
        write_whole(path / MANIFEST, dumps(manifest).encode(), owner=f".{os.getpid()}")
    except OSError as error:
        raise unwritable(path, error) from None
    return open_store(path)


def _foreign(folder: Path) -> bool:
    """Whether the folder has other contents than a sweep, or the remains of a killed first run."""
    names = [entry.name for entry in folder.iterdir()]
    known = any(name in (batch.FOLDER, LOCKS) or name.endswith(PARTIAL) for name in names)
    return bool(names) and not known


class Writer:
    """Adds batches to a store. One writer at a time (`ufm.sweep.lock`), or one for each shard.

    `notes` has one line for each repair. With `shared` other shards write at the same time, and
    the index on disk is updated at the end.
    """

    def __init__(self, store: SweepStore, shared: bool = False) -> None:
        self.store = store
        self.notes: list[str] = []
        self._batches, self._shared, self._environment = store.batches, shared, provenance()
        #: Written batches that are not in the index yet.
        self._waiting: list[tuple[Path, batch.Batch]] = []
        try:
            self._batches.folder.mkdir(exist_ok=True)
            if not shared:
                self._clear_partial()
            with index.closed_on_error(self._open()) as self._connection:
                self._take_in()
                self._compare()
        except (OSError, sqlite3.Error) as error:
            raise _cannot_use(store.path, error) from None

    def _clear_partial(self) -> None:
        """Remove files that a killed process had not finished."""
        for path in self._batches.folder.glob(f"*{PARTIAL}"):
            path.unlink()

    def _open(self) -> sqlite3.Connection:
        if self._shared:
            return index.in_memory(self._batches)
        connection, damaged = index.open_for_writing(self._batches)
        if damaged:
            self.notes.append("index.sqlite cannot be used: it is rebuilt from the batches")
        return connection

    def _take_in(self) -> None:
        changes = index.reconcile(self._connection, self._batches)
        for name in changes.damaged:
            damaged = self._batches.folder / name
            with contextlib.suppress(FileNotFoundError):  # another shard was quicker
                os.replace(damaged, damaged.with_suffix(".damaged"))
        self.notes += notes(changes, "its cells are computed again")
        if changes.removed:
            listed = ", ".join(changes.removed)
            self.notes.append(f"{listed} is gone: its cells are computed again")

    def _compare(self) -> None:
        """Note if numbers may differ in their last bits from the existing ones."""
        changed = differences(self.store.environment, self._environment)
        if changed and self.finished():
            self.notes.append(f"the first cells were computed with other {', '.join(changed)}")

    def finished(self) -> set[int]:
        """The cells that are done."""
        return index.finished(self._connection)

    def add(self, records: Sequence[Record]) -> None:
        """Write a batch. Once this returns, its cells are finished in any case.

        Raises `ValueError` if the folder cannot be written; the batch then does not count.
        """
        try:
            self._waiting.append(self._batches.write(records, self._environment))
            self._enter()
        except (OSError, sqlite3.Error) as error:
            raise _cannot_use(self.store.path, error) from None

    def _enter(self) -> None:
        """Add pending batches to the index; they stay pending while a reader holds the index."""
        try:
            while self._waiting:
                index.insert(self._connection, self._batches, *self._waiting[0])
                del self._waiting[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise

    def close(self) -> None:
        """Close the index; one of several shards updates the index on disk."""
        with contextlib.suppress(OSError, sqlite3.Error):
            self._enter()
        self._connection.close()
        if self._shared:
            # If it cannot be written now, the next process writes it: nothing depends on it.
            with (
                contextlib.suppress(OSError, sqlite3.Error, ValueError),
                locked(self.store.path, index.FILE, patience=_PATIENCE),
            ):
                _bring_up_to_date(self._batches)


def _bring_up_to_date(batches: batch.Batches) -> index.Changes:
    connection, _ = index.open_for_writing(batches)
    with contextlib.closing(connection):
        return index.reconcile(connection, batches)


def reindex(store: SweepStore) -> index.Changes:
    """Rebuild the index from the batches, and check all their data.

    Raises `ValueError` while a sweep writes to the folder, or if it cannot be written.
    """
    with locked(store.path):
        try:
            index.discard(store.batches)
            return _bring_up_to_date(store.batches)
        except (OSError, sqlite3.Error) as error:
            remedy = "make room or make the folder writable; queries work without an index too"
            raise _cannot_use(store.path, error, remedy) from None


def _cannot_use(path: Path, error: Exception, remedy: str = "") -> ValueError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    remedy = remedy or "make room or choose another `out`, and run the same command again"
    return ValueError(
        f"{path} cannot be read or written ({why}): finished cells are safe; {remedy}"
    )
