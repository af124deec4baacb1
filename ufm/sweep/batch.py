"""The batches of a store: .npz files, written whole, that identify their sweep."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ufm._support.atomic_files import write_whole
from ufm._support.npz import DAMAGED, read_arrays
from ufm.sweep.record import Columns, Record, pack, unpack

FOLDER = "batches"
#: Besides the columns: the identity of the sweep, and the environment of the cells as JSON.
_SWEEP, _ENVIRONMENT = "sweep", "environment"


class DamagedBatchError(ValueError):
    """A file whose data have changed since they were written."""


class ForeignBatchError(ValueError):
    """A batch of another sweep."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """The table of a batch, one array for each column, and its environment as JSON."""

    table: Mapping[str, np.ndarray]
    environment: str


@dataclasses.dataclass(frozen=True)
class Batches:
    """The folder of a sweep's batches, and their required contents."""

    store: Path
    columns: Columns
    #: The identity written into a batch, and the accepted identities: also those of the same folder
    #: when its sweep was smaller.
    sweep: str
    accepted: frozenset[str]

    @property
    def folder(self) -> Path:
        return self.store / FOLDER

    def files(self) -> list[Path]:
        """The batches by name; only regular files count."""
        return sorted(path for path in self.folder.glob("*.npz") if path.is_file())

    def read(self, path: Path) -> Batch:
        """Read a batch and check all its data.

        Raises `DamagedBatchError` and `ForeignBatchError`, and `OSError` if the file cannot be
        read, which does not count as damage.
        """
        path.open("rb").close()
        try:
            with zipfile.ZipFile(path) as file:
                if file.testzip() is not None:
                    raise DamagedBatchError(path.name)
            found, _ = read_arrays(path, (_SWEEP, _ENVIRONMENT, *self.columns))
            sweep, environment = str(found.pop(_SWEEP)), str(found.pop(_ENVIRONMENT))
        except DAMAGED:
            raise DamagedBatchError(path.name) from None
        if sweep not in self.accepted:
            raise ForeignBatchError(path.name)
        lengths = {len(column) for column in found.values() if column.ndim == 1}
        if set(found) != set(self.columns) or len(lengths) != 1:
            raise DamagedBatchError(path.name)
        return Batch(found, environment)

    def write(
        self, records: Sequence[Record], environment: Mapping[str, Any]
    ) -> tuple[Path, Batch]:
        """Store the records in a new file, whole, or raise `OSError` and store nothing."""
        packed = pack(records, self.columns)
        where = json.dumps(environment, sort_keys=True)
        labels = {_SWEEP: np.array(self.sweep), _ENVIRONMENT: np.array(where)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **labels, **packed)  # pyright: ignore[reportArgumentType]  # names are ours
        path = self._fresh(records)
        write_whole(path, buffer.getvalue())
        return path, Batch({name: packed[name] for name in self.columns}, where)

    def _fresh(self, records: Sequence[Record]) -> Path:
        """An unused name that says which cells are inside."""
        name = f"{records[0].cell:07d}-{records[-1].cell:07d}-{len(records)}"
        path, i = self.folder / f"{name}.npz", 1
        while path.exists():
            i += 1
            path = self.folder / f"{name}-{i}.npz"
        return path

    def arrays(self, name: str, position: int) -> dict[str, np.ndarray]:
        """The stored arrays of the run at one position of a batch. Raises `DamagedBatchError`."""
        others = {_SWEEP, _ENVIRONMENT, *self.columns}
        try:
            with np.load(self.folder / name, allow_pickle=False) as packed:
                wanted = {key: packed[key] for key in packed.files if key not in others}
                return unpack(wanted, position)
        except DAMAGED:
            raise DamagedBatchError(
                f"{self.folder / name} is damaged: check all with `ufm store reindex`, then run "
                "the sweep again"
            ) from None
