"""Summarise a sweep: for each loss the number of proven global runs, and the worst numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ufm.model.rounding import resolved
from ufm.sweep.store import SweepStore

_GLOBAL = "GLOBAL_MINIMUM"
#: Conditions that select cells that fell short, and cells that could not be checked.
SHORT = f"verdict != '{_GLOBAL}' OR matches = 0"
UNCHECKED = "matches IS NULL"

Rows = Sequence[dict[str, Any]]


def summarise(store: SweepStore) -> list[dict[str, Any]]:
    """One row for each loss family, in the order of the cells.

    `matches`, `differs` and `unchecked` count the runs with the predicted geometry, with another,
    and without a known minimiser. `gap_tol` are the smallest and the largest tolerance of the gap
    over the runs at global minima. `max_excess` is the largest |f − f*| over the runs with a proven
    f*, and NC1–NC3 are the largest over the runs whose minimum is not the origin, which has no
    geometry. A number is NaN if no run has one.
    """
    table = store.table()
    return [_row(family, table) for family in dict.fromkeys(table["family"].tolist())]


def _row(family: str, table: dict[str, np.ndarray]) -> dict[str, Any]:
    mine = {name: column[table["family"] == family] for name, column in table.items()}
    verdicts = Counter(mine["verdict"].tolist())
    proven, shaped = mine["minimum_exact"] == 1, mine["kind"] != "origin"
    tolerances = mine["gap_tol"][mine["verdict"] == _GLOBAL]
    return {
        "loss": family,
        "cells": len(mine["cell"]),
        "global": verdicts[_GLOBAL],
        "others": {name: count for name, count in verdicts.items() if name != _GLOBAL},
        "unfinished": int(np.sum(mine["status"] != "CONVERGED")),
        "matches": int(np.sum(mine["matches"] == 1)),
        "differs": int(np.sum(mine["matches"] == 0)),
        "unchecked": int(np.sum(mine["matches"] == -1)),
        "gap_tol": [
            float(f(tolerances)) if tolerances.size else math.nan for f in (np.min, np.max)
        ],
        "max_gap": _worst(mine["gap"]),
        "max_excess": _worst(resolved(mine["value"] - mine["minimum"], mine["minimum"])[proven]),
        "nc1": _worst(mine["nc1"][shaped]),
        "nc2": _worst(mine["nc2"][shaped]),
        "nc3": _worst(mine["nc3"][shaped]),
        "steps": float(np.mean(mine["steps"])),
        "seconds": float(np.sum(mine["seconds"])),
    }


def _worst(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.max(np.abs(known))) if known.size else float("nan")


def _total(rows: Rows, name: str) -> int:
    return sum(row[name] for row in rows)


def standing(rows: Rows, num_cells: int) -> str:
    """The state of the claim that all minimisers are as predicted: "holds", "short" or "open".

    It is "short" if a run is not proven global or has another geometry, and "open" while runs are
    unfinished or their geometry could not be checked.
    """
    total = _total(rows, "cells")
    if _total(rows, "global") < total or _total(rows, "differs"):
        return "short"
    return "holds" if total == num_cells and total == _total(rows, "matches") else "open"


def claim(rows: Rows, num_cells: int) -> str:
    """Describe the result of the sweep for the claim that all minimisers are as predicted."""
    total, proven, matching, unchecked = (
        _total(rows, name) for name in ("cells", "global", "matches", "unchecked")
    )
    if not total:
        return f"None of {num_cells:,} runs is finished."
    finished = "" if total == num_cells else f" ({num_cells - total:,} more are not finished)"
    within = _tolerance(rows) if proven else ""
    if proven == total == matching:
        return (
            f"The claim holds in all {total:,} runs{finished}: each ended at a proven global "
            f"minimum{within} with the predicted geometry."
        )
    checked = total - unchecked
    geometry = f"{matching:,} of {total:,} have the predicted geometry"
    if unchecked == total:
        geometry = "their geometry could not be checked, because no minimiser is known"
    elif unchecked:
        geometry = (
            f"of {checked:,} whose minimiser is known {matching:,} have the predicted geometry; "
            f"that of the other {unchecked:,} could not be checked"
        )
    return (
        f"{proven:,} of {total:,} runs{finished} ended at a proven global minimum{within}; "
        f"{geometry}."
    )


def _tolerance(rows: Rows) -> str:
    """The gap to which the runs are proven: one number, or a range over the problems."""
    ends = [row["gap_tol"] for row in rows if row["global"]]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    least, most = _rounded_up(low), _rounded_up(high)
    if least == most:
        return f" (f − f* ≤ {most})"
    return f" (f − f* ≤ {least} to {most}, by problem)"


def _rounded_up(value: float) -> str:
    """Round up to two digits."""
    text = f"{value:.1e}"
    if float(text) >= value:
        return text
    return f"{value + 0.05 * 10.0 ** math.floor(math.log10(value)):.1e}"
