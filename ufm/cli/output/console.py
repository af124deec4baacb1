"""Consoles for tables and progress, which treat strings as text, never as markup."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import Task, TextColumn
from rich.table import Table
from rich.text import Text

from ufm._support.text import plain
from ufm.cli.output.print import columns, say

#: Columns for the words of a table in a file, and the fewest that words in a terminal wrap to.
_FILE, _WORDS = 100, 30


class PlainConsole(Console):
    """Shows strings, also in tables, without markup, emoji codes and control characters.

    A line break in a string is also shown as its escape, because lines are printed one by one.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        options.update(markup=False, emoji=False)
        return super().render_str(plain(text), **options)


def plain_table(headings: Sequence[str], words: Collection[str] = (), gap: int = 1) -> Table:
    """A table with columns of numbers, and of `words`, which may wrap."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        number = heading not in words
        table.add_column(heading, justify="right" if number else "left", no_wrap=number)
    return table


def show_facts(rows: Iterable[tuple[str, str, str]]) -> None:
    """Print a name, a number and what it means on each line, without headings."""
    names = ("name", "number", "text")
    table = plain_table(names, words=names)
    table.show_header = False
    table.columns[0].style = "bold"
    for column in table.columns[:2]:
        column.no_wrap = True
    for row in rows:
        table.add_row(*row)
    show(table)


def show(table: Table | str, least: Sequence[str] = (), style: str | None = None) -> None:
    """Print a table or a title, no wider than the terminal.

    Columns that do not fit are omitted, with a note: those with the headings `least` first, in
    their order, then from the right. A file has room for all columns.
    """
    console, width, left_out = PlainConsole(), columns(), []
    if isinstance(table, Table):
        while width and len(table.columns) > 2 and _needed(console, table) > width:
            headings = [str(column.header) for column in table.columns]
            gone = next((name for name in least if name in headings), headings[-1])
            left_out.append(gone)
            table = _without(table, headings.index(gone))
        console.width = width or max(_FILE, _in_file(console, table))
    console.print(table, highlight=False, style=style)
    if left_out:
        say(f"In {width} columns there is no room for {', '.join(left_out)}: see --json.")


def _sizes(console: Console, table: Table) -> Measurement:
    """The least and the preferred width of a table, independent of the output."""
    return console.measure(table, options=console.options.update(max_width=100_000))


def _needed(console: Console, table: Table) -> int:
    """The width in which no number wraps and every column of words has room."""
    whole = _sizes(console, table).maximum
    words = (i for i, column in enumerate(table.columns) if not column.no_wrap)
    sizes = (whole - _sizes(console, _without(table, i)).maximum for i in words)
    return whole - sum(max(size - _WORDS, 0) for size in sizes)


def _in_file(console: Console, table: Table) -> int:
    """The width in a file: numbers do not wrap, and all words together have `_FILE` columns."""
    numbers = table
    while words := [i for i, column in enumerate(numbers.columns) if not column.no_wrap]:
        numbers = _without(numbers, words[0])
    whole = _sizes(console, table).maximum
    return min(whole, _sizes(console, numbers).maximum + _FILE) if numbers.columns else 0


def _without(table: Table, place: int) -> Table:
    """Remove one column of the table."""
    kept = [column for i, column in enumerate(table.columns) if i != place]
    fewer = plain_table([str(column.header) for column in kept], gap=table.padding[1])
    for column, old in zip(fewer.columns, kept, strict=True):
        column.justify, column.no_wrap, column.style = old.justify, old.no_wrap, old.style
    for row in zip(*(list(column.cells) for column in kept), strict=True):
        fewer.add_row(*row)
    fewer.caption, fewer.caption_justify = table.caption, table.caption_justify
    fewer.show_header = table.show_header
    return fewer


def title(text: str) -> None:
    """Print a bold line after an empty line."""
    show("")
    show(text, style="bold")


def error_console() -> PlainConsole:
    """Standard error."""
    return PlainConsole(stderr=True)


class Words(TextColumn):
    """A column of a progress bar: the completed format, as plain text."""

    def render(self, task: Task) -> Text:
        return Text(plain(self.text_format.format(task=task)))
