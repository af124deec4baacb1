"""The look of the library: sizes for print, and how the members of a family are told apart.

Nothing is told by colour alone: what has a colour of its own has a line style and a marker, too.

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
#: One run of many, and what stands for all of them.
RUN: dict[str, Any] = {"linewidth": THIN, "alpha": 0.35}
MEDIAN: dict[str, Any] = {"linewidth": 1.4}

_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2.5, 1.2)))
_MARKERS = "os^DvPX"


class Look(NamedTuple):
    """Colour, line style and marker, as Matplotlib takes them."""

    color: str
    linestyle: Any
    marker: str


def looks(place: int) -> Look:
    """How the member of a family at a place, from 0, looks in every figure.

    Seven colours and markers, and five line styles: 35 members look different.
    """
    colour, line = place % len(_MARKERS), place % len(_LINES)
    return Look(f"C{colour}", _LINES[line], _MARKERS[colour])


def style() -> AbstractContextManager[None]:
    """The library's Matplotlib style, for one `with` block."""
    return matplotlib.style.context(Path(__file__).with_name("ufm.mplstyle"))
