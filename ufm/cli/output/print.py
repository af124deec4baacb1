r"""Everything that the command prints in lines; tables are `ufm.cli.output.console`'s.

Nothing else here writes to a stream (a test of the architecture looks), so that what comes from
outside cannot reach a terminal as it is: see `ufm._support.text`.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from ufm._support.text import plain, plain_lines


def say(line: object) -> None:
    """One line on standard output."""
    print(plain(line))


def tell(line: object) -> None:
    """One line on standard error."""
    print(plain(line), file=sys.stderr)


def write(text: str) -> None:
    """Text with line breaks of its own on standard output, such as JSON."""
    print(plain_lines(text))


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """At the end of the block nothing waits in a buffer, or the block ends as writing it would.

    The interpreter flushes too, when nobody can answer to errors any more: it ends with code 120.
    So what cannot be written is thrown away here, and its error raised.
    """
    try:
        yield
    finally:
        errors = [error for stream in (sys.stdout, sys.stderr) if (error := _flush(stream))]
        if errors:
            raise errors[0]


def _flush(stream: Any) -> OSError | None:
    if stream is None:  # closed before the command began
        return None
    try:
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
        return error
    return None
