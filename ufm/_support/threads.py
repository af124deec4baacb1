"""The same compiled program for many inputs, on all cores.

On a CPU, entries that run one by one have the bits of a single run, and none waits for the slowest
of a batch; XLA releases the interpreter while it computes, so threads are enough.
"""

import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import threadpoolctl

Result = TypeVar("Result")


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def in_order(
    work: Callable[[int], Result],
    count: int,
    on_done: Callable[[int], None] | None = None,
    *,
    parallel: bool = True,
) -> Iterator[Result]:
    """work(0), work(1), …; the first alone, so that it compiles once. `on_done(i)` after each.

    What holds the interpreter gains nothing from being `parallel`. `work` must not call LAPACK on a
    batch of matrices (`jax.lax.map` over them instead): XLA would spread it over threads on which
    other calls of `work` run, and all can wait for ever.
    """
    if count < 1:
        return
    first = work(0)
    if on_done is not None:
        on_done(0)
    yield first
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=cores() if parallel else 1)
    try:
        futures = [pool.submit(work, i) for i in range(1, count)]
        for i, future in enumerate(futures, start=1):
            found = future.result()
            if on_done is not None:
                on_done(i)
            yield found
    finally:
        # Ctrl-C: what has not begun is dropped; what is running ends within seconds.
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep LAPACK from starting threads of its own, which fight XLA's for the same cores.

    Measured on two cores: the complex factorisations of `ufm.landscape.root_finding` take up to 40
    times as long with them.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    """Looking for them takes a millisecond."""
    return threadpoolctl.ThreadpoolController()
