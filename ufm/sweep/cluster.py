"""Batches of a sweep on a Dask cluster: whole batches travel, results come back as they end.

The machine that asks writes the store, so workers need no common folder; they need this version of
ufm. A worker that dies takes its batch with it, which the scheduler gives to another one.
"""

import importlib.metadata
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from ufm.sweep.plan import by_program, in_lanes
from ufm.sweep.provenance import precision, threads
from ufm.sweep.record import Record
from ufm.sweep.work import AnyCell, Work

#: Batches of each thread in a sweep, so that all end at about the same time, and the largest.
_BATCHES, _LARGEST = 8, 64
#: Batches under way for each thread: one to compute, one in hand.
_AHEAD = 2
_TIMEOUT = "10s"


def cluster_batches(
    address: str, cells: Sequence[AnyCell], work: Work, should_stop: Callable[[], bool]
) -> Iterator[list[Record]]:
    """The records of all cells, batch by batch as workers finish them.

    Raises `ValueError` where Dask is missing, where there is no scheduler at the address or it has
    no workers of this version, and, after all other batches, for one that killed several workers.
    """
    distributed = _distributed()
    with _connected(distributed, address) as client:
        lanes = _check_workers(client, address)
        pending = _batches(cells, lanes)
        running = distributed.as_completed()
        lost: list[str] = []

        def submit() -> None:
            batch = None if should_stop() else next(pending, None)
            if batch is not None:
                double = precision() == "float64"
                running.add(client.submit(run_batch, batch, work, double, pure=False))

        for _ in range(lanes * _AHEAD):
            submit()
        for future in running:
            submit()
            try:
                yield future.result()
            except distributed.KilledWorker as error:
                lost.append(str(error))
        if lost:
            raise ValueError(
                f"{len(lost)} batches were given up after the workers that had them died several "
                "times, perhaps for want of memory; all others are stored: run again to retry"
            )


def run_batch(cells: Sequence[AnyCell], work: Work, double: bool) -> list[Record]:
    """What a worker does: the cells one after another, in the precision of who asked."""
    with jax.enable_x64(double):
        found = [work.run(some) for some in in_lanes(cells, work.lanes)]
        return [record for records in found for record in records]


def _batches(cells: Sequence[AnyCell], lanes: int) -> Iterator[list[AnyCell]]:
    """Batches of one program each."""
    size = min(max(math.ceil(len(cells) / (lanes * _BATCHES)), 1), _LARGEST)
    for group in by_program(cells).values():
        for begin in range(0, len(group), size):
            yield group[begin : begin + size]


def _distributed() -> Any:
    try:
        import distributed  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError:
        raise ValueError("Dask.distributed is missing: pip install 'ufm[dask]'") from None
    return distributed


def _connected(distributed: Any, address: str) -> Any:
    try:
        return distributed.Client(address, timeout=_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(
            f"there is no Dask scheduler at {address} ({error}): start one with `dask scheduler`, "
            "and workers with `dask worker ADDRESS`"
        ) from None


def _check_workers(client: Any, address: str) -> int:
    """Threads of all workers; raises `ValueError` for none, and for another ufm on any."""
    lanes = sum(client.nthreads().values())
    if not lanes:
        raise ValueError(f"the scheduler at {address} has no workers: dask worker {address}")
    mine = _versions()
    for worker, theirs in client.run(_versions).items():
        if theirs != mine:
            raise ValueError(
                f"the worker at {worker} has {_listed(theirs)}, and here are {_listed(mine)}: "
                f"numbers would differ; start workers of these versions, with NPROC={threads()}"
            )
    return lanes


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("ufm", "jax", "numpy")}
    return {**versions, "threads": str(threads())}


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
