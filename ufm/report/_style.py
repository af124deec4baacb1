"""The look of the library: sizes for print, and distinct looks for the members of a family.

Nothing is distinguished by colour alone: each colour comes with its own line style and marker.

    axes.plot(x, y, label="CE", **looks(0)._asdict())
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style

#: Widths of one and of two columns of a paper, in inches.
COLUMN, TWO_COLUMNS = 3.3, 6.8
#: The thinnest line that prints, in points.
THIN = 0.6
#: Line properties of one run of many, and of their median.
RUN: dict[str, Any] = {"linewidth": THIN, "alpha": 0.35}
MEDIAN: dict[str, Any] = {"linewidth": 1.4}

_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2.5, 1.2)))
_MARKERS = "os^DvPX"


class Look(NamedTuple):
    """Colour, line style and marker for Matplotlib."""

    color: str
    linestyle: Any
    marker: str


def looks(place: int) -> Look:
    """The look, in every figure, of the member of a family at a position, from 0.

    Seven colours and markers, and five line styles, give 35 distinct looks.
    """
    colour, line = place % len(_MARKERS), place % len(_LINES)
    return Look(f"C{colour}", _LINES[line], _MARKERS[colour])


def style() -> AbstractContextManager[None]:
    """The library's Matplotlib style, as a context for `with`."""
    return matplotlib.style.context(Path(__file__).with_name("ufm.mplstyle"))
