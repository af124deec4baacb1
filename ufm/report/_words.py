"""Words for the text description of a figure."""

from typing import Any

import numpy as np

#: Numbers below this are rounding.
_ROUNDING = 1e-14


def span(values: Any, form: str = ".2g") -> str:
    """Describe the range of the finite values: "0.1 to 3", "0.1", or "no number"."""
    array = np.asarray(values, float).ravel()
    known = array[np.isfinite(array)]
    if not known.size:
        return "no number"
    known = np.where(np.abs(known) < _ROUNDING, 0.0, known)
    low, high = (format(float(x), form) for x in (known.min(), known.max()))
    return low if low == high else f"{low} to {high}"


def counted(number: int, noun: str) -> str:
    """Write a count with its noun: "1 run", "3 runs"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
