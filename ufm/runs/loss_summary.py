"""Summarise the runs of one loss by their worst values, as a row of a table.

A number is NaN if a run has none; without that run the worst of the others would be shown.
"""

import dataclasses
from typing import Any

import numpy as np

from ufm.model.rounding import resolved
from ufm.runs.loss_result import LossResult


@dataclasses.dataclass(frozen=True)
class Summary:
    """A row. `max_gap` is the largest certified gap, `distance` the largest |f − f*|.

    `distance` is NaN if f* is unknown, and 0 if it does not exceed rounding. `nc1`, `nc2`, `nc3`
    are the largest of all runs, NaN if a run has collapsed to the origin.
    """

    label: str
    minimum: str
    num_global: int
    num_starts: int
    max_gap: float
    distance: float
    nc1: float
    nc2: float
    nc3: float
    seconds: float


def summarise(result: LossResult) -> Summary:
    """Summarise a stored result."""
    minimum = result["minimum"]
    star = minimum["value"] if minimum["is_exact"] else np.nan
    return Summary(
        label=result["label"],
        minimum=minimum["kind"],
        num_global=result["verdicts"]["GLOBAL_MINIMUM"],
        num_starts=result["starts"],
        max_gap=_worst(_column(result, "gap")),
        distance=_worst(resolved(_column(result, "value") - star, star)),
        nc1=_worst(_column(result, "nc1")),
        nc2=_worst(_column(result, "nc2")),
        nc3=_worst(_column(result, "nc3")),
        seconds=result["seconds"],
    )


def _column(result: LossResult, name: str) -> Any:
    values = [run[name] for run in result["runs"]]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _worst(values: Any) -> float:
    """The largest modulus; NaN if any is not finite."""
    return float(np.max(np.abs(values))) if np.isfinite(values).all() else float("nan")
