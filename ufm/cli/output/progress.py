"""What is going on, on standard error: a progress bar, driven from the host, or a word."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from ufm.cli.output.console import Words, error_console

if TYPE_CHECKING:
    from ufm.networks import EpochReport
    from ufm.sweep import Progress as SweepProgress


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
    console = error_console()
    return Progress(
        Words("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Words(unit),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # A log wants neither a bar nor the empty line that one leaves.
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def waiting(label: str) -> Iterator[None]:
    """Show `label` while something short is done, on a terminal only."""
    console = error_console()
    with console.status(console.render_str(label, highlight=False)):
        yield


#: Seconds between two lines in a log.
_LOG_EVERY = 30.0
_PARTS = ("train", "test")


@contextlib.contextmanager
def sweep_progress(title: str) -> "Iterator[Callable[[SweepProgress], None]]":
    """Cells done, rate and time left: a bar on a terminal, a line every half minute in a log.

    Yields the function that takes the state of the run. Notes are printed as they come.
    """
    console = error_console()
    bar = Progress(
        Words("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Words("cells, {task.fields[rate]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    begun, said = time.monotonic(), time.monotonic()
    with bar:
        task = bar.add_task(title, total=None, rate="compiling")

        def show(state: "SweepProgress") -> None:
            nonlocal said
            for note in state.notes:
                console.print(f"note: {note}", highlight=False, soft_wrap=True)
            now = time.monotonic()
            rate = _rate(state, now - begun)
            done = state.before + state.done
            bar.update(task, total=state.total, completed=done, rate=rate)
            if not console.is_terminal and now - said > _LOG_EVERY:
                said = now
                line = f"{title}: {done:,} of {state.total:,} cells, {rate}"
                console.print(line, highlight=False, soft_wrap=True)

        yield show


@contextlib.contextmanager
def training_progress(label: str) -> "Iterator[Callable[[EpochReport], None]]":
    """Epochs done, accuracies and NC1–NC3 as last measured: a bar, or a line every half minute.

    Yields the function that takes the report of an epoch.
    """
    console, said = error_console(), time.monotonic()
    bar = Progress(
        Words("{task.description:<12}"),
        BarColumn(bar_width=6),  # all of it in 80 columns
        MofNCompleteColumn(),
        Words("{task.fields[stage]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=None, stage="epochs, compiling")

        def show(report: "EpochReport") -> None:
            nonlocal said
            stage = _measured(report)
            bar.update(task, total=report.epochs, completed=report.epoch, stage=stage)
            if not console.is_terminal and time.monotonic() - said > _LOG_EVERY:
                said = time.monotonic()
                line = f"{label}: epoch {report.epoch:,} of {report.epochs:,}, {stage}"
                console.print(line, highlight=False, soft_wrap=True)

        yield show


def _measured(report: "EpochReport") -> str:
    """Accuracies and NC1–NC3 in a few words."""
    numbers = report.measured
    if "nc1" not in numbers:
        return f"loss {report.loss:.3g}"
    shares = " ".join(f"{part} {100 * numbers[f'{part}_accuracy']:.1f}%" for part in _PARTS)
    collapse = " ".join(f"{numbers[name]:.0e}" for name in ("nc1", "nc2", "nc3"))
    return f"{shares} NC1–3 {collapse}"


def _rate(state: "SweepProgress", seconds: float) -> str:
    """Cells a second and time left, from those done in this run."""
    if not state.done:
        return "compiling"
    rate = state.done / seconds
    left = (state.total - state.before - state.done) / rate
    return f"{rate:.3g} a second, {duration(left)} left"


def duration(seconds: float) -> str:
    """A time for people: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
