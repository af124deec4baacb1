"""Run a sweep on this machine, in batches that are stored as they finish.

The host drives the run. While the cells of one program run, the next program is compiled. A batch
takes about two seconds, the most that an interruption or a crash can cost.
"""

import concurrent.futures
import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from msgspec import UNSET

from ufm._support import settings
from ufm._support.threads import in_this_precision
from ufm.losses import loss_family
from ufm.runs.run_folder import Clock
from ufm.sweep.cluster import cluster_batches
from ufm.sweep.growth import continued
from ufm.sweep.lock import WHOLE, locked
from ufm.sweep.plan import Shard, by_program, in_lanes, num_workers
from ufm.sweep.problems.cell import Solving
from ufm.sweep.problems.columns import OPTIONAL, columns_for
from ufm.sweep.problems.config import SweepConfig, read_config
from ufm.sweep.problems.grid import expand
from ufm.sweep.record import Columns, Record
from ufm.sweep.store import StoreWarning, SweepStore
from ufm.sweep.work import AnyCell, AnySweep, Work
from ufm.sweep.writer import Writer, make_store

#: Target time of a batch in seconds, and its largest size.
BATCH_SECONDS, _LARGEST = 2.0, 512


@dataclasses.dataclass(frozen=True)
class Sweep(AnySweep):
    """A sweep over problems: its file is a `SweepConfig`."""

    kind = "problems"

    @property
    def columns(self) -> Columns:
        """The table of a sweep of these losses."""
        problem = self.config.problem
        used = [name for name in OPTIONAL if getattr(problem, name) is not UNSET]
        return columns_for({loss_family(cell.spec.loss) for cell in self.cells}, used)

    @property
    def work(self) -> Solving:
        """Solve and certify."""
        return Solving(self.config.keep)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Sweep":
        """Restore the sweep from the file in a store."""
        found = settings.convert(config, SweepConfig)
        return cls(found, tuple(expand(found)))


def load_sweep(path: Path | str) -> Sweep:
    """Read a sweep from a TOML file and expand its ranges.

    Args:
        path: The file.

    Returns:
        The sweep, ready for `run_sweep`.

    Raises:
        ValueError: A field is wrong; the message names the file and the field.
        OSError: The file cannot be read.
    """
    path = Path(path)
    config = read_config(path)
    try:
        return Sweep(config, tuple(expand(config)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run: cells finished before, cells finished now, all cells, and notes."""

    before: int
    done: int
    total: int
    notes: tuple[str, ...] = ()


def run_sweep(
    sweep: AnySweep,
    out: Path | str,
    *,
    shard: Shard | None = None,
    dask: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    wait: bool = False,
    batch_seconds: float = BATCH_SECONDS,
) -> SweepStore:
    """Compute the cells of a sweep that its folder does not have yet.

    After any interruption, the same call continues the sweep. If the file has grown, its new cells
    are added.

    Args:
        sweep: From `load_sweep`.
        out: The folder, made if it does not exist.
        shard: A part of the cells, for several processes on one folder.
        dask: Address of a Dask scheduler whose workers compute; None uses this machine's cores and
            devices.
        on_progress: Called at the start and after every batch.
        should_stop: Called after every batch; the run ends if it returns True.
        wait: Whether to wait for a folder in use, with a warning that names its process. A process
            of another machine counts as dead after ten minutes without a sign of life.
        batch_seconds: Target time of a batch in seconds.

    Returns:
        The store with all results.

    Raises:
        ValueError: The folder is in use, has other contents, or cannot be written; or, after all
            other cells, some cells cannot be computed, for example for lack of memory.
    """
    sweep, grown = continued(sweep, Path(out))
    store = make_store(Path(out), sweep.contents)
    name, patience = shard.name if shard else WHOLE, math.inf if wait else 0.0
    with locked(store.path, name, patience, _waiting(store.path, should_stop)) as recovered:
        writer = Writer(store, shared=shard is not None)
        try:
            mine = shard.cells(sweep.cells) if shard else list(sweep.cells)
            finished = writer.finished()
            todo = [cell for cell in mine if cell.index not in finished]
            notes = ([recovered] if recovered else []) + grown + writer.notes
            before = len(mine) - len(todo)
            on_progress(Progress(before, 0, len(mine), tuple(notes)))
            done = 0
            if dask is None:
                batches = _batches(todo, sweep.work, should_stop, batch_seconds)
            else:
                batches = cluster_batches(dask, todo, sweep.work, should_stop) if todo else ()
            for records in batches:
                writer.add(records)
                done += len(records)
                on_progress(Progress(before, done, len(mine)))
        finally:
            writer.close()
    return store


def _waiting(store: Path, should_stop: Callable[[], bool]) -> Callable[[str], None]:
    """While another process uses the store, say so once, and react to Ctrl-C."""
    said: list[str] = []

    def waits(holder: str) -> None:
        if should_stop():
            raise KeyboardInterrupt
        if not said:
            said.append(holder)
            warnings.warn(f"waiting: {store} is in use by {holder}", StoreWarning, stacklevel=4)

    return waits


def _batches(
    cells: Sequence[AnyCell],
    work: Work,
    should_stop: Callable[[], bool],
    batch_seconds: float,
) -> Iterator[list[Record]]:
    """Yield the records of all cells, program by program, in batches."""
    groups = list(by_program(cells).values())
    if not groups:
        return
    failures: list[str] = []
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=num_workers())
    compiler = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    devices = itertools.cycle(_devices())
    prepare, on = in_this_precision(work.prepare), in_this_precision(_on)
    try:
        ready = compiler.submit(prepare, groups[0][0])
        for group, following in itertools.zip_longest(groups, groups[1:]):
            concurrent.futures.wait([ready])  # what cannot be compiled fails again as a cell
            if following is not None:
                ready = compiler.submit(prepare, following[0])
            for batch in _sized(group, batch_seconds, work.lanes):
                if should_stop():
                    return
                runs = [
                    (cells, pool.submit(on, next(devices), cells, work))
                    for cells in in_lanes(batch, work.lanes)
                ]
                outcomes = (_outcome(cells, run, work, failures) for cells, run in runs)
                if done := [record for records in outcomes for record in records]:
                    yield done
    finally:
        compiler.shutdown(wait=False, cancel_futures=True)
        pool.shutdown(wait=False, cancel_futures=True)

    if failures:
        raise ValueError(
            f"{len(failures)} cells cannot be computed, all others are finished; {failures[0]}"
        )


def _outcome(
    cells: Sequence[AnyCell],
    run: "concurrent.futures.Future[list[Record]]",
    work: Work,
    failures: list[str],
) -> list[Record]:
    """The records of cells, and a line for each cell that cannot be computed."""
    error = run.exception()
    if error is None:
        return run.result()
    if len(cells) > 1:  # the others are done without it
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        with pool:
            alone = in_this_precision(work.run)
            single = [([cell], pool.submit(alone, [cell])) for cell in cells]
            outcomes = [_outcome(cell, each, work, failures) for cell, each in single]
        return [record for records in outcomes for record in records]
    first, *_ = str(error).splitlines() or [""]
    cell = cells[0]
    failures.append(f"cell {cell.index} ({cell.loss}): {type(error).__name__}: {first}")
    return []


def _devices() -> list[Any]:
    """The devices that take cells in turn; None if there is one, so that nothing compiles twice."""
    devices = jax.local_devices()
    return devices if len(devices) > 1 else [None]


def _on(device: Any, cells: Sequence[AnyCell], work: Work) -> list[Record]:
    if device is None:
        return work.run(cells)
    with jax.default_device(device):
        return work.run(cells)


def _sized(cells: Sequence[AnyCell], seconds: float, lanes: int) -> Iterator[Sequence[AnyCell]]:
    """Split the cells into batches, each sized by the time of the previous ones."""
    fewest = num_workers() * lanes
    position, size = 0, fewest
    while position < len(cells):
        clock = Clock()
        batch = cells[position : position + size]
        yield batch
        position += len(batch)
        rate = len(batch) / max(clock.seconds(), 1e-6)
        # Grow at most fourfold, since the first batch of a program may be unusually fast.
        size = int(min(4 * size, rate * seconds, _LARGEST)) or 1
        size = max(size, fewest)
