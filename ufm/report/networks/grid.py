"""Draw agreement of losses: accuracies over width × epochs, and the equivalence tests.

A comparison is plain data, such as `Equivalence.row()` of `ufm.networks` with three more names:
`loss`, `width`, `epochs`, and `difference`, `low`, `high` (the interval), `margin` in points of
accuracy, loss minus cross-entropy, and `outcome` in words.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from ufm.report._figure import Page
from ufm.report._style import THIN, TWO_COLUMNS
from ufm.report._table import Table
from ufm.report.networks.curves import Run, checked_runs, legend_handles, loss_looks

Comparison = Mapping[str, Any]

REFERENCE = "ce"
#: Red is below cross-entropy, blue above; text is white beyond this share of the scale.
_SHADES, _DARK = "RdBu", 0.6
#: Outcomes that show equivalence, and outcomes that show a difference.
_EQUIVALENT = ("equivalent", "equivalent though different")
_DIFFERENT = ("different", "equivalent though different")
#: The outcome without a claim, for any interval.
_UNTESTED = "too few seeds"


class Gaps(NamedTuple):
    """mean Acc_loss − mean Acc_CE in points over widths (rows) × epochs, NaN if not run."""

    widths: list[Any]
    epochs: list[Any]
    values: Float[np.ndarray, "W E"]


def final_accuracies(runs: Sequence[Run]) -> dict[tuple[str, Any, Any], dict[Any, float]]:
    """(loss, width, epochs) → seed → last test accuracy, in points, which the tests compare."""
    found: dict[tuple[str, Any, Any], dict[Any, float]] = {}
    for run in runs:
        cell = found.setdefault((str(run["loss"]), run["width"], run["epochs"]), {})
        cell[run["seed"]] = 100.0 * float(run["test_accuracy"][-1])
    return found


def accuracy_gaps(runs: Sequence[Run], loss: str) -> Gaps:
    """The gaps of one loss to cross-entropy, over the seeds that both share in a cell."""
    accuracies = final_accuracies(runs)
    widths = sorted({run["width"] for run in runs})
    epochs = sorted({run["epochs"] for run in runs})
    values = np.full((len(widths), len(epochs)), np.nan)
    for i, width in enumerate(widths):
        for j, length in enumerate(epochs):
            own, other = (accuracies.get((x, width, length), {}) for x in (loss, REFERENCE))
            seeds = sorted(own.keys() & other.keys())
            if seeds:
                values[i, j] = np.mean([own[seed] - other[seed] for seed in seeds])
    return Gaps(widths, epochs, values)


def gap_limit(gaps: Iterable[Gaps]) -> float:
    """The limit of the colours: the largest gap, but at least a point to keep small gaps pale."""
    return max(1.0, *(float(np.nanmax(np.abs(each.values), initial=0.0)) for each in gaps))


def plot_accuracy_gap(
    gaps: Gaps, axes: Axes, outcomes: Mapping[tuple[Any, Any], str], limit: float
) -> Axes:
    """Draw one loss: colours from −`limit` to `limit`, numbers in the cells, marked outcomes.

    `outcomes[width, epochs]` are those of comparisons: a frame marks equivalence, and a star a
    significant difference.
    """
    axes.imshow(gaps.values, cmap=_SHADES, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(gaps.values):
        outcome = outcomes.get((gaps.widths[i], gaps.epochs[j]), "")
        if np.isnan(value):
            axes.text(j, i, "–", ha="center", va="center", color="0.6")
            continue
        star = "*" if outcome in _DIFFERENT else ""
        colour = "white" if abs(value) > _DARK * limit else "black"
        said = f"{value:+.2f}{star}".replace("-", "−")
        axes.text(j, i, said, ha="center", va="center", color=colour, fontsize="small")
        if outcome in _EQUIVALENT:
            corner = (j - 0.44, i - 0.42)
            axes.add_patch(Rectangle(corner, 0.88, 0.84, fill=False, color="black", linewidth=1.1))
    axes.set_xticks(range(len(gaps.epochs)), [f"{x:g}" for x in gaps.epochs])
    axes.set_yticks(range(len(gaps.widths)), [f"{x:g}" for x in gaps.widths])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("epochs")
    axes.set_ylabel("width")
    return axes


def grid_page(runs: Sequence[Run], comparisons: Sequence[Comparison]) -> Page:
    """A panel for each loss except cross-entropy, with one scale of colours for all."""
    looks = loss_looks(checked_runs(runs))
    losses = [spec for spec in looks if spec != REFERENCE]
    if REFERENCE not in looks or not losses:
        raise ValueError(f"runs of {REFERENCE!r} and of another loss are needed")
    gaps = {loss: accuracy_gaps(runs, loss) for loss in losses}
    limit = gap_limit(gaps.values())
    rows = len(gaps[losses[0]].widths)
    figure = Figure(figsize=(TWO_COLUMNS, 0.95 + 0.32 * max(rows, 3)))
    row = figure.subplots(1, len(losses), sharey=True, squeeze=False)[0]
    for axes, loss in zip(row, losses, strict=True):
        outcomes = {
            (each["width"], each["epochs"]): str(each["outcome"])
            for each in comparisons
            if str(each["loss"]) == loss
        }
        plot_accuracy_gap(gaps[loss], axes, outcomes, limit)
        axes.set_title(looks[loss].label, pad=3)
        axes.label_outer()
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), _SHADES), ax=list(row), aspect=14
    )
    bar.set_label("test accuracy − CE,\npoints")
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    if comparisons:
        margin = float(comparisons[0]["margin"])
        handles = [
            Patch(fill=False, edgecolor="black", linewidth=1.1, label=f"equivalent, ±{margin:g}"),
            Line2D([], [], linestyle="", marker="$*$", color="black", label="different from 0"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure, [gap_table(loss, each) for loss, each in gaps.items()]


def gap_table(loss: str, gaps: Gaps) -> Table:
    """Tabulate the gaps, one row for each cell."""
    rows, columns = np.indices(gaps.values.shape)
    return {
        "loss": loss,
        "width": np.array(gaps.widths)[rows.ravel()],
        "epochs": np.array(gaps.epochs)[columns.ravel()],
        "difference_in_points": gaps.values.ravel(),
    }


def forest_page(comparisons: Sequence[Comparison]) -> Page:
    """All comparisons with intervals, the margin as a band, and outcomes in words."""
    ordered = sorted(comparisons, key=lambda each: (each["width"], each["epochs"]))
    figure = Figure(figsize=(TWO_COLUMNS, 0.75 + 0.17 * len(ordered)))
    plot_forest(ordered, figure.subplots())
    figure.legend(handles=legend_handles(ordered), loc="outside upper center", ncols=4)
    return figure, [_comparison_table(each) for each in ordered]


def plot_forest(comparisons: Sequence[Comparison], axes: Axes) -> Axes:
    """Draw from the top in the given order; comparisons of one width and epochs share a label.

    A hollow marker makes no claim: there are too few seeds, or no interval, as if all differences
    are equal.
    """
    looks = loss_looks(comparisons)
    margin = float(comparisons[0]["margin"])
    axes.axvspan(-margin, margin, color="0.93", linewidth=0, zorder=0)
    axes.axvline(0.0, color="0.6", linewidth=THIN, zorder=0.5)
    labels: dict[tuple[Any, Any], list[int]] = {}
    for i, each in enumerate(comparisons):
        look = looks[str(each["loss"])].look
        low, high = float(each["low"]), float(each["high"])
        bare = not high > low
        if not bare:
            axes.plot([low, high], [i, i], color=look.color, linestyle=look.linestyle)
        face = "white" if bare or each["outcome"] == _UNTESTED else look.color
        axes.plot(
            float(each["difference"]), i, marker=look.marker, markersize=3.2, color=look.color,
            markerfacecolor=face, linestyle="",
        )  # fmt: skip
        axes.annotate(
            str(each["outcome"]), (1.02, i), xycoords=("axes fraction", "data"),
            fontsize="small", va="center",
        )  # fmt: skip
        labels.setdefault((each["width"], each["epochs"]), []).append(i)
    ends = [rows[-1] + 0.5 for rows in labels.values()]
    for end in ends[:-1]:
        axes.axhline(end, color="0.8", linewidth=THIN)
    axes.set_yticks(
        [float(np.mean(rows)) for rows in labels.values()],
        [f"width {width:g}\n{epochs:g} epochs" for width, epochs in labels],
        fontsize=6,
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    alpha = float(comparisons[0].get("alpha", 0.05))
    axes.set_xlabel(f"test accuracy less that of CE, points ({100 * (1 - 2 * alpha):g} % interval)")
    return axes


def _comparison_table(comparison: Comparison) -> Table:
    first = ("loss", "width", "epochs", "difference", "low", "high", "margin", "outcome")
    others = sorted(name for name in comparison if name not in first)
    return {name: np.atleast_1d(comparison[name]) for name in (*first, *others)}
