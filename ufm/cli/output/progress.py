"""Show progress on standard error: a bar driven from the host, or a word."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TimeElapsedColumn,
)

from ufm.cli.output.console import Words, error_console
from ufm.cli.output.print import tell

if TYPE_CHECKING:
    from ufm.networks import EpochReport
    from ufm.sweep import Progress as SweepProgress


class OnStage(Protocol):
    """Called with a stage of some work, the number of finished items, and their total."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@contextlib.contextmanager
def progress(label: str, total: int, unit: str = "starts") -> Iterator[Callable[[], None]]:
    """Show `label`, a bar, and the number of finished items; yield the function to advance it."""
    with bars(unit) as begin:
        yield begin(label, total)


@contextlib.contextmanager
def bars(unit: str = "starts") -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Like `progress`, for several bars; yield the function that adds one."""
    with _bar(Words(unit), TimeElapsedColumn()) as bar:

        def begin(label: str, total: int) -> Callable[[], None]:
            task = bar.add_task(label, total=total)
            return lambda: bar.advance(task)

        yield begin


@contextlib.contextmanager
def stages(label: str) -> Iterator[OnStage]:
    """Like `progress`, for work in stages; yields the function to call as stages advance."""
    with _bar(Words("{task.fields[stage]}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(label, total=None, stage="")

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, stage=stage, completed=done, total=total)

        yield show


def _bar(*columns: ProgressColumn, width: int = 30) -> Progress:
    console = error_console()
    return Progress(
        Words("{task.description:<12}"),
        BarColumn(bar_width=width),
        MofNCompleteColumn(),
        *columns,
        console=console,
        transient=True,
        # A log should contain neither a bar nor the empty line that a bar leaves.
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Show `label` during a short operation, only on a terminal."""
    console = error_console()
    with console.status(console.render_str(label, highlight=False)):
        yield


#: Seconds between two lines in a log.
_LOG_EVERY = 30.0
_PARTS = ("train", "test")


@contextlib.contextmanager
def _logged(title: str, unit: str, column: str, width: int) -> "Iterator[OnStage]":
    """Show a bar on a terminal, or a line every half minute in a log; yields the function to call.

    `unit` is the format of a count in a log, with {} for the numbers of finished and all items.
    """
    said = time.monotonic()
    with _bar(Words(column), width=width) as bar:
        task = bar.add_task(title, total=None, stage="compiling")

        def show(stage: str, done: int, total: int) -> None:
            nonlocal said
            bar.update(task, total=total, completed=done, stage=stage)
            if bar.disable and time.monotonic() - said > _LOG_EVERY:
                said = time.monotonic()
                tell(f"{title}: {unit.format(f'{done:,} of {total:,}')}, {stage}")

        yield show


@contextlib.contextmanager
def sweep_progress(title: str) -> "Iterator[Callable[[SweepProgress], None]]":
    """Show finished cells, rate and remaining time.

    Yields the function that takes the state of the run. Notes are printed at once.
    """
    begun = time.monotonic()
    with _logged(title, "{} cells", "cells, {task.fields[stage]}", width=30) as show:

        def on_progress(state: "SweepProgress") -> None:
            for note in state.notes:
                tell(f"note: {note}")
            rate = _rate(state, time.monotonic() - begun)
            show(rate, state.before + state.done, state.total)

        yield on_progress


@contextlib.contextmanager
def reading_progress() -> "Iterator[Callable[[int, int], None]]":
    """Show the number of samples read, from the first call of the function that it yields."""
    with contextlib.ExitStack() as stack:
        shown: list[OnStage] = []

        def on_rows(done: int, total: int) -> None:
            if not shown:
                bar = _logged("reading", "{} samples", "samples", width=30)
                shown.append(stack.enter_context(bar))
            shown[0]("", done, total)

        yield on_rows


@contextlib.contextmanager
def examining_progress() -> "Iterator[Callable[[str], None]]":
    """Show what is being computed, from the first call of the function that it yields."""
    console = error_console()
    with contextlib.ExitStack() as stack:
        shown: list[Any] = []

        def on_stage(stage: str) -> None:
            text = console.render_str(f"computing: {stage}", highlight=False)
            if not shown:
                shown.append(stack.enter_context(console.status(text)))
            shown[0].update(text)

        yield on_stage


@contextlib.contextmanager
def training_progress(label: str) -> "Iterator[Callable[[EpochReport], None]]":
    """Show finished epochs, and the last measured accuracies and NC1–NC3.

    Yields the function that takes the report of an epoch.
    """
    with _logged(
        label, "epoch {}", "{task.fields[stage]}", width=6
    ) as show:  # all of it in 80 columns
        yield lambda report: show(_measured(report), report.epoch, report.epochs)


def _measured(report: "EpochReport") -> str:
    """Accuracies and NC1–NC3 in a few words."""
    numbers = report.measured
    if "nc1" not in numbers:
        return f"loss {report.loss:.3g}"
    shares = " ".join(f"{part} {100 * numbers[f'{part}_accuracy']:.1f}%" for part in _PARTS)
    collapse = " ".join(f"{numbers[name]:.0e}" for name in ("nc1", "nc2", "nc3"))
    return f"{shares} NC1–3 {collapse}"


def _rate(state: "SweepProgress", seconds: float) -> str:
    """Cells per second and remaining time, from the cells of this run."""
    if not state.done:
        return "compiling"
    rate = state.done / seconds
    left = (state.total - state.before - state.done) / rate
    return f"{rate:.3g} a second, {duration(left)} left"


def duration(seconds: float) -> str:
    """Format a time: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
