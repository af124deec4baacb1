r"""Print lines; tables are in `ufm.cli.output.console`.

No other module of the command writes to a stream (an architecture test checks this), so that text
from outside never reaches a terminal unescaped: see `ufm._support.text`.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

from ufm._support.text import plain, plain_lines

#: The notation for a parameter in messages of the library.
_PARAMETER = re.compile(r"`([a-z]\w*)`")


def columns() -> int | None:
    """The number of columns of the terminal, or COLUMNS if it is set.

    None for a file or a pipe, which has no width to fit.
    """
    stream = sys.stdout
    if "COLUMNS" in os.environ or (stream is not None and stream.isatty()):
        return shutil.get_terminal_size().columns
    return None


def say(line: object, whole: bool = False) -> None:
    """Print a sentence on standard output, broken between words to fit the terminal.

    A `whole` line, such as a command to copy, is not broken.
    """
    text, width = plain(line), columns()
    if width is None or whole or len(text) <= width:
        print(text)
    else:
        print(textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False))


def tell(line: object) -> None:
    """Print one line on standard error."""
    print(plain(line), file=sys.stderr)


def write(text: str) -> None:
    """Print text with line breaks, such as JSON, on standard output."""
    print(plain_lines(text))


def flag(name: str) -> str:
    """The flag of an option."""
    return f"--{name.replace('_', '-')}"


def with_flags(message: str, command: Any) -> str:
    """Replace the parameters in a message of the library by flags of the command.

    The library writes a parameter as `lam_h`. It becomes --lam-h if the command has this option, or
    else lam_h.
    """
    # Of options as a msgspec struct or as a dataclass, inherited ones included.
    known = getattr(command, "__struct_fields__", ()) or getattr(
        command, "__dataclass_fields__", ()
    )
    return _PARAMETER.sub(lambda found: flag(found[1]) if found[1] in known else found[1], message)


def replace_unprintable() -> None:
    """Replace characters that a stream cannot show, such as λ on a terminal that has no Greek."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each `UserWarning` within this context as a line that begins with "ufm: note:"."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, UserWarning):
                tell(f"ufm: note: {message}")
            else:
                usual(message, category, *rest)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Flush the streams at the end of the block, and raise the error of a failed write.

    When the interpreter flushes at exit, errors cannot be handled any more and the exit code is
    120. Output that cannot be written is therefore discarded here.
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
