"""Print results: at most eight lines in a REPL, a small table in a notebook.

Numbers and verdicts come first. Arrays are shown as dtype[shape], so that a million features do not
fill the screen.
"""

import dataclasses
import enum
import html
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import wadler_lindig as wl
from jax.core import Tracer

#: Most rows under the title, and most characters of a row.
MOST_ROWS, WIDTH = 7, 100
#: Arrays of at most this many numbers are written out.
_FEW = 5


class Shown:
    """Base of every result. `_caution` warns of an unconverged or unreliable result."""

    #: The attributes to show, most important first; if empty, all fields.
    _printed: ClassVar[tuple[str, ...]] = ()
    #: The attributes that are left out where they are None or empty.
    _optional: ClassVar[tuple[str, ...]] = ()

    @property
    def _caution(self) -> str:
        """A warning for the last line."""
        return ""

    def __repr__(self) -> str:
        rows = _texts(self)
        width = max(map(len, rows), default=0)
        lines = [f"  {name:<{width}}  {text}" for name, text in rows.items()]
        caution = [f"  {self._caution}"] if self._caution else []
        return "\n".join([type(self).__name__, *lines, *caution])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in _texts(self).items()
        )
        caution = f'<tr><td colspan="2">{html.escape(self._caution)}</td></tr>'
        title = f"<caption>{type(self).__name__}</caption>"
        return f"<table>{title}{rows}{caution if self._caution else ''}</table>"


def _names(result: Any) -> tuple[str, ...]:
    names = result._printed or tuple(field.name for field in dataclasses.fields(result))
    absent = {name for name in result._optional if _is_absent(getattr(result, name))}
    return tuple(name for name in names if name not in absent)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and not value)


def _texts(result: Shown) -> dict[str, str]:
    return {name: _shortened(text(getattr(result, name))) for name in _names(result)[:MOST_ROWS]}


def _shortened(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def text(value: Any) -> str:
    """One line for a value of any kind."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        # Small numbers are errors, gaps and decays: four digits are enough.
        return f"{value:.10g}" if 1e-4 <= abs(value) < 1e10 else f"{value:.4g}"
    if isinstance(value, Shown):
        rows = ((name, getattr(value, name)) for name in _names(value))
        inside = ", ".join(f"{k}={_dtype(v) if _is_row(v) else text(v)}" for k, v in rows)
        return f"{type(value).__name__}({inside})"
    if isinstance(value, tuple | list) and len(value) > _FEW:
        alike = isinstance(value[0], int) and len(set(value)) == 1
        return f"{len(value)} × {value[0] if alike else type(value[0]).__name__}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(each)}" for key, each in value.items())
    if _is_array(value):
        return _array(value)
    return wl.pformat(value, width=10 * WIDTH, short_arrays=True)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def _is_row(value: Any) -> bool:
    return _is_array(value) and value.ndim > 0


def _dtype(value: Any) -> str:
    return wl.pformat(wl.array_summary(value.shape, str(value.dtype), None))


def _array(value: Any) -> str:
    """`f64[10,16]`, with the range of a vector; a short vector is written out."""
    here = not isinstance(value, Tracer) and getattr(value, "is_fully_addressable", True)
    if not here or value.ndim > 1 or value.dtype.kind not in "fiub":
        return _dtype(value)
    numbers = np.asarray(value)
    if numbers.ndim == 0:
        return text(numbers.item())
    if numbers.size <= _FEW:
        return f"[{', '.join(text(x.item()) for x in numbers)}]"
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return _dtype(value)
    least, most = text(finite.min().item()), text(finite.max().item())
    return f"{_dtype(value)} {f'all {least}' if least == most else f'from {least} to {most}'}"
