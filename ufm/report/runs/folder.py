"""The figures of a run: for each the image, its data and its caption."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Params, Problem
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN
from ufm.report.runs import collapse, convergence, feature_view, gram, singular_values
from ufm.report.runs.captions import caption
from ufm.runs.trajectory import Trajectory
from ufm.solvers import History


@dataclasses.dataclass(frozen=True)
class LossRecord:
    """What the figures show of one loss: every run's history, and the path of one of them."""

    problem: Problem
    minimum: GlobalMinimum
    history: History
    path: Trajectory

    @property
    def label(self) -> str:
        return self.problem.loss.label()

    @property
    def end(self) -> Params:
        return self.path.point(-1)


def figure_files(records: Sequence[LossRecord]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of every figure that the records can fill.

    convergence, collapse, gram, singular-values, and features where there are three or four
    classes; of each the files of `page_files`.
    """
    for name, page in PAGES.items():
        shown = records
        if page is _features:
            shown = [r for r in records if feature_view.can_be_seen(r.problem, r.path)]
        if shown:
            yield from page_files(name, page, shown, caption(name, shown[0].problem))


def _convergence(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 3.6))
    above, below = figure.subplots(2, 1, sharex=True)
    convergence.plot_gap(records, above).set_xlabel("")
    convergence.plot_gradient_norm(records, below)
    return _with_legend(figure), [convergence.convergence_table(record) for record in records]


def _collapse(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 4.2))
    axes = figure.subplots(3, 1, sharex=True)
    paths = [(record.label, record.path) for record in records]
    for ax, metric in zip(axes, collapse.METRICS, strict=True):
        collapse.plot_collapse(paths, metric, ax)
    for ax in axes[:-1]:
        ax.set_xlabel("")
    return _with_legend(figure), [collapse.collapse_table(*path) for path in paths]


def _gram(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 0.35 + 0.85 * len(records)))
    axes = figure.subplots(len(records), 3, squeeze=False)
    tables = [gram.gram_table(record.problem, record.end) for record in records]
    # 1 at a simplex ETF, more where classes differ in size.
    limit = float(np.nanmax(np.abs([table[name] for table in tables for name in gram.NAMES])))
    for row, record in zip(axes, records, strict=True):
        gram.plot_grams(record.problem, record.end, row, limit)
        _row_label(row[0], record.label)
    for ax in axes[1:].ravel():
        ax.set_title("")
    colours = ScalarMappable(Normalize(-limit, limit))
    bar = figure.colorbar(colours, ax=axes, shrink=min(1.0, 2 / len(records)), aspect=18)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    return figure, tables


def _singular_values(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 3.4))
    above, below = figure.subplots(2, 1, sharex=True)
    tables = [singular_values.singular_value_table(r.problem, r.minimum, r.end) for r in records]
    singular_values.plot_logit_singular_values(tables, above).set_xlabel("")
    singular_values.plot_gradient_singular_values(tables, below)
    return _with_legend(figure), tables


def _features(records: Sequence[LossRecord]) -> Page:
    rows = [feature_view.feature_tables(record.problem, record.path) for record in records]
    columns = max(map(len, rows))
    figure = Figure(figsize=(COLUMN, 0.4 + COLUMN / columns * len(records)))
    projection = "3d" if "z" in rows[0][0] else None
    for i, (panels, record) in enumerate(zip(rows, records, strict=True)):
        for j, table in enumerate(panels):
            position = i * columns + j + 1
            axes = figure.add_subplot(len(records), columns, position, projection=projection)
            feature_view.plot_features(table, axes)
            axes.set_title(f"step {table['step']}", pad=2)
            if j == 0:
                _row_label(axes, record.label)
    figure.legend(handles=feature_view.legend_handles(), loc="outside lower center", ncols=3)
    return figure, [table for panels in rows for table in panels]


#: Name and page of every figure.
PAGES: dict[str, Callable[[Sequence[LossRecord]], Page]] = {
    "convergence": _convergence,
    "collapse": _collapse,
    "gram": _gram,
    "singular-values": _singular_values,
    "features": _features,
}


def _row_label(axes: Axes, label: str) -> None:
    """At the left of a row of Axes that have no axes of their own."""
    axes.annotate(
        label, (-0.05, 0.5), xycoords="axes fraction", rotation=90, ha="right", va="center"
    )


def _with_legend(figure: Figure) -> Figure:
    """The first Axes' legend above everything: it covers no data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5))
    return figure
