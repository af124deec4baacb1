"""The output of `ufm sweep --dry-run`: the cells, the compilations, an estimate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ufm.cli.output.console import plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say
from ufm.cli.output.progress import duration

if TYPE_CHECKING:
    from ufm.sweep import Estimate

#: Most cells to list; if there are more, the first and the last ones.
_ALL, _FIRST, _LAST = 12, 8, 2


def show_plan(cells: Sequence[Any], finished: set[int], estimates: "Sequence[Estimate]") -> None:
    """Print the cells by their differences, one row per compilation, and the totals."""
    ready = sum(cell.index in finished for cell in cells)
    done = f", {ready:,} of them done" if ready else ""
    say(f"{len(cells):,} cells{done}; {len(estimates)} compilations")
    fields = [cell.settings() for cell in cells]
    varying = [
        name for name in (fields[0] if fields else ()) if len({str(x[name]) for x in fields}) > 1
    ]
    if varying:
        table = plain_table(["cell" if name == "index" else name for name in varying])
        for number in _listed(len(fields)):
            row = None if number is None else fields[number]
            table.add_row(*("…" if row is None else _shown(row[name]) for name in varying))
        show_table(table)
        say("")
    headings = ("loss, shape, method", "cells", "compilation", "computation")
    table = plain_table(headings, words=headings[:1])
    for row in estimates:
        computation = ("" if row.measured else "≈ ") + duration(row.computation)
        described = row.program.describe()
        table.add_row(described, f"{row.cells:,}", duration(row.compilation), computation)
    show_table(table)
    total = sum((row.computation for row in estimates), 0.0)
    first = sum((row.compilation for row in estimates), 0.0)
    say(
        f"about {duration(total)} on this machine, and up to {duration(first)} of compilation "
        "(kept for the next run)"
    )


def _listed(count: int) -> list[int | None]:
    """The cells to show, with None for omitted cells."""
    if count <= _ALL:
        return list(range(count))
    return [*range(_FIRST), None, *range(count - _LAST, count)]


def _shown(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, tuple):
        first = value[0] if value else ""
        same = all(entry == first for entry in value)
        return f"{len(value)} × {first}" if same else " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plan_json(cells: Sequence[Any], finished: set[int], estimates: "Sequence[Estimate]") -> str:
    """The same as JSON, with all cells; times are in seconds."""
    from ufm._support.strict_json import dumps

    programs = [
        {
            "program": row.program.describe(),
            "cells": row.cells,
            "compilation": row.compilation,
            "computation": row.computation,
            "measured": row.measured,
        }
        for row in estimates
    ]
    listed = [{**cell.settings(), "finished": cell.index in finished} for cell in cells]
    return dumps({"cells": listed, "compilations": programs})
