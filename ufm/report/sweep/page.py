"""Render a sweep as one self-contained HTML page: no network, no scripts, figures inline as SVG.

Path("report.html").write_text(render_sweep(open_store("ufm-results/decays")))
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from ufm._support.text import command
from ufm.report._page import page_style, render
from ufm.report._svg import panel
from ufm.report._words import counted, span
from ufm.report.phase import diagram as phase
from ufm.report.phase import view as phase_view
from ufm.report.phase.axis import FIELDS, Table
from ufm.report.phase.plane import Plane, plane, slices
from ufm.report.sweep.runs import thumbnails
from ufm.sweep.problems.summary import SHORT, UNCHECKED, claim, standing, summarise
from ufm.sweep.store import SweepStore

_TEMPLATE = "sweep.html.j2"
#: Margins of the Axes in every phase diagram, relative to the panel, with room for powers of ten
#: and the axis' name; `_WIDE` has room for names at the ordinate, `_TALL` for slanted ones below.
_MARGINS = {"left": 0.25, "right": 0.97, "bottom": 0.2, "top": 0.98}
_WIDE, _TALL = {"left": 0.33, "right": 0.95}, {"bottom": 0.3}
#: A name with more letters than this, in all its lines, needs that room.
_LONG_NAME = 5
#: Largest number of cells to list individually.
_LISTED = 25
#: Fields that the list of cells shows if they vary.
_TOLD = ("class_counts", "dim", "method", "classifier", "features", "temperature")

_FULL_NAMES = {
    "ce": "Cross-entropy",
    "ls": "Label smoothing",
    "fl": "Focal loss",
    "mse": "Mean squared error",
}


def render_sweep(store: SweepStore) -> str:
    """Render the page. Raises `ValueError` if no run is finished yet."""
    table = store.table()
    if not len(table["cell"]):
        raise ValueError(f"{store.path} has no finished cell yet: run the sweep first")
    rows = summarise(store)
    families = {
        row["loss"]: {k: x[table["family"] == row["loss"]] for k, x in table.items()}
        for row in rows
    }
    with page_style():
        drawn = _drawn(families, store.config["solver"]["tol"] is not None)
        return render(
            _TEMPLATE,
            title=store.config.get("title") or store.path.name,
            claim=claim(rows, store.num_cells),
            standing=standing(rows, store.num_cells),
            rows=rows,
            names=_FULL_NAMES,
            total=len(table["cell"]),
            num_cells=store.num_cells,
            worst_gap=_worst_gap(table),
            seconds=float(np.sum(table["seconds"])),
            short=_short_cells(store, table),
            unchecked=sum(row["unchecked"] for row in rows),
            where={"short": SHORT, "unchecked": UNCHECKED, "store": command(store.path)},
            sections=list(_sections(drawn)),
            slices=sorted({each.note for each in drawn if each.note}),
            runs=[thumbnails(store, i, cells) for i, cells in enumerate(families.values())],
            config=store.config,
            environments=store.environments() or [store.environment],
        )


def _worst_gap(table: Table) -> dict[str, Any]:
    """The largest gap, and the number of runs without one because no lower bound is known."""
    known = table["gap"][np.isfinite(table["gap"])]
    worst = float(np.max(known)) if known.size else math.nan
    return {"value": worst, "unknown": len(table["gap"]) - len(known)}


def _short_cells(store: SweepStore, table: Table) -> dict[str, Any]:
    """The cells not proven global minima or without the predicted geometry, and their number."""
    found = store.query(SHORT)
    fields = [name for name in _TOLD if len(np.unique(table.get(name, ()))) > 1]
    return {
        "cells": found[:_LISTED],
        "count": len(found),
        "listed": _LISTED,
        "fields": [(name, FIELDS[name][1]) for name in fields],
    }


# Phase diagrams ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Part:
    """The cells of a loss to draw: all of them, or those with one value of a third field."""

    family: str
    label: str
    note: str
    table: Table
    plane: Plane

    @property
    def caption(self) -> str:
        name = _FULL_NAMES.get(self.family, self.family)
        return f"{name}, {self.label}" if self.label else name


def _drawn(families: dict[str, Table], set_tol: bool) -> list[_Part]:
    found = []
    for family, cells in families.items():
        cut = slices(cells, set_tol)
        for part in cut.parts:
            place = plane(part.table, set_tol)
            if place is not None:
                found.append(_Part(family, part.label, cut.note, part.table, place))
    return found


def _sections(drawn: Sequence[_Part]) -> Iterator[dict[str, Any]]:
    """For each quantity its title and a panel for each part, with shared scales of colours."""
    found = {
        name: [(part, phase.diagram(part.table, name, over=part.plane)) for part in drawn]
        for name in phase.QUANTITIES
    }
    shown = {
        name: [(part, each) for part, each in pairs if each and not np.isnan(each.value).all()]
        for name, pairs in found.items()
    }
    scales: dict[tuple[str, str], list[phase.Diagram]] = {}
    for pairs in shown.values():
        for part, each in pairs:
            scales.setdefault(_scale_key(part, each), []).append(each)
    for name, pairs in shown.items():
        if pairs:
            yield _section(name, pairs, scales)


def _scale_key(part: _Part, each: phase.Diagram) -> tuple[str, str]:
    return each.quantity.colours, part.family if each.quantity.per_loss else ""


def _section(
    name: str,
    pairs: Sequence[tuple[_Part, phase.Diagram]],
    scales: dict[tuple[str, str], list[phase.Diagram]],
) -> dict[str, Any]:
    quantity, diagrams = phase.QUANTITIES[name], [each for _, each in pairs]
    panels = [
        {
            "loss": _FULL_NAMES.get(part.family, part.family),
            "slice": part.label,
            "svg": panel(
                f"{name}-{i}",
                f"{quantity.title}: {part.caption}: {_in_words(each)}",
                _drawing(each, phase_view.limits(scales[_scale_key(part, each)])),
                _margins(part.plane),
            ),
        }
        for i, (part, each) in enumerate(pairs)
    ]
    handles = phase_view.verdict_handles(diagrams) if name == "verdict" else []
    blank = any(np.isnan(each.value).any() for each in diagrams)
    return {
        "title": quantity.title,
        "panels": panels,
        "legend": [(h.get_label(), to_hex(h.get_facecolor())) for h in handles],
        "curve": _meaning([each.plane for each in diagrams if each.curve.size]),
        "blank": quantity.blank if blank else "",
        "grey": any(each.plane.y for each in diagrams),
        "holes": any(each.plane.has_holes for each in diagrams),
        "others": _named(name for each in diagrams for name in each.plane.others),
        "along": _named(name for each in diagrams for name in each.plane.along),
    }


def _meaning(planes: Sequence[Plane]) -> str:
    """What the curves are: "reach", "threshold", or nothing without one."""
    return ("reach" if planes[0].of_reach else "threshold") if planes else ""


def _in_words(each: phase.Diagram) -> str:
    """Describe the diagram in words for screen readers."""
    points, blank = len(each.value), int(np.isnan(each.value).sum())
    if each.quantity.column == "verdict":
        found = [
            f"{name} at {int(np.sum(each.value == i))} of {counted(points, 'point')}"
            for i, (name, _) in enumerate(phase.VERDICTS.values())
            if np.any(each.value == i)
        ]
        return ", ".join(found)
    said = f"{span(each.value)} over {counted(points, 'point')}"
    return said + (f", {each.quantity.blank} at {blank}" if blank else "")


def _named(fields: Any) -> list[str]:
    return [FIELDS[name][1] for name in dict.fromkeys(fields)]


def _drawing(each: phase.Diagram, ends: tuple[float, float]) -> Callable[[Axes], Any]:
    return lambda axes: phase_view.plot_phase(each, axes, ends)


def _margins(place: Plane) -> dict[str, float]:
    def long(axis: Any) -> bool:
        return axis is not None and any(len(word) > _LONG_NAME for _, word in axis.named)

    return _MARGINS | (_WIDE if long(place.y) else {}) | (_TALL if long(place.x) else {})
