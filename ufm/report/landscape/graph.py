"""The connection graph: which saddle descends to which lower critical point.

A node is a critical point, at its rank and f − f*. An edge is a descent, and points down. Nodes
grow with the number of searches that ended there, and edges with the number of descents.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from ufm.landscape import Census, Descent
from ufm.report._lines import places
from ufm.report._style import THIN
from ufm.report.landscape.census import LOOKS, excess, excess_axis, kind_of

#: Half the width of the column of a rank, in ranks.
_HALF = 0.36
#: Area of a node with one hit, and its growth with the logarithm of the number of hits, in points².
_AREA, _GROWTH = 5.0, 6.0
#: Nodes closer than this on the ordinate, in points, are placed side by side.
_APART = 5.0
#: Beyond this number of points nodes are smaller and edges paler.
_MANY = 60


class Edge(NamedTuple):
    """Descents from one point to another."""

    source: int
    target: int
    descents: int


def edges(descents: Sequence[Descent]) -> list[Edge]:
    """Merge parallel descents into one edge; omit those that returned to their start."""
    ways = Counter((d.source, d.target) for d in descents if d.source != d.target)
    return [Edge(source, target, count) for (source, target), count in ways.items()]


def plot_graph(census: Census, axes: Axes) -> Axes:
    """Draw the graph of the module.

    The axis of f − f* is that of `ufm.report.landscape.census.plot_index`.
    """
    height = excess(census)
    excess_axis(axes, height, vertical=True)
    ranks = np.array([point.rank for point in census.points])
    axes.set_xlim(np.min(ranks) - 0.6, np.max(ranks) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11))
    axes.set_xlabel("rank")
    x = ranks + offsets(ranks, places(axes, height, vertical=True))
    ways = edges(census.descents)
    crowded = len(census.points) > _MANY
    lines = LineCollection(
        [[(x[e.source], height[e.source]), (x[e.target], height[e.target])] for e in ways],
        linewidths=[THIN * e.descents for e in ways],
        colors="0.3",
        alpha=0.2 if crowded else 0.55,
        zorder=1,
    )
    axes.add_collection(lines, autolim=False)
    for kind, look in LOOKS.items():
        at = [i for i, point in enumerate(census.points) if kind_of(point) == kind]
        hits = np.array([sum(census.points[i].hits.values()) for i in at], float)
        areas = _AREA + _GROWTH * np.log2(np.maximum(hits, 1.0))
        hollow = look.get("markerfacecolor") == "none"
        axes.scatter(
            x[at],
            height[at],
            s=areas * (0.5 if crowded and hollow else 1.0 if hollow else 2.0),
            marker=look["marker"],
            facecolors="white" if hollow else look["color"],
            edgecolors=None if look["marker"] == "x" else look["color"],
            linewidths=look["markeredgewidth"],
            zorder=2 if hollow else 3,
        )
    return axes


def offsets(ranks: np.ndarray, at: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """Positions in the columns: nodes of a rank that would overlap are placed side by side.

    `at` are the positions on the ordinate, in points.
    """
    shift = np.zeros(len(ranks))
    for rank in np.unique(ranks):
        own = np.flatnonzero(ranks == rank)
        own = own[np.argsort(at[own], kind="stable")]
        cluster: list[int] = []
        for i in own:
            if cluster and at[i] - at[cluster[-1]] > _APART:
                _spread(shift, cluster)
                cluster = []
            cluster.append(int(i))
        _spread(shift, cluster)
    return shift


def _spread(shift: np.ndarray, cluster: list[int]) -> None:
    """Put one node in the middle, two left and right of it, and many across the column."""
    count = len(cluster)
    width = _HALF * min(1.0, (count - 1) / 4)
    shift[cluster] = np.linspace(-width, width, count) if count > 1 else 0.0
