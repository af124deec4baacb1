"""What is going on, on standard error: a progress bar, driven from the host, or a word."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def progress(label: str, total: int, unit: str = "starts") -> Iterator[Callable[[], None]]:
    """Show `label`, a bar, and how many are done; yields the function that advances it."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    # A log wants neither a bar nor the empty line that one leaves.
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Show `label` while something short is done, on a terminal only."""
    with Console(stderr=True).status(label):
        yield
