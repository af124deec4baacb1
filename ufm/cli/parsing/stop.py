"""Treat Ctrl-C and SIGTERM as a request to stop soon; a second one stops at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ufm.cli.output.print import tell


@contextlib.contextmanager
def stop_on_signal(last: str = "this batch") -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was requested; `last` is still finished."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread can have handlers
        return

    def ask(number: int, _: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        tell("")  # below the ^C of a terminal
        tell(f"Stopping after {last}; press Ctrl-C again to stop at once.")

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, ask) for kind in kinds}
    try:
        yield asked.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
