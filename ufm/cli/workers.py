"""Processes that do one task each at a time.

NumPy's runs of a program hold the interpreter, so that several losses at once need several
processes. Each imports JAX, which takes a second.
"""

import contextlib
import functools
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from ufm.cli.output.print import replace_unprintable, warnings_as_notes

#: Does a task, a tuple of arguments, and calls its last argument as it advances.
Work = Callable[..., Any]


class Workers:
    """A context in which this process and `helpers` more call `work(*task, advance)`.

    The processes start at once and call `prepare`, which imports what `work` needs, while this one
    prepares the tasks. They end with the context, or when this process is killed. Both functions
    must be picklable.
    """

    def __init__(self, helpers: int, work: Work, prepare: Callable[[], object] = tuple) -> None:
        self._helpers, self._work, self._prepare = helpers, work, prepare
        #: By the connection to each.
        self._processes: dict[Any, SpawnProcess] = {}

    def __enter__(self) -> "Workers":
        if not self._helpers:
            return self
        context = multiprocessing.get_context("spawn")
        # Ctrl-C reaches all processes of a terminal; this one ends the others.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(self._helpers):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_serve, args=(theirs, self._work, self._prepare), daemon=True
                )
                process.start()
                theirs.close()
                self._processes[ours] = process
        finally:
            signal.signal(signal.SIGINT, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()

    def results(
        self, tasks: Iterable[tuple[Any, ...]], on_begin: Callable[[int], Callable[[], None]]
    ) -> Iterator[tuple[int, Any]]:
        """The number of each task and its result; tasks begin in their order.

        `on_begin` is called with the number of a task that begins, and returns what to call as it
        advances. The helpers get further tasks as this process advances with its own. Raises the
        error of a task, or `ChildProcessError` if a process was killed.
        """
        numbered, idle = enumerate(tasks), [*self._processes]
        busy: dict[Any, tuple[int, Callable[[], None]]] = {}
        found: list[tuple[int, Any]] = []

        def listen(seconds: float | None) -> None:
            for connection in wait([*busy], seconds):
                i, advance = busy[connection]
                kind, answer = self._answer(connection)
                if kind == "advance":
                    advance()
                elif kind == "error":
                    raise answer
                else:
                    found.append((i, answer))
                    del busy[connection]
                    idle.append(connection)
            while idle and (following := next(numbered, None)) is not None:
                i, task = following
                busy[idle[-1]] = i, on_begin(i)
                with contextlib.suppress(BrokenPipeError):  # is said when its answer is read
                    idle.pop().send(task)

        def advance(own: Callable[[], None]) -> None:
            own()
            listen(0.0)

        for i, task in numbered:
            own = functools.partial(advance, on_begin(i))
            listen(0.0)
            yield i, self._work(*task, own)
            yield from _taken(found)
        while busy:
            listen(None)
            yield from _taken(found)

    def _answer(self, connection: Any) -> tuple[str, Any]:
        try:
            return connection.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[connection]
            process.join()
            raise ChildProcessError(
                f"a worker process ended with code {process.exitcode}, perhaps for lack of memory"
            ) from None


def _taken(found: list[Any]) -> Iterator[Any]:
    while found:
        yield found.pop(0)


def _serve(connection: Any, work: Work, prepare: Callable[[], object]) -> None:
    """Answer with progress, and with the result or the error of each task."""
    replace_unprintable()
    prepare()
    # The other process has been killed if the connection is broken.
    with warnings_as_notes(), contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = connection.recv()
            try:
                found = "result", work(*task, lambda: connection.send(("advance", None)))
            except Exception as error:
                error.add_note(traceback.format_exc())
                found = "error", error
            connection.send(found)
