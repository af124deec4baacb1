"""A sweep in a few rows: for each loss how many runs were proven global, and the worst numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ufm.sweep.store import SweepStore

_GLOBAL = "GLOBAL_MINIMUM"


def summarise(store: SweepStore) -> list[dict[str, Any]]:
    """One row for each loss family, in the order of the cells.

    `max_excess` is the largest |f − f*| where f* is proven, and NC1–NC3 are the largest where the
    minimum is not the origin, which has no geometry. Numbers are NaN where no run has one.
    """
    table = store.table()
    return [_row(family, table) for family in dict.fromkeys(table["family"].tolist())]


def _row(family: str, table: dict[str, np.ndarray]) -> dict[str, Any]:
    mine = {name: column[table["family"] == family] for name, column in table.items()}
    verdicts = Counter(mine["verdict"].tolist())
    proven, shaped = mine["minimum_exact"] == 1, mine["kind"] != "origin"
    return {
        "loss": family,
        "cells": len(mine["cell"]),
        "global": verdicts[_GLOBAL],
        "others": {name: count for name, count in verdicts.items() if name != _GLOBAL},
        "unfinished": int(np.sum(mine["status"] != "CONVERGED")),
        "matches": int(np.sum(mine["matches"] == 1)),
        "max_gap": _worst(mine["gap"]),
        "max_excess": _worst((mine["value"] - mine["minimum"])[proven]),
        "nc1": _worst(mine["nc1"][shaped]),
        "nc2": _worst(mine["nc2"][shaped]),
        "nc3": _worst(mine["nc3"][shaped]),
        "steps": float(np.mean(mine["steps"])),
        "seconds": float(np.sum(mine["seconds"])),
    }


def _worst(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.max(np.abs(known))) if known.size else float("nan")


def claim(rows: Sequence[dict[str, Any]], num_cells: int) -> str:
    """What the sweep says about the claim that every minimiser is the predicted one."""
    total, proven, matching = (
        sum(row[name] for row in rows) for name in ("cells", "global", "matches")
    )
    if not total:
        return f"None of {num_cells:,} runs is finished."
    finished = "" if total == num_cells else f" ({num_cells - total:,} more are not finished)"
    if proven == total == matching:
        return (
            f"The claim holds in all {total:,} runs{finished}: each ended at a proven global "
            "minimum with the predicted geometry."
        )
    return (
        f"{proven:,} of {total:,} runs{finished} ended at a proven global minimum; {matching:,} "
        "have the predicted geometry."
    )
