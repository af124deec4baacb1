"""The look of the library."""

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.style

#: Width of one column of a paper, in inches.
COLUMN = 3.3


def style() -> AbstractContextManager[None]:
    """The library's Matplotlib style, for one `with` block."""
    return matplotlib.style.context(Path(__file__).with_name("ufm.mplstyle"))
