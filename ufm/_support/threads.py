"""Run one compiled program for many inputs, on all cores.

On a CPU, inputs that run one by one give the bits of a single run, and none waits for the slowest
of a batch. XLA releases the interpreter while it computes, so threads suffice.
"""

import concurrent.futures
import contextlib
import contextvars
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import threadpoolctl

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def cores() -> int:
    """Number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def in_this_precision(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`work` for other threads, in the precision of this one.

    `with jax.enable_x64(True):` holds in one thread: others would compute in single precision.
    """
    import jax

    wide = jax.config.read("jax_enable_x64")

    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        usual = jax.config.read("jax_enable_x64") == wide
        with contextlib.nullcontext() if usual else jax.enable_x64(wide):
            return work(*args, **kwargs)

    return run


def in_order(
    work: Callable[[int], Result],
    count: int,
    on_done: Callable[[int], None] | None = None,
    *,
    parallel: bool = True,
) -> Iterator[Result]:
    """Call work(0), work(1), … and `on_done(i)` after each; the first alone, to compile once.

    Use `parallel` only for work that releases the interpreter. `work` must not call LAPACK on a
    batch of matrices; use `jax.lax.map` over them instead. XLA would spread the batch over threads
    on which other calls of `work` run, which can deadlock.
    """
    if count < 1:
        return
    first = work(0)
    if on_done is not None:
        on_done(0)
    yield first
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=cores() if parallel else 1)
    try:
        here = in_this_precision(work)
        # Each in a context like this one: who counts runs anew, counts those of threads anew.
        futures = [pool.submit(contextvars.copy_context().run, here, i) for i in range(1, count)]
        for i, future in enumerate(futures, start=1):
            found = future.result()
            if on_done is not None:
                on_done(i)
            yield found
    finally:
        # Ctrl-C drops pending calls; running calls end within seconds.
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit LAPACK to one thread, since its threads compete with XLA's for the same cores.

    Measured on two cores: with them, the complex factorisations of `ufm.landscape.root_finding`
    take up to 40 times as long.
    """
    with _libraries("scipy.linalg" in sys.modules).limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _libraries(with_scipy: bool) -> threadpoolctl.ThreadpoolController:
    """The thread pools of BLAS, cached because finding them takes a millisecond.

    SciPy brings its own, once it is imported.
    """
    return threadpoolctl.ThreadpoolController()
