"""Make the figures of a run, each with its image, data and caption."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.problem import Params, Problem
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN
from ufm.report.runs import angles, collapse, convergence, feature_view, gram, singular_values
from ufm.report.runs.captions import caption
from ufm.runs.trajectory import Trajectory
from ufm.solvers import History


@dataclasses.dataclass(frozen=True)
class LossRecord:
    """The data of one loss for the figures: the history of every run, and the path of one run."""

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

    @functools.cached_property
    def shown(self) -> Trajectory:
        """The path, with metrics NaN once it has collapsed to the origin."""
        return collapse.until_origin(self.problem, self.minimum, self.path)

    @property
    def defined(self) -> Trajectory:
        """The part of the path before it collapses to the origin."""
        if self.minimum.kind != "origin":
            return self.path
        kept = int(np.sum(~np.isnan(np.asarray(self.shown.metrics.nc2))))
        return jax.tree.map(lambda x: x[:kept], self.path)

    @property
    def is_origin(self) -> bool:
        """Whether the run has collapsed to the origin, the minimum."""
        return self.shown is not self.path and bool(np.isnan(self.shown.metrics.nc2[-1]))


def figure_files(records: Sequence[LossRecord]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all figures for which the records suffice.

    They are convergence, collapse, gram, angles, singular-values (two factors under weight decay),
    and features for three or four classes, each as the files of `page_files`.
    """
    for name, page in PAGES.items():
        shown = records
        if page is _singular_values:  # σ(G) = μ is a law of the plain model
            shown = [r for r in records if r.problem.variant is None]
        if page is _features:
            shown = [r for r in records if feature_view.can_be_seen(r.problem, r.defined)]
        if shown:
            proven = all(record.minimum.is_exact for record in shown)
            said = caption(name, shown[0].problem, proven)
            yield from page_files(name, page, shown, said)


def _convergence(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 3.6))
    above, below = figure.subplots(2, 1, sharex=True)
    convergence.plot_gap(records, above).set_xlabel("")
    convergence.plot_gradient_norm(records, below)
    _with_legend(figure, convergence.legend_handles())
    return figure, [convergence.convergence_table(record) for record in records]


def _collapse(records: Sequence[LossRecord]) -> Page:
    # NC3 compares rows of W with classes, which targets do not have.
    metrics = list(collapse.METRICS)[: 2 if records[0].problem.has_targets else 3]
    figure = Figure(figsize=(COLUMN, 1.4 * len(metrics)))
    axes = figure.subplots(len(metrics), 1, sharex=True)
    paths = [(record.label, record.shown) for record in records]
    for ax, metric in zip(axes, metrics, strict=True):
        collapse.plot_collapse(paths, metric, ax)
    for ax in axes[:-1]:
        ax.set_xlabel("")
    return _with_legend(figure), [collapse.collapse_table(*path) for path in paths]


def _gram(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 0.35 + 1.05 * len(records)))
    axes = figure.subplots(len(records), 2, squeeze=False)
    tables = []
    for row, record in zip(axes, records, strict=True):
        end = None if record.is_origin else record.end
        gram.plot_grams(record.problem, record.minimum, end, row)
        tables.append(gram.gram_table(record.problem, record.minimum, end))
        row[0].set_ylabel(record.label)
    for ax in axes[1:].ravel():
        ax.set_title("")
    if any(ax.images for ax in axes.ravel()):
        colours, size = ScalarMappable(gram.SCALE, "viridis_r"), min(1.0, 2 / len(records))
        bar = figure.colorbar(colours, ax=axes, shrink=size, aspect=18, extend="min")
        bar.set_label(r"$|G-G^\star|$")
    return figure, tables


def _angles(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 0.75 + 0.85 * len(records)))
    axes = figure.subplots(len(records), 2, sharex=True, squeeze=False)
    tables = []
    for row, record in zip(axes, records, strict=True):
        end = None if record.is_origin else record.end
        angles.plot_angles(record.problem, record.minimum, end, row)
        tables += angles.angle_tables(record.problem, record.minimum, end)
        row[0].set_ylabel(record.label)
    for ax in axes[1:].ravel():
        ax.set_title("")
    for ax in axes[-1]:
        ax.set_xlabel("cosine")
    marks = [Line2D([], [], label=name, **look) for name, look in angles.FRAMES.items()]
    return _with_legend(figure, marks), tables


def _singular_values(records: Sequence[LossRecord]) -> Page:
    figure = Figure(figsize=(COLUMN, 3.4))
    above, below = figure.subplots(2, 1, sharex=True)
    tables = [singular_values.singular_value_table(r.problem, r.minimum, r.end) for r in records]
    singular_values.plot_logit_singular_values(tables, above).set_xlabel("")
    singular_values.plot_gradient_singular_values(tables, below)
    return _with_legend(figure), tables


def _features(records: Sequence[LossRecord]) -> Page:
    rows = [feature_view.feature_tables(record.problem, record.defined) for record in records]
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
                then = "\nthen the origin" if record.is_origin else ""
                _row_label(axes, f"{record.label}{then}")
    figure.legend(handles=feature_view.legend_handles(), loc="outside lower center", ncols=3)
    return figure, [table for panels in rows for table in panels]


#: Name and page of every figure.
PAGES: dict[str, Callable[[Sequence[LossRecord]], Page]] = {
    "convergence": _convergence,
    "collapse": _collapse,
    "gram": _gram,
    "angles": _angles,
    "singular-values": _singular_values,
    "features": _features,
}


def _row_label(axes: Axes, label: str) -> None:
    """Put a label at the left of a row of Axes without axis labels."""
    axes.annotate(
        label, (-0.05, 0.5), xycoords="axes fraction", rotation=90, ha="right", va="center"
    )


def _with_legend(figure: Figure, more: Sequence[Line2D] = ()) -> Figure:
    """Put one legend of all names above the figure, where it covers no data."""
    named = [ax.get_legend_handles_labels() for ax in figure.axes]
    handles = {
        str(label): handle for found in named for handle, label in zip(*found, strict=True)
    } | {str(handle.get_label()): handle for handle in more}
    columns = min(len(handles), 4)
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=columns)
    return figure
