"""Summarise a sweep over networks in a few rows, and conclude whether losses collapse and agree.

A group is one network trained in one way: its runs share all settings except loss and seed. All
numbers are from completed runs. If some runs of a loss diverged, died or are not finished, the loss
is not compared, and its group neither collapses nor agrees: surviving runs are a biased sample.

    groups = summarise(store)
    print(*conclusions(groups), sep="\\n")
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ufm.networks.sweeps.equivalence import (
    ALPHA,
    LEAST_SEEDS,
    MARGIN,
    Agreement,
    Equivalence,
    Outcome,
    agreement,
)
from ufm.networks.sweeps.grid import NetworkCell, expand, stored_config
from ufm.networks.training.learning_rate import edge
from ufm.sweep.growth import numbered
from ufm.sweep.store import SweepStore

#: The reference of all comparisons.
REFERENCE = "ce"
#: Collapse is a fall of NC1, NC2 and NC3 from the first epoch by this factor.
COLLAPSE_FACTOR = 10.0
_COMPLETED = "completed"
#: Settings that distinguish groups.
_SETTINGS = ("width", "depth", "norm", "epochs", "weight_decay", "momentum", "batch_size")
Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LossRow:
    """The runs of a loss in a group; accuracies in points, `test_accuracies` by seed.

    `runs` counts the runs of the sweep, `finished` those that ended, and `completed` those that
    succeeded. All numbers are from completed runs, NaN without any. `rate_edge` is "largest" or
    "smallest" if the learning rate was chosen at an end of those tried, else empty. `nc` are the
    medians of NC1, NC2 and NC3 at the end, `minimum_nc2` is NC2 of the model's own minimiser.
    `falls` are the smallest factors, over the runs, by which NC1, NC2 and NC3 fell since the first
    epoch. `against` compares with the reference: None for the reference, and if either has runs
    that did not complete.
    """

    loss: str
    runs: int
    finished: int
    completed: int
    learning_rate: float
    rate_edge: str
    train_accuracy: float
    test_accuracy: float
    test_deviation: float
    test_accuracies: dict[int, float]
    nc: tuple[float, float, float]
    falls: tuple[float, float, float]
    minimum_nc2: float
    dual_ratio: float
    shape_distance: float
    seconds: float
    against: Equivalence | None

    @property
    def is_whole(self) -> bool:
        """Whether every run completed."""
        return self.completed == self.runs

    @property
    def collapsed(self) -> bool:
        """Whether NC1–NC3 fell by the factor in every run."""
        return self.is_whole and all(fall >= COLLAPSE_FACTOR for fall in self.falls)


@dataclasses.dataclass(frozen=True)
class Group:
    """One network trained in one way; `settings` distinguish it from others."""

    settings: dict[str, Any]
    rows: tuple[LossRow, ...]
    agreement: Agreement | None

    @property
    def collapsed(self) -> bool:
        """Whether every loss `collapsed`."""
        return all(row.collapsed for row in self.rows)

    @property
    def agrees(self) -> bool | None:
        """Whether every loss is shown equivalent to the reference; None if not tested."""
        if self.agreement is None or self.lacks_seeds:
            return None
        if not all(row.is_whole for row in self.rows):
            return None
        return self.agreement.all_agree_with_reference

    @property
    def lacks_seeds(self) -> bool:
        """Whether a comparison has too few seeds for a claim."""
        compared = [row.against for row in self.rows if row.against is not None]
        return any(each.outcome is Outcome.TOO_FEW_SEEDS for each in compared)


def summarise(store: SweepStore) -> list[Group]:
    """Make the groups, in the order of the cells."""
    table = store.table()
    groups: dict[tuple[Any, ...], list[NetworkCell]] = {}
    for cell in cells_of(store):
        groups.setdefault(tuple(cell_settings(cell).items()), []).append(cell)
    return [_group(dict(key), cells, table) for key, cells in groups.items()]


def cells_of(store: SweepStore) -> tuple[NetworkCell, ...]:
    """All runs of the sweep, finished or not."""
    return numbered(expand(stored_config(x)) for x in store.configs)


def cell_settings(cell: NetworkCell) -> dict[str, Any]:
    """All settings except loss and seed, and except a rate that was chosen for each loss."""
    names = _SETTINGS if cell.trial is not None else (*_SETTINGS, "learning_rate")
    return {name: getattr(cell.config, name) for name in names}


def varying(groups: Sequence[Group]) -> list[str]:
    """The settings that differ between groups."""
    settings = [group.settings for group in groups]
    return [name for name in settings[0] if len({str(each[name]) for each in settings}) > 1]


def shown(value: Any) -> str:
    """A setting as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _group(chosen: dict[str, Any], cells: Sequence[NetworkCell], table: Table) -> Group:
    by_loss: dict[str, list[NetworkCell]] = {}
    for cell in cells:
        by_loss.setdefault(cell.loss, []).append(cell)
    parts = {loss: _rows(table, own) for loss, own in by_loss.items()}
    whole = {
        loss: _accuracies(part)
        for loss, part in parts.items()
        if np.sum(part["status"] == _COMPLETED) == len(by_loss[loss])
    }
    found = None
    if REFERENCE in whole and len(whole) > 1:
        found = agreement(whole, REFERENCE)
    rows = [_row(own, parts[loss], found) for loss, own in by_loss.items()]
    return Group(chosen, tuple(rows), found)


def _rows(table: Table, cells: Sequence[NetworkCell]) -> Table:
    mask = np.isin(table["cell"], [cell.index for cell in cells])
    return {name: column[mask] for name, column in table.items()}


def _accuracies(part: Table) -> dict[int, float]:
    values = (100.0 * part["test_accuracy"]).tolist()
    return dict(zip(part["seed"].tolist(), values, strict=True))


def _row(cells: Sequence[NetworkCell], part: Table, found: Agreement | None) -> LossRow:
    loss, rate = cells[0].loss, _median(part["learning_rate"])
    completed = part["status"] == _COMPLETED
    done = {name: column[completed] for name, column in part.items()}
    falls = [_fall(done[f"first_{name}"], done[name]) for name in ("nc1", "nc2", "nc3")]
    accuracies = _accuracies(done)
    test = np.array(list(accuracies.values()))
    return LossRow(
        loss=loss,
        runs=len(cells),
        finished=len(part["cell"]),
        completed=int(completed.sum()),
        learning_rate=rate,
        rate_edge="" if cells[0].trial is None else edge(rate),
        train_accuracy=100.0 * float(np.min(done["train_accuracy"])) if test.size else math.nan,
        test_accuracy=float(np.mean(test)) if test.size else math.nan,
        test_deviation=float(np.std(test, ddof=1)) if test.size > 1 else math.nan,
        test_accuracies=accuracies,
        nc=(_median(done["nc1"]), _median(done["nc2"]), _median(done["nc3"])),
        falls=(falls[0], falls[1], falls[2]),
        minimum_nc2=_median(done["minimum_nc2"]),
        dual_ratio=_median(done["centred_dual_ratio"]),
        shape_distance=_median(done["centred_shape_distance"]),
        seconds=float(np.sum(part["seconds"])),
        against=None if found is None else found.against_reference.get(loss),
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else math.nan


def _fall(first: np.ndarray, last: np.ndarray) -> float:
    """The smallest factor."""
    return float(np.min(first / last)) if first.size else math.nan


def conclusions(groups: Sequence[Group]) -> list[str]:
    """State in sentences which groups collapse, and in which the losses agree."""
    rows = [row for group in groups for row in group.rows]
    runs, finished, completed = (
        sum(getattr(row, name) for row in rows) for name in ("runs", "finished", "completed")
    )
    if not finished:
        return [f"None of {runs:,} runs is finished."]
    unfinished = f", {runs - finished:,} are not finished" * (finished < runs)
    broken = f", {finished - completed:,} diverged or died" * (completed < finished)
    collapsed = sum(group.collapsed for group in groups)
    lines = [
        f"{completed:,} of {runs:,} runs completed{broken}{unfinished}. NC1-NC3 fell at least "
        f"{COLLAPSE_FACTOR:g}-fold since the first epoch in every run of every loss "
        f"{_in_settings(collapsed, len(groups))}."
    ]
    tested = [group for group in groups if group.agrees is not None]
    if tested:
        lines.append(_agreement_in_words(tested, len(groups)))
    few = sum(group.lacks_seeds for group in groups)
    if few:
        lines.append(
            f"Fewer than {LEAST_SEEDS} seeds {_in_settings(few, len(groups))}: accuracies there "
            "are shown, and neither agreement nor difference is claimed."
        )
    return lines + _edges_in_words(groups)


def _edges_in_words(groups: Sequence[Group]) -> list[str]:
    """Name the losses with a chosen rate at an end of those tried."""
    lines = []
    for word in ("largest", "smallest"):
        found = [[row for row in group.rows if row.rate_edge == word] for group in groups]
        rows = [row for each in found for row in each]
        if rows:
            losses = ", ".join(dict.fromkeys(row.loss for row in rows))
            lines.append(
                f"The learning rate chosen for {losses} is the {word} tried, "
                f"{rows[0].learning_rate:g}, {_in_settings(sum(map(bool, found)), len(groups))}: "
                "a better one may lie beyond."
            )
    return lines


def _in_settings(count: int, total: int) -> str:
    return f"in {count} of {total} setting{'s' * (total > 1)}"


def _agreement_in_words(tested: Sequence[Group], total: int) -> str:
    agree = sum(bool(group.agrees) for group in tested)
    comparisons = [row.against for group in tested for row in group.rows if row.against]
    differ = sum(x.outcome is Outcome.DIFFERENT for x in comparisons)
    untested = f" ({total - len(tested)} could not be tested)" * (len(tested) < total)
    return (
        f"Test accuracies of all losses are equivalent to {REFERENCE}'s within {MARGIN:g} point "
        f"(paired TOST, alpha = {ALPHA:g}) in {agree} of {len(tested)}{untested}. Of "
        f"{len(comparisons)} single comparisons {differ} find a difference and no equivalence, "
        "each at that level."
    )


def standing(groups: Sequence[Group]) -> str:
    """ "holds" if all settings collapse and agree, "short" if one does not, else "open"."""
    if any(row.finished < row.runs for group in groups for row in group.rows):
        return "open"
    if not all(group.collapsed and group.agrees is not False for group in groups):
        return "short"
    return "holds" if all(group.agrees for group in groups) else "open"
