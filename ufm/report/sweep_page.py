"""A sweep as one HTML page that needs nothing else: no network, no scripts, figures inline as SVG.

>>> Path("report.html").write_text(render_sweep(open_store("ufm-results/decays")))
"""

import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ufm._json import dumps
from ufm.losses import parse_loss
from ufm.minimum import GlobalMinimum, global_minimum
from ufm.problem import Problem
from ufm.report import phase, phase_view
from ufm.report._style import style
from ufm.report.convergence import plot_gap, plot_gradient_norm
from ufm.report.spectrum import legend_handles, plot_spectrum
from ufm.solvers import History
from ufm.spectra import record_at
from ufm.sweep.store import SweepStore
from ufm.sweep.summary import claim, summarise

_TEMPLATE = "sweep.html.j2"
#: Width and height of a panel in inches: a phone shows one beside nothing, a screen three or four.
_PANEL = (2.9, 2.3)
#: The same place of the Axes in every phase diagram, as parts of the panel.
_MARGINS = {"left": 0.19, "right": 0.97, "bottom": 0.17, "top": 0.98}
#: Cells listed one by one.
_LISTED = 25

_FULL_NAMES = {
    "ce": "Cross-entropy",
    "ls": "Label smoothing",
    "fl": "Focal loss",
    "mse": "Mean squared error",
}


def render_sweep(store: SweepStore) -> str:
    """The page. Raises `ValueError` where nothing is finished yet."""
    table = store.table()
    if not len(table["cell"]):
        raise ValueError(f"{store.path} has no finished cell yet: run the sweep first")
    rows = summarise(store)
    families = {
        row["loss"]: {k: x[table["family"] == row["loss"]] for k, x in table.items()}
        for row in rows
    }
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": _number, "integer": lambda x: f"{x:,}"}
    settings: dict[Any, Any] = {"svg.hashsalt": "ufm", "figure.constrained_layout.use": False}
    with style(), matplotlib.rc_context(settings):
        return templates.get_template(_TEMPLATE).render(
            title=store.config.get("title") or store.path.name,
            claim=claim(rows, store.num_cells),
            holds=len(table["cell"]) == store.num_cells
            and all(row["global"] == row["cells"] == row["matches"] for row in rows),
            rows=rows,
            names=_FULL_NAMES,
            total=len(table["cell"]),
            num_cells=store.num_cells,
            worst_gap=float(np.max(table["gap"])),
            seconds=float(np.sum(table["seconds"])),
            short=_short_cells(store),
            listed=_LISTED,
            sections=list(_sections(families, store.config["solver"]["tol"] is not None)),
            runs=[_run(store, family, cells) for family, cells in families.items()],
            config=dumps(_given(store.config)),
            environment=store.environment,
        )


def _number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "—"
    return f"{value:.{digits}g}"


def _given(config: Any) -> Any:
    """The configuration without what was left unset."""
    if isinstance(config, dict):
        return {key: _given(value) for key, value in config.items() if value not in (None, "")}
    return [_given(value) for value in config] if isinstance(config, list) else config


def _short_cells(store: SweepStore) -> dict[str, Any]:
    """The cells that are not proven global minima or lack the predicted geometry, and how many."""
    found = store.query("verdict != 'GLOBAL_MINIMUM' OR matches = 0")
    return {"cells": found[:_LISTED], "count": len(found)}


# Phase diagrams ------------------------------------------------------------------------------


def _sections(
    families: dict[str, dict[str, np.ndarray]], set_tol: bool
) -> Iterator[dict[str, Any]]:
    """For each quantity its title and a panel for each loss, on one scale of colours."""
    for name, quantity in phase.QUANTITIES.items():
        found = {family: phase.diagram(cells, name, set_tol) for family, cells in families.items()}
        diagrams = {family: each for family, each in found.items() if each is not None}
        shown = {f: each for f, each in diagrams.items() if not np.isnan(each.value).all()}
        if not shown:
            continue
        ends = phase_view.limits(list(shown.values())) if quantity.shared else None
        panels = [
            {
                "caption": _FULL_NAMES.get(family, family),
                "svg": _svg(
                    f"{name}-{family}",
                    f"{quantity.title}, {family}",
                    _phase_panel(each, ends),
                    _MARGINS,
                ),
            }
            for family, each in shown.items()
        ]
        handles = phase_view.verdict_handles(list(shown.values())) if name == "verdict" else []
        yield {
            "title": quantity.title,
            "panels": panels,
            "legend": [(h.get_label(), to_hex(h.get_facecolor())) for h in handles],
            "curve": any(each.curve.size for each in shown.values()),
            "grey": quantity.needs_shape and any(np.isnan(d.value).any() for d in shown.values()),
            "others": sorted({name for each in shown.values() for name in each.others}),
        }


def _phase_panel(found: phase.Diagram, ends: tuple[float, float] | None) -> Callable[[Axes], Any]:
    return lambda axes: phase_view.plot_phase(found, axes, ends)


# One problem of each loss --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Runs:
    """Stored runs of one problem, as `ufm.report.convergence` takes them."""

    problem: Problem
    minimum: GlobalMinimum
    history: History


def _run(store: SweepStore, family: str, cells: dict[str, np.ndarray]) -> dict[str, Any]:
    """Convergence and spectrum of the problem whose runs were the longest."""
    first = _hardest(cells)
    row = {name: column[first] for name, column in cells.items()}
    same = np.all(
        [cells[name] == row[name] for name in ("loss", "class_counts", "dim", "lam_w", "lam_h")],
        axis=0,
    ) & ((cells["lam_b"] == row["lam_b"]) | np.isnan(row["lam_b"]))  # fmt: skip
    problem = Problem(
        parse_loss(str(row["loss"])),
        tuple(map(int, str(row["class_counts"]).split())),
        int(row["dim"]),
        float(row["lam_w"]),
        float(row["lam_h"]),
        None if np.isnan(row["lam_b"]) else float(row["lam_b"]),
    )
    figures = []
    histories = [store.arrays(int(cell)) for cell in cells["cell"][same]]
    if all("history_step" in arrays for arrays in histories):
        runs = _Runs(problem, global_minimum(problem), _stacked(histories))
        for name, plot in (("gap", plot_gap), ("gradient", plot_gradient_norm)):
            figures.append(_svg(f"{name}-runs-{family}", f"{name} along the runs",
                                lambda axes, plot=plot: plot([runs], axes)))  # fmt: skip
    spectrum = _spectrum_figure(problem, family)
    return {
        "caption": _FULL_NAMES.get(family, family),
        "label": problem.loss.label(),
        "row": {name: row[name].item() for name in ("cell", "lam_w", "lam_h", "lam_b")},
        "count": int(same.sum()),
        "figures": figures,
        "spectrum": spectrum,
    }


def _hardest(cells: dict[str, np.ndarray]) -> int:
    """A run that fell short if there is one, else the longest that did not end at the origin."""
    short = np.flatnonzero(cells["verdict"] != "GLOBAL_MINIMUM")
    if short.size:
        return int(short[0])
    steps = np.where(cells["kind"] == "origin", -1, cells["steps"])
    return int(np.argmax(steps))


def _stacked(histories: list[dict[str, np.ndarray]]) -> History:
    """Histories of different lengths as one, filled up as the solvers do."""
    longest = max(len(arrays["history_step"]) for arrays in histories)

    def column(name: str, missing: Any) -> np.ndarray:
        pieces = [arrays[f"history_{name}"] for arrays in histories]
        return np.stack([np.pad(x, (0, longest - len(x)), constant_values=missing) for x in pieces])

    columns = {"step": -1, "products": -1, "value": np.nan, "grad_norm": np.nan}
    return History(**{name: jnp.asarray(column(name, x)) for name, x in columns.items()})


def _spectrum_figure(problem: Problem, family: str) -> Markup | None:
    """The Hessian's spectrum at the global minimum, where theory or K columns give it."""
    try:
        spectrum = record_at(problem).spectrum
    except ValueError:
        return None

    def draw(axes: Axes) -> None:
        plot_spectrum(spectrum, axes)
        handles = legend_handles([spectrum])
        axes.figure.legend(handles=handles, loc="outside upper center", ncols=2)

    return _svg(f"spectrum-{family}", "eigenvalues of the Hessian at the minimum", draw)


# SVG -----------------------------------------------------------------------------------------


def _svg(
    name: str,
    description: str,
    draw: Callable[[Axes], Any],
    margins: dict[str, float] | None = None,
) -> Markup:
    """A panel as an element of the page; its ids are its own.

    With `margins` the Axes are where they say; None: where there is room, which takes longer.
    """
    figure = Figure(figsize=_PANEL, layout=None if margins else "constrained")
    axes = figure.subplots()
    if margins:
        figure.subplots_adjust(**margins)
    draw(axes)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    return Markup(inline(buffer.getvalue(), name, description))


def inline(svg: str, name: str, description: str) -> str:
    """A file of SVG as an element: without prologue and metadata, scaled by the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    referenced = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in referenced else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    svg = re.sub(r"(url\(|href=\")#", rf"\g<1>#{name}-", svg)
    size = re.search(r'viewBox="([^"]*)"', svg)
    assert size is not None  # matplotlib writes one
    attributes = f'role="img" aria-label="{description}" viewBox="{size[1]}"'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return re.sub(r"<svg[^>]*>", f"<svg {names} {attributes}>", svg, count=1)
