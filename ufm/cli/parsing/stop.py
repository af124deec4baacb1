"""Ctrl-C and SIGTERM as a wish to end soon; a second one ends at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ufm.cli.output.print import tell


@contextlib.contextmanager
def stop_on_signal(last: str = "this batch") -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether somebody has asked to stop; `last` is still finished."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread can have handlers
        return

    def ask(number: int, _: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        tell("")  # below the ^C of a terminal
        tell(f"Stopping after {last}; once more to stop at once.")

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, ask) for kind in kinds}
    try:
        yield asked.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
