"""What `ufm sweep --dry-run` prints: the cells, the compilations, an estimate."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ufm.cli.output.console import wide_console
from ufm.cli.output.progress import duration
from ufm.cli.output.sweep_table import plain_table

if TYPE_CHECKING:
    from ufm.sweep import Estimate

#: Cells that are listed: all of so many, else the first and the last ones.
_ALL, _FIRST, _LAST = 12, 8, 2


def show_plan(cells: Sequence[Any], finished: set[int], estimates: "Sequence[Estimate]") -> None:
    """The cells by what tells them apart, one row for each compilation, and the sum."""
    console = wide_console()
    ready = sum(cell.index in finished for cell in cells)
    done = f", {ready:,} of them done" if ready else ""
    console.print(f"{len(cells):,} cells{done}; {len(estimates)} compilations", highlight=False)
    fields = [_flat(dataclasses.asdict(cell)) for cell in cells]
    varying = [
        name for name in (fields[0] if fields else ()) if len({str(x[name]) for x in fields}) > 1
    ]
    if varying:
        table = plain_table((), ["cell" if name == "index" else name for name in varying])
        for number in _listed(len(fields)):
            row = None if number is None else fields[number]
            table.add_row(*("…" if row is None else _shown(row[name]) for name in varying))
        console.print(table)
        console.print()
    table = plain_table(("loss, shape, method",), ("cells", "compilation", "computation"))
    for row in estimates:
        computation = ("" if row.measured else "≈ ") + duration(row.computation)
        described = row.program.describe()
        table.add_row(described, f"{row.cells:,}", duration(row.compilation), computation)
    console.print(table)
    total = sum((row.computation for row in estimates), 0.0)
    first = sum((row.compilation for row in estimates), 0.0)
    console.print(
        f"about {duration(total)} on this machine, and up to {duration(first)} of compilation "
        "(kept for the next run)",
        highlight=False,
    )


def _flat(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell of a sweep over networks keeps its settings in a structure of its own."""
    import msgspec

    config = cell.get("config")
    if not isinstance(config, msgspec.Struct):
        return cell
    found = {"index": cell["index"], **msgspec.structs.asdict(config)}
    return found | {"learning_rate": "by rule"} if cell["trial"] is not None else found


def _listed(count: int) -> list[int | None]:
    """Which cells are shown; None for what is left out."""
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
    """The same, with every cell, as JSON; seconds."""
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
    listed = [
        {**_flat(dataclasses.asdict(cell)), "finished": cell.index in finished} for cell in cells
    ]
    return dumps({"cells": listed, "compilations": programs})
