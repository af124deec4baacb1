"""Run the batches of a sweep on a Dask cluster, and return their results as they finish.

The client writes the store, so that workers need no shared folder, but they need the same version
of ufm. If a worker dies, the scheduler gives its batch to another one.
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

#: Number of batches per thread, so that all finish at about the same time, and the largest batch.
_BATCHES, _LARGEST = 8, 64
#: Number of submitted batches per thread: one to compute, one in reserve.
_AHEAD = 2
_TIMEOUT = "10s"


def cluster_batches(
    address: str, cells: Sequence[AnyCell], work: Work, should_stop: Callable[[], bool]
) -> Iterator[list[Record]]:
    """Yield the records of all cells, batch by batch as workers finish them.

    Raises `ValueError` if Dask is missing, if there is no scheduler at the address or it has no
    workers of this version, and, after all other batches, for a batch that killed several workers.
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
                f"{len(lost)} batches were abandoned because their workers died several times, "
                "perhaps for lack of memory; all others are stored: run again to retry"
            )


def run_batch(cells: Sequence[AnyCell], work: Work, double: bool) -> list[Record]:
    """Run cells one after another on a worker, in the precision of the client."""
    with jax.enable_x64(double):
        found = [work.run(some) for some in in_lanes(cells, work.lanes)]
        return [record for records in found for record in records]


def _batches(cells: Sequence[AnyCell], lanes: int) -> Iterator[list[AnyCell]]:
    """Divide the cells into batches of one program each."""
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
    """Number of threads of all workers; raises `ValueError` for none, or if a version differs."""
    lanes = sum(client.nthreads().values())
    if not lanes:
        raise ValueError(f"the scheduler at {address} has no workers: dask worker {address}")
    mine = _versions()
    for worker, theirs in client.run(_versions).items():
        if theirs != mine:
            raise ValueError(
                f"the worker at {worker} has {_listed(theirs)}, this machine {_listed(mine)}: "
                f"numbers would differ; start workers of these versions, with NPROC={threads()}"
            )
    return lanes


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("ufm", "jax", "numpy")}
    return {**versions, "threads": str(threads())}


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
