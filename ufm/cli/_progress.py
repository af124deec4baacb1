"""What is going on, on standard error: a progress bar, driven from the host, or a word."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class OnStage(Protocol):
    """Told of a stage of some work, how much of it is done, and of how much."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@contextlib.contextmanager
def progress(label: str, total: int, unit: str = "starts") -> Iterator[Callable[[], None]]:
    """Show `label`, a bar, and how many are done; yields the function that advances it."""
    with _bar(unit) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def stages(label: str) -> Iterator[OnStage]:
    """As `progress`, for work in stages; yields what is to be told of them."""
    with _bar("{task.fields[stage]}") as bar:
        task = bar.add_task(label, total=None, stage="")

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, stage=stage, completed=done, total=total)

        yield show


def _bar(unit: str) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # A log wants neither a bar nor the empty line that one leaves.
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Show `label` while something short is done, on a terminal only."""
    with Console(stderr=True).status(label):
        yield
