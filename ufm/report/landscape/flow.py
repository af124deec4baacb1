"""Draw gradient flow from saddle to saddle: f from a small start, with the rank ladder's values.

At a plateau, marked on both curves, ‖∇f‖ has a local minimum. The length of a plateau grows with
the logarithm of the inverse distance from the saddle, so that small starts with widely spread
scales (`ufm.landscape.small_start`) show plateaus best.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ufm.landscape import Census, Flow
from ufm.report._lines import Line, draw_lines
from ufm.report._table import Table
from ufm.report.landscape.census import excess, excess_axis, lowest

#: The flow has arrived when this fraction of its fall is left.
_ARRIVED = 1e-5
#: The flow has left its start after this fraction of its fall.
_BEGUN = 1e-2


def lingering(flow: Flow) -> list[int]:
    """The plateaus before the flow arrives; later ones are rounding."""
    fall = float(flow.value[0] - flow.value[-1])
    return [i for i in flow.plateaus if flow.value[i] - flow.value[-1] > _ARRIVED * fall]


def flow_table(label: str, flow: Flow) -> Table:
    """Tabulate the flow, one row for each time."""
    return {
        "loss": label,
        "time": flow.time,
        "value": flow.value,
        "gradient_norm": flow.grad_norm,
        "plateau": np.isin(np.arange(len(flow.time)), lingering(flow)).astype(int),
    }


def plot_flow(census: Census, flow: Flow, axes: Axes, beside: Sequence[Census] = ()) -> Axes:
    """Draw f − f* against the logarithm of time, and a named line at the lowest f of every rank.

    The ordinate is that of the connection graph, or one for this census and those `beside` it.
    """
    height = flow.value - lowest(census)
    excess_axis(axes, np.concatenate([*map(excess, (census, *beside))]), vertical=True)
    axes.set_ylim(top=max(axes.get_ylim()[1], 1.3 * float(np.max(height))))
    _draw(axes, flow, height)
    rungs = [Line(f"rank {rank}", value - lowest(census)) for rank, value in census.ladder.items()]
    draw_lines(axes, rungs, horizontal=True)
    return axes


def plot_flow_gradient(flow: Flow, axes: Axes) -> Axes:
    """Draw ‖∇f‖ against the logarithm of time until the flow has arrived; later times are shaded.

    There ‖∇f‖ is determined by the integrator's errors.
    """
    end = _arrival(flow)
    _draw(axes, flow, np.where(np.arange(len(flow.time)) <= end, flow.grad_norm, np.nan))
    axes.axvspan(flow.time[end], axes.get_xlim()[1], color="0.94", linewidth=0, zorder=0)
    axes.set_yscale("log")
    axes.set_ylabel(r"$\|\nabla f\|$")
    axes.set_xlabel("time")
    return axes


def _draw(axes: Axes, flow: Flow, values: np.ndarray) -> None:
    later, at = flow.time > 0, lingering(flow)
    axes.plot(flow.time[later], values[later], color="C0")
    axes.plot(flow.time[at], values[at], linestyle="", marker="o", markersize=3, color="C1")
    axes.set_xscale("log")
    axes.set_xlim(*_span(flow))


def _arrival(flow: Flow) -> int:
    """The first time at which less than `_ARRIVED` of the fall is left."""
    left = (flow.value - flow.value[-1]) / (flow.value[0] - flow.value[-1])
    return int(np.argmax(left < _ARRIVED))


def _span(flow: Flow) -> tuple[float, float]:
    """The range from before the fall and the first plateau to three times the arrival time."""
    left = (flow.value - flow.value[-1]) / (flow.value[0] - flow.value[-1])
    begin, end = flow.time[np.argmax(left < 1.0 - _BEGUN)], flow.time[_arrival(flow)]
    first = min([0.1 * begin, *(0.3 * flow.time[i] for i in lingering(flow)[:1])])
    return max(float(first), float(flow.time[1])), min(3.0 * float(end), float(flow.time[-1]))
