"""The pages of `ufm landscape`."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ufm.landscape import Census, Flow
from ufm.landscape.stored import point_columns
from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN, TWO_COLUMNS
from ufm.report._table import Table
from ufm.report.landscape.census import (
    legend_handles,
    plot_curvature_ratio,
    plot_index,
    plot_least_curvature,
)
from ufm.report.landscape.flow import flow_table, plot_flow, plot_flow_gradient
from ufm.report.landscape.graph import edges, plot_graph
from ufm.report.runs.captions import objective_in_tex
from ufm.report.runs.latex import described_in_tex

#: A census, and a flow of its problem.
Followed = tuple[Census, Flow]


def landscape_files(
    censuses: Sequence[Census], flows: Sequence[Flow] = ()
) -> list[tuple[str, bytes]]:
    """Make the files of index, curvature, connections, and, given flows, flow.

    That of curvature is for two factors, whose theory it shows.
    """
    files = page_files("index", index_page, censuses, _caption("index", censuses))
    if not any(census.problem.lam_hidden for census in censuses):
        caption = _caption("curvature", censuses)
        files += page_files("curvature", curvature_page, censuses, caption)
    files += page_files("connections", graph_page, censuses, _caption("connections", censuses))
    if flows:
        followed = list(zip(censuses, flows, strict=True))
        files += page_files("flow", flow_page, followed, _caption("flow", censuses))
    return files


_CAPTIONS = {
    "index": (
        r"Critical points: the index (number of negative eigenvalues of $\nabla^2 f$) against "
        r"$f-f^\star$. Dotted: the lowest value of every rank. Marks say how a point was found."
    ),
    "curvature": (
        r"The smallest eigenvalue of $\nabla^2 f$ at every saddle against "
        r"$\|G\|_2/\mu-1$, $G=\nabla g(WH)$, $\mu=\sqrt{\lambda_W\lambda_H}$. "
        r"$\lambda(\sigma)=\frac{\lambda_W+\lambda_H}2-"
        r"\sqrt{(\frac{\lambda_W-\lambda_H}2)^2+\sigma^2}$ is an eigenvalue with "
        r"$\sigma=\|G\|_2$; escape: $-2(\sigma-\mu)\mu/(\lambda_W+\lambda_H)$."
    ),
    "connections": (
        r"Where descents from every saddle end: points at their rank and $f-f^\star$, as large as "
        r"searches ended there; lines lead down, as thick as descents went that way."
    ),
    "flow": (
        r"Gradient flow from a small start: $f-f^\star$ and $\|\nabla f\|$ against time. Dots: "
        r"plateaus, the local minima of $\|\nabla f\|$. Dotted: the lowest value of every rank. "
        r"Shaded at the right: the flow has arrived, and what is left of $\|\nabla f\|$ is the "
        r"integrator's error."
    ),
}


def _caption(name: str, censuses: Sequence[Census]) -> str:
    problem = censuses[0].problem
    return f"{_CAPTIONS[name]} {objective_in_tex(problem)} with {described_in_tex(problem)}."


def index_page(censuses: Sequence[Census]) -> Page:
    """A panel for each loss, in two columns if there are several."""
    figure, panels = _panels(len(censuses), 1.95)
    for axes, census in zip(panels, censuses, strict=True):
        plot_index(census, axes)
        axes.set_ylabel(f"{census.problem.loss.label()}\nindex")
    return _with_legend(figure, censuses), list(map(point_columns, censuses))


def curvature_page(censuses: Sequence[Census]) -> Page:
    """One column wide: λ_min of all losses, and below it the ratio to the theory."""
    figure = Figure(figsize=(COLUMN, 3.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    plot_least_curvature(censuses, above).set_xlabel("")
    plot_curvature_ratio(censuses, below)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure, list(map(point_columns, censuses))


def graph_page(censuses: Sequence[Census]) -> Page:
    """A panel for each loss, in two columns if there are several."""
    figure, panels = _panels(len(censuses), 2.6)
    for axes, census in zip(panels, censuses, strict=True):
        plot_graph(census, axes)
        axes.set_title(census.problem.loss.label(), pad=2)
    return _with_legend(figure, censuses), list(map(edge_table, censuses))


def edge_table(census: Census) -> Table:
    """One row for each edge, with the numbers of its end points in `ufm landscape`."""
    ways = edges(census.descents)
    return {
        "loss": census.problem.loss.label(),
        "source": [edge.source for edge in ways],
        "target": [edge.target for edge in ways],
        "descents": [edge.descents for edge in ways],
        "f_source": [census.points[edge.source].value for edge in ways],
        "f_target": [census.points[edge.target].value for edge in ways],
    }


def flow_page(followed: Sequence[Followed]) -> Page:
    """f above and ‖∇f‖ below, a column for each loss."""
    count = len(followed)
    figure = Figure(figsize=(COLUMN if count == 1 else TWO_COLUMNS, 3.2))
    grid = figure.subplots(2, count, sharex="col", squeeze=False, height_ratios=(3, 2))
    for (above, below), (census, flow) in zip(grid.T, followed, strict=True):
        plot_flow(census, flow, above, [other for other, _ in followed])
        plot_flow_gradient(flow, below)
        above.set_title(census.problem.loss.label(), pad=2)
    for row in grid:  # to compare the losses
        limits = [axes.get_ylim() for axes in row]
        for axes in row:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
            axes.label_outer()
    return figure, [flow_table(c.problem.loss.label(), flow) for c, flow in followed]


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(COLUMN if count == 1 else TWO_COLUMNS, 0.45 + height * rows))
    grid = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in grid[count:]:
        unused.set_axis_off()
    return figure, grid[:count]


def _with_legend(figure: Figure, censuses: Sequence[Census]) -> Figure:
    handles = legend_handles(censuses)
    narrow = figure.get_figwidth() < 1.5 * COLUMN
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if narrow else 5)
    return figure
