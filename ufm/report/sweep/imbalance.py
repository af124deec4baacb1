r"""Draw angles and norms of large and small classes as the ratio of their sizes grows.

W is a classifier with a row for each class, and h̄_k the mean of the features of class k. The two
groups are the classes of the largest size and of the smallest. Norms, and cosines within and across
the groups, are averages over classes and pairs. At minority collapse (Fang et al., PNAS 2021) the
small classes' rows of W are equal, with cosine 1. The theory is `global_minimum`, if it is
certified.

    for found in ratios(store): ratio_page(found)
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ufm.minimum.global_minimum import global_minimum
from ufm.minimum.size_geometry import PAIRS, SIZES, SizeGeometry, measured
from ufm.model.params import Params
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.report._figure import Page, page_files
from ufm.report._style import TWO_COLUMNS, looks
from ufm.report._table import Table
from ufm.report.runs.captions import OBJECTIVE
from ufm.runs.run_folder import slug
from ufm.sweep.store import SweepStore

_VECTORS = {"w": "classifier", "h": "class means"}
_NAMES = {"w": "$w_k$", "h": r"$\bar h_k$"}
_RUN = {"linestyle": "", "markerfacecolor": "none", "markersize": 4, "markeredgewidth": 0.8}
CAPTION = (
    r"Large and small classes: norms (left) and cosines (right) of the classifier's rows $w_k$ "
    r"(top) and of the class means $\bar h_k$ (bottom) against the ratio of the class sizes, "
    r"averaged over the classes of the largest and of the smallest size. Lines: the global "
    r"minimum, certified by duality. Hollow: runs from random starts. A cosine of 1 within the "
    r"small classes is minority collapse; where a vector vanishes it has none. Norms look as the "
    rf"cosines within their classes. {OBJECTIVE}."
)


@dataclasses.dataclass(frozen=True)
class Ratios:
    """Ratios of class sizes for one loss, with the certified minimum and each stored run."""

    label: str
    theory: tuple[tuple[float, SizeGeometry], ...]
    runs: tuple[tuple[float, SizeGeometry], ...]


def ratios(store: SweepStore) -> Iterator[Ratios]:
    """Make one for each loss with stored arrays whose problems differ only in class counts."""
    table = store.table()
    if "targets" in table:  # rows of W are not those of the groups
        return
    for loss in dict.fromkeys(table["loss"].tolist()):
        rows = {name: column[table["loss"] == loss] for name, column in table.items()}
        specs = [
            ProblemSpec.from_row({name: rows[name][i].item() for name in decisive(rows)})
            for i in range(len(rows["cell"]))
        ]
        one = all(
            len(np.unique(rows[name])) == 1 for name in decisive(rows) if name != "class_counts"
        )
        if one and len({_ratio(spec.class_counts) for spec in specs}) > 1:
            runs = [
                (_ratio(spec.class_counts), measured(spec.problem(), params))
                for spec, cell in zip(specs, rows["cell"].tolist(), strict=True)
                if (params := stored_point(store, cell)) is not None
            ]
            if runs:
                label = specs[0].loss.label()
                yield Ratios(label, tuple(_certified(dict.fromkeys(specs))), tuple(runs))


def _ratio(counts: tuple[int, ...]) -> float:
    return max(counts) / min(counts)


def stored_point(store: SweepStore, cell: int) -> Params | None:
    """The end point of a cell; None if its arrays were not kept."""
    arrays = store.arrays(cell)
    if "W" not in arrays:
        return None
    b = jnp.asarray(arrays["b"]) if "b" in arrays else None
    return Params(jnp.asarray(arrays["W"]), jnp.asarray(arrays["H"]), b)


def _certified(specs: Any) -> Iterator[tuple[float, SizeGeometry]]:
    """The certified minima in the order of the ratios, without uncertified ones."""
    for spec in sorted(specs, key=lambda spec: _ratio(spec.class_counts)):
        problem = spec.problem()
        minimum = global_minimum(problem)
        if minimum.is_exact:
            params = minimum.params(jax.random.key(0))
            yield _ratio(spec.class_counts), measured(problem, params)


def plot_ratio(found: Ratios, what: str, axes: Axes) -> Axes:
    """Draw one field of `SizeGeometry`, with lines for theory and a ring for every run."""
    names = _groups(what)
    for i, (place, _) in enumerate(names):
        look = looks(place)
        theory = np.array([(x, getattr(point, what)[i]) for x, point in found.theory])
        runs = np.array([(x, getattr(point, what)[i]) for x, point in found.runs])
        if theory.size:
            axes.plot(*theory.T, color=look.color, linestyle=look.linestyle)
        axes.plot(*runs.T, color=look.color, marker=look.marker, **_RUN)
    axes.set_xscale("log")
    kind, vector = what.split("_")
    axes.set_ylabel(
        f"norm of {_NAMES[vector]}" if kind == "norm" else f"cosine of {_NAMES[vector]}"
    )
    if kind == "cosine":
        axes.set_ylim(-1.05, 1.05)
    else:
        axes.set_ylim(bottom=0.0)
    return axes


def _groups(what: str) -> list[tuple[int, str]]:
    """Index of the look, and name, of each member of a field."""
    return [(0, SIZES[0]), (2, SIZES[1])] if what.startswith("norm") else list(enumerate(PAIRS))


def ratio_page(found: Ratios) -> Page:
    """Norms beside cosines, with the classifier above and the class means below."""
    figure = Figure(figsize=(TWO_COLUMNS, 3.8))
    grid = figure.subplots(2, 2, sharex=True)
    for row, vector in zip(grid, _VECTORS, strict=True):
        for axes, kind in zip(row, ("norm", "cosine"), strict=True):
            plot_ratio(found, f"{kind}_{vector}", axes)
    for axes in grid[1]:
        axes.set_xlabel("samples of a large class / of a small class")
    grid[0, 0].set_title(found.label, loc="left", pad=3)
    handles = [
        Line2D(
            [],
            [],
            label=name,
            **_RUN | {"linestyle": look.linestyle},
            marker=look.marker,
            color=look.color,
        )
        for i, name in enumerate(PAIRS)
        for look in [looks(i)]
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure, [*_tables(found)]


def _tables(found: Ratios) -> Iterator[Table]:
    for what, points in (("theory", found.theory), ("run", found.runs)):
        if not points:
            continue
        columns: dict[str, Any] = {
            "loss": found.label, "what": what, "ratio": np.array([x for x, _ in points])
        }  # fmt: skip
        for field in SizeGeometry._fields:
            for i, (_, name) in enumerate(_groups(field)):
                key = f"{field}_{name.replace(', ', '_')}"
                columns[key] = np.array([getattr(point, field)[i] for _, point in points])
        yield columns


def ratio_files(found: Ratios, suffix: str = "") -> list[tuple[str, bytes]]:
    """Make the files of imbalance; `suffix` ends the name, for one of several losses."""
    return page_files(f"imbalance{suffix}", ratio_page, found, CAPTION)


def file_suffix(label: str) -> str:
    """Write the loss as a part of a file name."""
    return "-" + slug(label.lower())
