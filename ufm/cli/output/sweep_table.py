"""The final output of `ufm sweep`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ufm._support.text import command
from ufm.cli.output.console import plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say
from ufm.cli.output.table import number_or_dash

if TYPE_CHECKING:
    from ufm.sweep import SweepStore


def show(store: "SweepStore") -> None:
    """Print one row per loss (the worst of its runs), then its meaning in words."""
    from ufm.sweep.problems.summary import summarise

    rows = summarise(store)
    headings = ("loss", "cells", "global", "max gap", "|f−f*|", "NC1", "NC2", "NC3", "steps")
    table = plain_table(headings, words=("loss",))
    for row in rows:
        numbers = (row["max_gap"], row["max_excess"], row["nc1"], row["nc2"], row["nc3"])
        table.add_row(
            row["loss"],
            f"{row['cells']:,}",
            f"{row['global']:,}",
            *map(number_or_dash, numbers),
            f"{row['steps']:.0f}",
        )
    show_table(table, ("steps",))
    for line in conclusions(store, rows):
        say(line)
    show_where(store)


def show_where(store: "SweepStore") -> None:
    """Print the folder of the results, and the command for a report."""
    say(f"Results: {store.path}")
    say(f"Report: {command('ufm', 'report', store.path)}", whole=True)


def conclusions(store: "SweepStore", rows: Sequence[dict[str, Any]]) -> list[str]:
    """Print the verdict in a sentence, and the runs that fell short."""
    from ufm.sweep.problems.summary import SHORT, claim

    lines = [claim(rows, store.num_cells)]
    for row in rows:
        if row["others"]:
            listed = ", ".join(f"{count:,} {name}" for name, count in row["others"].items())
            lines.append(f"{row['loss']}: {listed}")
    if any(row["others"] or row["differs"] for row in rows):
        lines.append(f'Which: ufm store query "{SHORT}" --store {command(store.path)}')
    return lines


def summary_json(store: "SweepStore") -> str:
    """The same as JSON."""
    from ufm._support.strict_json import dumps
    from ufm.sweep.problems.summary import claim, summarise

    rows = summarise(store)
    return dumps(
        {
            "folder": str(store.path),
            "cells": store.num_cells,
            "finished": sum(row["cells"] for row in rows),
            "claim": claim(rows, store.num_cells),
            "losses": rows,
        }
    )
