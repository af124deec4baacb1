"""From saddle to saddle: f along gradient flow from a small start, with the rank ladder's values.

The flow lingers where ‖∇f‖ has a local minimum: the plateaus, marked on both curves. It lingers for
a time in proportion to the logarithm of the distance at which it comes by a saddle, so that small
starts with widely spread scales (`ufm.landscape.small_start`) show them best.
"""

import numpy as np
from matplotlib.axes import Axes

from ufm.landscape import Census, Flow
from ufm.report._lines import Line, draw_lines
from ufm.report._table import Table
from ufm.report.landscape.census import excess, excess_axis, lowest

#: f closer to its last value than this part of its fall: the flow has arrived.
_ARRIVED = 1e-5
#: What it has fallen by when it has left its start.
_BEGUN = 1e-2


def lingering(flow: Flow) -> list[int]:
    """The plateaus before the flow arrives; rounding makes more of them at its end."""
    fall = float(flow.value[0] - flow.value[-1])
    return [i for i in flow.plateaus if flow.value[i] - flow.value[-1] > _ARRIVED * fall]


def flow_table(label: str, flow: Flow) -> Table:
    """One row for each moment."""
    return {
        "loss": label,
        "time": flow.time,
        "value": flow.value,
        "gradient_norm": flow.grad_norm,
        "plateau": np.isin(np.arange(len(flow.time)), lingering(flow)).astype(int),
    }


def plot_flow(census: Census, flow: Flow, axes: Axes) -> Axes:
    """f − f* against the logarithm of time; the lowest f of every rank is a line, named at right.

    The ordinate is that of the connection graph.
    """
    height = flow.value - lowest(census)
    excess_axis(axes, excess(census), vertical=True)
    axes.set_ylim(top=max(axes.get_ylim()[1], 1.3 * float(np.max(height))))
    _draw(axes, flow, height)
    rungs = [Line(f"rank {rank}", value - lowest(census)) for rank, value in census.ladder.items()]
    draw_lines(axes, rungs, horizontal=True)
    return axes


def plot_flow_gradient(flow: Flow, axes: Axes) -> Axes:
    """‖∇f‖ against the logarithm of time, until the flow has arrived (shaded: after that).

    Beyond, ‖∇f‖ is what the integrator's errors make of it.
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
    """The first moment at which nothing of the fall is left but `_ARRIVED`."""
    left = (flow.value - flow.value[-1]) / (flow.value[0] - flow.value[-1])
    return int(np.argmax(left < _ARRIVED))


def _span(flow: Flow) -> tuple[float, float]:
    """From before f falls, and before the first plateau, to three times the time of its arrival."""
    left = (flow.value - flow.value[-1]) / (flow.value[0] - flow.value[-1])
    begin, end = flow.time[np.argmax(left < 1.0 - _BEGUN)], flow.time[_arrival(flow)]
    first = min([0.1 * begin, *(0.3 * flow.time[i] for i in lingering(flow)[:1])])
    return max(float(first), float(flow.time[1])), min(3.0 * float(end), float(flow.time[-1]))
