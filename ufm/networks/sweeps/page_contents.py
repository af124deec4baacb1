"""The contents of the page of a sweep over networks, as plain data for `ufm.report`."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ufm.networks.sweeps.equivalence import ALPHA, MARGIN
from ufm.networks.sweeps.grid import NetworkCell
from ufm.networks.sweeps.summary import (
    Group,
    LossRow,
    cell_settings,
    cells_of,
    conclusions,
    shown,
    standing,
    summarise,
    varying,
)
from ufm.networks.training.objective import parse_objective
from ufm.networks.training.optimiser import drops
from ufm.sweep.store import SweepStore

#: Axes of the figures; groups that differ in other settings get separate figures.
_AXES = ("width", "epochs")


def page_data(store: SweepStore) -> dict[str, Any]:
    """The arguments of `ufm.report.networks.page.render_networks`.

    Raises `ValueError` if no run is finished yet.
    """
    groups = summarise(store)
    if not any(row.finished for group in groups for row in group.rows):
        raise ValueError(f"{store.path} has no finished run yet: run the sweep first")
    return {
        "title": store.config["title"] or store.path.name,
        "conclusions": conclusions(groups),
        "standing": standing(groups),
        "rows": [
            {**worded(row), "settings": group.settings} for group in groups for row in group.rows
        ],
        "variants": variants(store, groups),
        "normalisation": normalisations(store),
        "margin": MARGIN,
        "alpha": ALPHA,
        "config": store.config,
        "environments": store.environments() or [store.environment],
    }


def worded(row: LossRow) -> dict[str, Any]:
    """All fields of a row by name, the comparison with its outcome in words."""
    against = None if row.against is None else row.against.row()
    return dataclasses.asdict(row) | {"against": against}


def variants(store: SweepStore, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The contents of one figure: completed runs and comparisons of one variant of the network.

    Each has a `label`, empty if there is only one variant.
    """
    found: dict[str, dict[str, Any]] = {}
    names = [name for name in varying(groups) if name not in _AXES]
    for group in groups:
        label = _label(group.settings, names)
        part = found.setdefault(label, {"label": label, "runs": [], "comparisons": []})
        place = {name: group.settings[name] for name in _AXES}
        part["comparisons"] += [
            {**row.against.row(), "loss": row.loss, **place}
            for row in group.rows
            if row.against is not None
        ]
    completed = {row["cell"] for row in store.query("status = 'completed'")}
    for cell in cells_of(store):
        if cell.index in completed:
            found[_label(cell_settings(cell), names)]["runs"].append(_run(store, cell))
    return list(found.values())


def _label(settings: dict[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {shown(settings[name])}" for name in names)


def _run(store: SweepStore, cell: NetworkCell) -> dict[str, Any]:
    config = cell.config
    own = {"loss": cell.loss, **{name: getattr(config, name) for name in (*_AXES, "seed")}}
    arrays = store.arrays(cell.index)
    history = {name.removeprefix("history_"): column for name, column in arrays.items()}
    return own | history | {"drops": drops(config.epochs)}


def normalisations(store: SweepStore) -> str:
    """The normalisations of losses other than the plain mean, to print next to their numbers."""
    classes = [row["num_classes"] for row in store.query("cell >= 0")]
    count = int(classes[0]) if classes else 2
    losses = dict.fromkeys(cell.loss for cell in cells_of(store))
    objectives = [parse_objective(loss, count) for loss in losses]
    return ". ".join(each.normalisation for each in objectives if not math.isclose(each.factor, 1))
