"""The console for tables and progress: what is given to it as a string is text, never markup."""

from typing import Any

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.text import Text

from ufm._support.text import plain


class PlainConsole(Console):
    """Shows strings, those in tables too, without markup, emoji codes and control characters.

    A line break in a string is shown as its escape as well: lines are printed one by one.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        options.update(markup=False, emoji=False)
        return super().render_str(plain(text), **options)


def wide_console(width: int = 100) -> PlainConsole:
    """A terminal, or a file of at least so many columns: a file has no width to fit."""
    console = PlainConsole()
    if not console.is_terminal:
        console.width = max(console.width, width)
    return console


def error_console() -> PlainConsole:
    """Standard error."""
    return PlainConsole(stderr=True)


class Words(TextColumn):
    """A column of a progress bar: the format, filled in, as text."""

    def render(self, task: Task) -> Text:
        return Text(plain(self.text_format.format(task=task)))
