"""The stored record of a run: a row of the sweep's table, and arrays.

A batch of runs has one array for each column, in the order of the cells. Arrays of varying length
are concatenated, with the positions where each begins.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Column → "integer", "real" or "text". Unknown whole numbers are −1 and unknown real ones NaN;
#: both are NULL in SQL.
Columns = Mapping[str, str]

_DTYPES = {"integer": np.int64, "real": np.float64, "text": np.str_}


@dataclasses.dataclass(frozen=True)
class Record:
    """One run: a value for every column, and arrays by name."""

    row: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def cell(self) -> int:
        return int(self.row["cell"])


def pack(records: Sequence[Record], columns: Columns) -> dict[str, np.ndarray]:
    """Convert a batch to arrays for `numpy.savez`."""
    packed = {
        name: np.array([record.row[name] for record in records], _DTYPES[kind])
        for name, kind in columns.items()
    }
    for name in dict.fromkeys(name for record in records for name in record.arrays):
        pieces = [record.arrays.get(name) for record in records]
        there = [piece for piece in pieces if piece is not None]
        sizes = [0 if piece is None else piece.size for piece in pieces]
        # Offsets and shapes: entry i is flat[offsets[i]:offsets[i+1]].reshape(shapes[i]).
        packed[f"array_{name}"] = np.concatenate([piece.ravel() for piece in there])
        packed[f"offsets_{name}"] = np.cumsum([0, *sizes])
        packed[f"shapes_{name}"] = _shapes(pieces, max(piece.ndim for piece in there))
    return packed


#: Stands for a length beyond an array's last axis, and for a run without such an array.
_BEYOND, _ABSENT = -1, -2


def _shapes(pieces: Sequence[np.ndarray | None], most: int) -> np.ndarray:
    """One row for each run."""
    rows = [
        [_ABSENT] * most if x is None else [*x.shape, *[_BEYOND] * (most - x.ndim)] for x in pieces
    ]
    return np.array(rows, np.int64).reshape(len(pieces), most)


def rows(packed: Mapping[str, np.ndarray], columns: Columns) -> list[tuple[Any, ...]]:
    """The rows of a batch, in the order of its columns, with None for unknown values."""
    found = [_with_none(packed[name].tolist(), kind) for name, kind in columns.items()]
    return list(zip(*found, strict=True))


def _with_none(values: list[Any], kind: str) -> list[Any]:
    if kind == "real":
        return [None if x != x else x for x in values]
    if kind == "integer":
        return [None if x == -1 else x for x in values]
    return values


def unpack(packed: Mapping[str, np.ndarray], position: int) -> dict[str, np.ndarray]:
    """The arrays of the run at one position of a batch."""
    found = {}
    for key in packed:
        if not key.startswith("array_"):
            continue
        name = key.removeprefix("array_")
        begin, end = packed[f"offsets_{name}"][position : position + 2]
        shape = packed[f"shapes_{name}"][position]
        if _ABSENT not in shape:
            found[name] = packed[key][begin:end].reshape(shape[shape != _BEYOND])
    return found
