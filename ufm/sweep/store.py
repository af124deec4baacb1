"""The folder of a sweep: one .npz for each batch, written whole or not at all, and an index.

sweep.json        the sweep, and the environment of the first run
batches/*.npz     the results
index.sqlite      the results as an SQL table, which can be rebuilt (`ufm.sweep.index`)
locks/            the processes that use the folder (`ufm.sweep.lock`)

store = open_store("ufm-results/decays")
store.query("verdict != 'GLOBAL_MINIMUM'")
store.arrays(7)["history_value"]
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np

from ufm._support import settings
from ufm.sweep import index
from ufm.sweep.batch import Batches
from ufm.sweep.record import Columns

MANIFEST = "sweep.json"
FORMAT = 2


class Earlier(TypedDict):
    """The file of a sweep, with all defaults written out, and its number of cells."""

    config: dict[str, Any]
    num_cells: int


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sweep.json."""

    format: int
    kind: Literal["problems", "networks"]
    config: dict[str, Any]
    num_cells: Annotated[int, msgspec.Meta(ge=1)]
    columns: dict[
        Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$")],
        Literal["integer", "real", "text"],
    ]
    precision: str
    environment: dict[str, Any]
    #: Earlier files of the folder, oldest first (`ufm.sweep.growth`).
    before: list[Earlier] = []


class StoreWarning(UserWarning):
    """Warns that a part of a store is ignored."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """The contents of a store: a kind of sweep, its file with all defaults, and its table.

    `before` are its earlier files, each with fewer or equal cells.
    """

    kind: str
    config: Mapping[str, Any]
    num_cells: int
    columns: Columns
    precision: str
    before: tuple[Earlier, ...] = ()

    @property
    def identity(self) -> str:
        """Equal for sweeps with the same cells and numbers, and any title.

        It includes the earlier files, because they number the cells.
        """
        parts = [self.kind, _untitled(self.config), self.num_cells, dict(self.columns)]
        parts += [self.precision, *([_untitled(x["config"]), x["num_cells"]] for x in self.before)]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def identities(self) -> frozenset[str]:
        """Its identity and those with earlier files, which its batches may have."""
        earlier = [
            dataclasses.replace(self, **each, before=self.before[:i])
            for i, each in enumerate(self.before)
        ]
        return frozenset(each.identity for each in (*earlier, self))


def _untitled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "title"}


@dataclasses.dataclass(frozen=True)
class SweepStore:
    """The results of a sweep, for reading only; see the module.

    A batch that is damaged, or belongs to another sweep, is ignored with a warning.
    """

    path: Path
    contents: Contents
    environment: dict[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """The sweep's file with all defaults written out."""
        return self.contents.config

    @property
    def configs(self) -> list[Mapping[str, Any]]:
        """All files of the sweep, oldest first, which together number its cells."""
        return [*(each["config"] for each in self.contents.before), self.config]

    @property
    def num_cells(self) -> int:
        """The number of cells of the sweep, finished or not."""
        return self.contents.num_cells

    @property
    def batches(self) -> Batches:
        """The files."""
        contents = self.contents
        return Batches(self.path, contents.columns, contents.identity, contents.identities)

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        connection, changes = index.open_for_reading(self.batches)
        with contextlib.closing(connection):
            for note in notes(changes, "its cells are missing here; run the sweep again"):
                warnings.warn(note, StoreWarning, stacklevel=4)
            yield connection

    def finished(self) -> set[int]:
        """The numbers of the finished cells."""
        with self._index() as connection:
            return index.finished(connection)

    def environments(self) -> list[dict[str, Any]]:
        """The environments of the cells: versions, processor, threads, commit."""
        with self._index() as connection:
            return [json.loads(text) for text in index.environments(connection)]

    def query(self, where: str = "") -> list[dict[str, Any]]:
        """The finished cells that satisfy an SQL condition on the columns, as dictionaries.

        Unknown numbers are None. Raises `ValueError` for an invalid condition.
        """
        names, found = self.select(where)
        return [dict(zip(names, row, strict=True)) for row in found]

    def select(self, where: str = "") -> tuple[list[str], list[tuple[Any, ...]]]:
        """The same, as column names and rows."""
        with self._index() as connection:
            return index.select(connection, self.contents.columns, where)

    def table(self, where: str = "") -> dict[str, np.ndarray]:
        """The finished cells as columns; unknown real numbers are NaN, whole ones −1."""
        names, found = self.select(where)
        columns = zip(*found, strict=True) if found else ((),) * len(names)
        return {
            name: _column(values, self.contents.columns[name])
            for name, values in zip(names, columns, strict=True)
        }

    def arrays(self, cell: int) -> dict[str, np.ndarray]:
        """The stored arrays of a run, such as history_*, W, H, b, eigenvalues, multiplicities.

        Raises `ValueError` for a cell that is not finished, and for damaged data.
        """
        with self._index() as connection:
            found = index.place(connection, cell)
        if found is None:
            raise ValueError(f"cell {cell} is not finished in {self.path}")
        return self.batches.arrays(*found)


def notes(changes: index.Changes, consequence: str) -> list[str]:
    """One line for each damaged or foreign batch."""
    found = [f"{name} is damaged: {consequence}" for name in changes.damaged]
    foreign = [f"{name} belongs to another sweep: it is ignored" for name in changes.foreign]
    return found + foreign


def _column(values: Sequence[Any], kind: str) -> np.ndarray:
    if kind == "text":
        return np.array(values, np.str_)
    missing, dtype = (np.nan, np.float64) if kind == "real" else (-1, np.int64)
    return np.array([missing if x is None else x for x in values], dtype)


def open_store(path: str | os.PathLike[str]) -> SweepStore:
    """Open the folder of a sweep for reading.

    Args:
        path: A folder that `run_sweep` or `ufm sweep` made.

    Returns:
        The store: its sweep, its cells and their results.

    Raises:
        ValueError: The folder has no sweep.
    """
    folder = Path(path)
    marker = folder / MANIFEST
    if not marker.is_file():
        raise ValueError(f"{folder} is not the folder of a sweep: it has no {MANIFEST}")
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        written = found["format"]
        manifest = settings.convert(found, _Manifest) if written == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{marker} cannot be read ({error}): remove it and run the sweep again, which keeps "
            "the batches, unless its file has grown since"
        ) from None
    if manifest is None:
        raise ValueError(
            f"{marker} has format {written}, which this version cannot read: read it with the "
            "version that wrote it, or choose another folder"
        )
    values = msgspec.structs.asdict(manifest)
    environment = values.pop("environment")
    del values["format"]
    values["before"] = tuple(values["before"])
    return SweepStore(folder, Contents(**values), environment)
