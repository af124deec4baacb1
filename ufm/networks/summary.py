"""A sweep over networks in a few rows, and what it says: do all losses collapse, and agree?

A group is what shares everything but loss and seed: one network, trained for one number of epochs.

    >>> groups = summarise(store)
    >>> print(*conclusions(groups, store.num_cells), sep="\\n")
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ufm.networks.equivalence import ALPHA, MARGIN, Agreement, Equivalence, Outcome, agreement
from ufm.sweep.store import SweepStore

#: What the losses are compared with.
REFERENCE = "ce"
#: A fall of NC1, NC2 and NC3 from the first epoch by this factor is called collapse.
COLLAPSE_FACTOR = 10.0
_SHARED = (
    "data",
    "per_class",
    "model",
    "width",
    "depth",
    "norm",
    "epochs",
    "batch_size",
    "momentum",
    "weight_decay",
)
Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LossRow:
    """The runs of a loss in a group; accuracies in points, `test_accuracies` by seed.

    `nc` are the medians of NC1, NC2 and NC3 at the end, `minimum_nc2` is NC2 of the model's own
    minimiser. `falls` are the smallest factors, over the runs, by which NC1, NC2 and NC3 fell since
    the first epoch. `against` compares with the reference: None for itself and without one.
    """

    loss: str
    runs: int
    completed: int
    learning_rate: float
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


@dataclasses.dataclass(frozen=True)
class Group:
    """One network and one number of epochs: `settings` tells it from others."""

    settings: dict[str, Any]
    rows: tuple[LossRow, ...]
    agreement: Agreement | None

    @property
    def collapsed(self) -> bool:
        """Did NC1–NC3 fall by the factor in every run of every loss?"""
        return all(min(row.falls) >= COLLAPSE_FACTOR for row in self.rows)

    @property
    def is_fitted(self) -> bool:
        """Is every training image classified rightly by every run?"""
        return all(row.train_accuracy == 100.0 for row in self.rows)


def summarise(store: SweepStore) -> list[Group]:
    """The groups in the order of the cells."""
    table = store.table()
    keys = list(zip(*(table[name].tolist() for name in _SHARED), strict=True))
    return [
        _group(dict(zip(_SHARED, key, strict=True)), _where(table, [k == key for k in keys]))
        for key in dict.fromkeys(keys)
    ]


def _where(table: Table, mask: Sequence[bool] | np.ndarray) -> Table:
    chosen = np.asarray(mask, bool)
    return {name: column[chosen] for name, column in table.items()}


def _group(settings: dict[str, Any], table: Table) -> Group:
    losses = list(dict.fromkeys(table["loss"].tolist()))
    found = _agreement(table, losses)
    rows = [_row(loss, _where(table, table["loss"] == loss), found) for loss in losses]
    return Group(settings, tuple(rows), found)


def _agreement(table: Table, losses: Sequence[str]) -> Agreement | None:
    """Only of runs that were completed; None without the reference or a second loss."""
    accuracies: dict[str, dict[int, float]] = {loss: {} for loss in losses}
    for loss, seed, status, accuracy in zip(
        table["loss"].tolist(), table["seed"].tolist(), table["status"].tolist(),
        table["test_accuracy"].tolist(), strict=True,
    ):  # fmt: skip
        if status == "completed":
            accuracies[loss][seed] = 100.0 * accuracy
    known = {loss: found for loss, found in accuracies.items() if found}
    shared = set.intersection(*(set(found) for found in known.values())) if known else set()
    if REFERENCE not in known or len(known) < 2 or not shared:
        return None
    return agreement(known, REFERENCE)


def _row(loss: str, table: Table, found: Agreement | None) -> LossRow:
    against = None if found is None else found.against_reference.get(loss)
    accuracy = 100.0 * table["test_accuracy"]
    falls = [_fall(table[f"first_{name}"], table[name]) for name in ("nc1", "nc2", "nc3")]
    return LossRow(
        loss=loss,
        runs=len(table["cell"]),
        completed=int(np.sum(table["status"] == "completed")),
        learning_rate=_median(table["learning_rate"]),
        train_accuracy=100.0 * float(np.min(table["train_accuracy"])),
        test_accuracy=float(np.mean(accuracy)),
        test_deviation=float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else math.nan,
        test_accuracies=dict(zip(table["seed"].tolist(), accuracy.tolist(), strict=True)),
        nc=(_median(table["nc1"]), _median(table["nc2"]), _median(table["nc3"])),
        falls=(falls[0], falls[1], falls[2]),
        minimum_nc2=_median(table["minimum_nc2"]),
        dual_ratio=_median(table["centred_dual_ratio"]),
        shape_distance=_median(table["centred_shape_distance"]),
        seconds=float(np.sum(table["seconds"])),
        against=against,
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def _fall(first: np.ndarray, last: np.ndarray) -> float:
    """The smallest factor; NaN where a run has none, as one that diverged."""
    return float(np.min(first / last))


def conclusions(groups: Sequence[Group], num_cells: int) -> list[str]:
    """In sentences: which groups collapse, and in which the losses agree."""
    finished = sum(row.runs for group in groups for row in group.rows)
    if not finished:
        return [f"None of {num_cells:,} runs is finished."]
    missing = f" ({num_cells - finished:,} more are not finished)" * (finished < num_cells)
    collapsed = sum(group.collapsed for group in groups)
    lines = [
        f"{finished:,} runs{missing}: NC1-NC3 fell at least {COLLAPSE_FACTOR:g}-fold since the "
        f"first epoch in every run of every loss in {collapsed} of {len(groups)} "
        f"{'setting' if len(groups) == 1 else 'settings'} of width and epochs."
    ]
    tested = [group.agreement for group in groups if group.agreement is not None]
    if tested:
        agree = sum(found.all_agree_with_reference for found in tested)
        differ = sum(
            any(x.outcome is Outcome.DIFFERENT for x in found.against_reference.values())
            for found in tested
        )
        lines.append(
            f"Test accuracies of all losses are equivalent to {REFERENCE}'s within {MARGIN:g} "
            f"point (paired TOST, alpha = {ALPHA:g}) in {agree} of {len(tested)}; in {differ} at "
            "least one differs; the rest is inconclusive."
        )
    return lines


def standing(groups: Sequence[Group], num_cells: int) -> str:
    """ "holds" where all settings collapse and agree, "short" where one does not, else "open"."""
    finished = sum(row.runs for group in groups for row in group.rows)
    if finished < num_cells:
        return "open"
    fine = [
        group.collapsed and group.agreement is not None and group.agreement.all_agree_with_reference
        for group in groups
    ]
    return "holds" if all(fine) else "short"


def page_data(store: SweepStore) -> dict[str, Any]:
    """All that `ufm.report.network_page` shows of a sweep.

    Raises `ValueError` where no run has been measured yet.
    """
    groups = summarise(store)
    rows = [
        {
            **dataclasses.asdict(row),
            "settings": group.settings,
            "against": None if row.against is None else row.against.row(),
        }
        for group in groups
        for row in group.rows
    ]
    runs = [_run(store, cell) for cell in store.query("epochs_done > 0 AND nc1 IS NOT NULL")]
    if not runs:
        raise ValueError(f"{store.path} has no finished run yet: run the sweep first")
    comparisons = [
        {**row["against"], "loss": row["loss"], **_place(row["settings"])}
        for row in rows
        if row["against"] is not None
    ]
    is_squared = any(row["loss"].startswith("mse") for row in rows)
    return {
        "title": store.config["title"] or store.path.name,
        "conclusions": conclusions(groups, store.num_cells),
        "standing": standing(groups, store.num_cells),
        "rows": rows,
        "runs": runs,
        "comparisons": comparisons,
        "normalisation": SQUARED if is_squared else "",
        "num_cells": store.num_cells,
        "margin": MARGIN,
        "alpha": ALPHA,
        "config": store.config,
        "environments": store.environments() or [store.environment],
    }


#: To stand beside every number of the squared error.
SQUARED = "MSE: targets 15 one-hot, squared error averaged over the K outputs, without ½."


def _place(settings: dict[str, Any]) -> dict[str, Any]:
    return {"width": settings["width"], "epochs": settings["epochs"]}


def _run(store: SweepStore, cell: dict[str, Any]) -> dict[str, Any]:
    own = {name: cell[name] for name in ("loss", "width", "epochs", "seed")}
    arrays = store.arrays(cell["cell"])
    return own | {name.removeprefix("history_"): column for name, column in arrays.items()}
