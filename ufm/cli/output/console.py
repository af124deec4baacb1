"""Consoles for tables and progress, which treat strings as text, never as markup."""

from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.table import Table
from rich.text import Text

from ufm._support.text import plain


class PlainConsole(Console):
    """Shows strings, also in tables, without markup, emoji codes and control characters.

    A line break in a string is shown as its escape too, because lines are printed one by one.
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


def show(table: Table | str, width: int = 100, style: str | None = None) -> None:
    """Print a table or a title on a terminal, or to a file with at least this many columns.

    A file has no width to fit.
    """
    console = PlainConsole()
    if not console.is_terminal:
        console.width = max(console.width, width)
    console.print(table, highlight=False, style=style)


def title(text: str) -> None:
    """Print a bold line after an empty line."""
    show("")
    show(text, style="bold")


def error_console() -> PlainConsole:
    """Standard error."""
    return PlainConsole(stderr=True)


class Words(TextColumn):
    """A column of a progress bar: the format, filled in, as text."""

    def render(self, task: Task) -> Text:
        return Text(plain(self.text_format.format(task=task)))
