"""What is stored of a run: the columns of the table, and the arrays beside it.

A batch of runs is a handful of arrays: one for each column, in the order of the cells, and for
arrays of varying length all of them end to end with the places where each begins.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Column → kind. Unknown whole numbers are −1 and unknown real ones NaN; both are NULL in SQL.
COLUMNS: dict[str, str] = {
    # what was run
    "cell": "integer",
    "loss": "text",
    "family": "text",
    "alpha": "real",
    "gamma": "real",
    "scale": "real",
    "target": "real",
    "num_classes": "integer",
    "dim": "integer",
    "per_class": "integer",
    "class_counts": "text",
    "lam_w": "real",
    "lam_h": "real",
    "lam_b": "real",
    "mu": "real",
    "method": "text",
    "max_steps": "integer",
    "start_scale": "real",
    "seed": "integer",
    "start": "integer",
    # how it ended
    "status": "text",
    "verdict": "text",
    "reason": "text",
    "value": "real",
    "gap": "real",
    "gap_tol": "real",
    "rounding": "real",
    "grad_norm": "real",
    "tol": "real",
    "dual_norm": "real",
    "rho": "real",
    "norm_w": "real",
    "norm_h": "real",
    "norm_b": "real",
    "nc1": "real",
    "nc2": "real",
    "nc3": "real",
    "nc4": "real",
    "within_between_ratio": "real",
    "steps": "integer",
    "products": "integer",
    "seconds": "real",
    "negative": "integer",
    "zero": "integer",
    "positive": "integer",
    # what theory says of the problem
    "minimum": "real",
    "minimum_exact": "integer",
    "kind": "text",
    "rho_star": "real",
    "threshold": "real",
    "logit_distance": "real",
    "matches": "integer",
}

_DTYPES = {"integer": np.int64, "real": np.float64, "text": np.str_}


@dataclasses.dataclass(frozen=True)
class Record:
    """One run: a value for every column, and arrays by name."""

    row: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def cell(self) -> int:
        return int(self.row["cell"])


def pack(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """A batch as arrays that `numpy.savez` takes."""
    packed = {
        name: np.array([record.row[name] for record in records], _DTYPES[kind])
        for name, kind in COLUMNS.items()
    }
    for name in dict.fromkeys(name for record in records for name in record.arrays):
        pieces = [record.arrays.get(name, np.zeros(0)) for record in records]
        # Beginnings and shapes: entry i is flat[offsets[i]:offsets[i+1]].reshape(shapes[i]).
        packed[f"array_{name}"] = np.concatenate([piece.ravel() for piece in pieces])
        packed[f"offsets_{name}"] = np.cumsum([0, *(piece.size for piece in pieces)])
        packed[f"shapes_{name}"] = _shapes(pieces)
    return packed


def _shapes(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """One row for each array; −1 beyond its last axis."""
    most = max(piece.ndim for piece in pieces)
    rows = [[*piece.shape, *[-1] * (most - piece.ndim)] for piece in pieces]
    return np.array(rows, np.int64)


def rows(packed: dict[str, np.ndarray]) -> list[tuple[Any, ...]]:
    """The table of a batch, in the order of `COLUMNS`, with None for what is unknown."""
    columns = [_with_none(packed[name].tolist(), kind) for name, kind in COLUMNS.items()]
    return list(zip(*columns, strict=True))


def _with_none(values: list[Any], kind: str) -> list[Any]:
    if kind == "real":
        return [None if x != x else x for x in values]
    if kind == "integer":
        return [None if x == -1 else x for x in values]
    return values


def unpack(packed: dict[str, np.ndarray], position: int) -> dict[str, np.ndarray]:
    """The arrays of the run at one place of a batch."""
    found = {}
    for key in packed:
        if not key.startswith("array_"):
            continue
        name = key.removeprefix("array_")
        begin, end = packed[f"offsets_{name}"][position : position + 2]
        shape = packed[f"shapes_{name}"][position]
        found[name] = packed[key][begin:end].reshape(shape[shape >= 0])
    return found
