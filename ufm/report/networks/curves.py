"""Networks along training: collapse, accuracy, and the last layer beside the model's minimiser.

A run is plain data: a mapping with `loss` (as `parse_loss` reads it), `width`, `epochs`, `seed`,
and arrays with an entry for each measured epoch: `epoch`, `nc1`, `nc2`, `nc3`, `train_accuracy` and
`test_accuracy` (shares of correct answers), and, for the model's page, `dual_ratio` and `distance`.
Optional `centred_dual_ratio` and `centred_distance` are drawn too, and the epochs `drops`, after
which the learning rate falls, are marked. Runs are thin lines and medians thick ones, with a marker
at each measurement, because values between measurements are unknown.

    with style():
        figure, axes = plt.subplots()
        plot_network_curve(runs, "nc1", axes)
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ufm.losses import parse_loss
from ufm.report._figure import Page
from ufm.report._style import COLUMN, MEDIAN, RUN, THIN, TWO_COLUMNS, Look, looks
from ufm.report._table import Table
from ufm.report.runs.convergence import Curve, median_curve, positive

Run = Mapping[str, Any]

#: Looks of losses in every figure follow their positions in `ufm solve`.
_PLACES = ("ce", "ls", "fl", "mse")
#: Share of the training after which accuracies determine the limits of their axis.
_EARLY = 0.1
#: Ratio of the ends of an axis from which only powers of ten are labelled.
_FEW = 50.0


class Quantity(NamedTuple):
    """An array of a run, with its names in figures and in texts; `goal` is the model's minimum."""

    name: str
    label: str
    words: str
    log: bool = True
    scale: float = 1.0
    goal: float | None = None


COLLAPSE = tuple(Quantity(f"nc{i}", f"NC{i}", f"NC{i}") for i in (1, 2, 3))
ACCURACY = Quantity(
    "test_accuracy", "test accuracy\n(points)", "test accuracy in points", log=False, scale=100.0
)
MODEL = (
    Quantity("dual_ratio", r"$\|G\|_2/\mu$", "‖G‖/μ", goal=1.0),
    Quantity("distance", "distance", "distance to the minimiser"),
    Quantity("centred_dual_ratio", "$\\|G\\|_2/\\mu$,\ncentred", "‖G‖/μ, centred", goal=1.0),
    Quantity("centred_distance", "distance,\ncentred", "distance to the minimiser, centred"),
)


class NamedLook(NamedTuple):
    """The name and the look of a loss."""

    label: str
    look: Look


def loss_looks(runs: Sequence[Run]) -> dict[str, NamedLook]:
    """Name and look of every loss, in the order of `ufm solve`, then further ones of a kind."""
    specs = list(dict.fromkeys(str(run["loss"]) for run in runs))
    specs.sort(key=lambda spec: _PLACES.index(spec.partition(":")[0]))
    found, spare, taken = {}, itertools.count(len(_PLACES)), set()
    for spec in specs:
        place = _PLACES.index(spec.partition(":")[0])
        place = next(spare) if place in taken else place
        taken.add(place)
        found[spec] = NamedLook(parse_loss(spec).label(), looks(place))
    return found


def plot_network_curve(runs: Sequence[Run], quantity: Quantity | str, axes: Axes) -> Axes:
    """Draw one array of every run against the epoch, with one look for each loss.

    `quantity` may be the name of one in this module. Values that a logarithmic axis cannot show
    (zeros, and NaN after divergence) are omitted.
    """
    shown = _quantity(quantity)
    for spec, (label, look) in loss_looks(runs).items():
        curves = [_curve(run, shown) for run in runs if str(run["loss"]) == spec]
        for curve in curves:
            axes.plot(*_visible(curve, shown.log), color=look.color, **RUN)
        median = _visible(median_curve(curves), shown.log)
        axes.plot(*median, label=label, markersize=2.2, **MEDIAN, **look._asdict())
    for epoch in _drops(runs):
        axes.axvline(epoch, color="0.8", linewidth=THIN, linestyle=(0, (4, 3)), zorder=0.5)
    if shown.log:
        # No positive number, as for distances if no minimiser is known.
        seen = [_visible(_curve(run, shown), True)[1] for run in runs]
        if any(values.size for values in seen):
            axes.set_yscale("log")
            _log_ticks(axes.yaxis, *_ends(np.concatenate(seen)))
    elif len(runs):
        _zoom(axes, [_curve(run, shown) for run in runs])
    if shown.goal is not None:
        axes.axhline(shown.goal, color="0.6", linewidth=THIN, linestyle=":", zorder=0.5)
    _epoch_axis(axes, max((int(run["epoch"][-1]) for run in runs), default=1))
    axes.set_ylabel(shown.label)
    return axes


def collapse_page(runs: Sequence[Run]) -> Page:
    """NC1–NC3 and test accuracy, a column for each width at its longest training."""
    return _page(runs, (*COLLAPSE, ACCURACY))


def model_page(runs: Sequence[Run]) -> Page:
    """‖G‖₂/μ and the distance to the nearest minimiser, as trained and, if given, centred."""
    return _page(runs, tuple(each for each in MODEL if all(each.name in run for run in runs)))


def run_table(run: Run) -> Table:
    """Tabulate all arrays that these pages can show, one row for each measured epoch."""
    own = {name: run[name] for name in ("loss", "width", "epochs", "seed", "epoch")}
    names = [each.name for each in (*COLLAPSE, *MODEL)]
    shown = ("train_accuracy", "test_accuracy", "learning_rate", *names)
    blank = np.full(len(run["epoch"]), np.nan)
    return own | {name: np.asarray(run.get(name, blank), np.float64) for name in shown}


def longest_of_each_width(runs: Sequence[Run]) -> dict[Any, list[Run]]:
    """Width → its runs with the most epochs, in ascending order of width."""
    widths = sorted({run["width"] for run in runs})
    longest = {w: max(run["epochs"] for run in runs if run["width"] == w) for w in widths}
    return {
        width: [run for run in runs if (run["width"], run["epochs"]) == (width, epochs)]
        for width, epochs in longest.items()
    }


def checked_runs(runs: Sequence[Run]) -> Sequence[Run]:
    """Check runs: raise `ValueError`, naming the run, for arrays missing or of unequal length."""
    if not runs:
        raise ValueError("no runs: nothing to draw")
    for i, run in enumerate(runs):
        needed = ("loss", "width", "epochs", "seed", "epoch", "train_accuracy", "test_accuracy")
        missing = [name for name in (*needed, "nc1", "nc2", "nc3") if name not in run]
        if missing:
            raise ValueError(f"run {i} has no {', '.join(missing)}")
        table = {name: x for name, x in run_table(run).items() if np.ndim(x) == 1}
        lengths = {name: len(x) for name, x in table.items()}
        if len(set(lengths.values())) != 1 or not lengths["epoch"]:
            raise ValueError(f"run {i} has arrays of different length, or none: {lengths}")
        if np.any(np.asarray(run["test_accuracy"]) > 1):
            raise ValueError(f"run {i}: accuracies are shares of right answers, at most 1")
    return runs


def _page(runs: Sequence[Run], quantities: Sequence[Quantity]) -> Page:
    columns = longest_of_each_width(checked_runs(runs))
    count = len(columns)
    size = (COLUMN if count == 1 else TWO_COLUMNS, 0.5 + 1.05 * len(quantities))
    figure = Figure(figsize=size)
    shape = {"sharex": "col", "sharey": "row", "squeeze": False}
    grid = figure.subplots(len(quantities), count, **shape)
    for column, (width, shown) in zip(grid.T, columns.items(), strict=True):
        for axes, quantity in zip(column, quantities, strict=True):
            plot_network_curve(shown, quantity, axes)
            axes.label_outer()
        if count > 1:
            column[0].set_title(f"width {width:g}", pad=3)
    figure.legend(
        handles=legend_handles(runs), loc="outside upper center", ncols=2 if count == 1 else 4
    )
    return figure, list(map(run_table, runs))


def legend_handles(runs: Sequence[Run]) -> list[Line2D]:
    """A legend entry for each loss, with the look of its medians."""
    return [
        Line2D([], [], label=label, markersize=2.5, **MEDIAN, **look._asdict())
        for label, look in loss_looks(runs).values()
    ]


def _quantity(name: Quantity | str) -> Quantity:
    if isinstance(name, Quantity):
        return name
    known = {each.name: each for each in (*COLLAPSE, ACCURACY, *MODEL)}
    if name not in known:
        raise ValueError(f"unknown quantity {name!r}: choose {', '.join(known)}")
    return known[name]


def _curve(run: Run, quantity: Quantity) -> Curve:
    values = quantity.scale * np.asarray(run[quantity.name], np.float64)
    return np.column_stack([np.asarray(run["epoch"], np.float64), values])


def _visible(curve: Curve, log: bool) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    return positive(curve) if log else (curve[:, 0], curve[:, 1])


def _epoch_axis(axes: Axes, last: int) -> None:
    """Set a logarithmic axis, like the spacing of measurements, with plain numbers."""
    axes.set_xscale("log")
    axes.set_xlim(0.9, 1.1 * last)
    _log_ticks(axes.xaxis, 1.0, float(last))
    axes.set_xlabel("epoch")


def _log_ticks(axis: Axis, low: float, high: float) -> None:
    """Put ticks at powers of ten, and at 2 and 5 if those are few, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < _FEW * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _ends(values: Float[np.ndarray, " _"]) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _drops(runs: Sequence[Run]) -> list[int]:
    """Numbers of epochs after which the learning rate of any run falls."""
    return sorted({int(epoch) for run in runs for epoch in run.get("drops", ())})


def _zoom(axes: Axes, curves: Sequence[Curve]) -> None:
    """Set limits by later epochs, since the range of the first ones would flatten the rest."""
    late = [curve[curve[:, 0] >= _EARLY * curve[-1, 0], 1] for curve in curves]
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if values.size:
        low, high = float(np.min(values)), float(np.max(values))
        room = max(0.06 * (high - low), 0.1)
        old = axes.get_ylim() if axes.get_autoscaley_on() is False else (np.inf, -np.inf)
        axes.set_ylim(min(low - room, old[0]), max(high + room, old[1]))
