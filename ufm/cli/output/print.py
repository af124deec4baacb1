r"""Everything that the command prints in lines; tables are `ufm.cli.output.console`'s.

Nothing else here writes to a stream (a test of the architecture looks), so that what comes from
outside cannot reach a terminal as it is: see `ufm._support.text`.
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

#: How messages of the library write the name of a parameter.
_PARAMETER = re.compile(r"`([a-z]\w*)`")


def columns() -> int | None:
    """How wide what is printed may be: the terminal, or COLUMNS where that is set.

    None for a file or a pipe, which has no width to fit.
    """
    stream = sys.stdout
    if "COLUMNS" in os.environ or (stream is not None and stream.isatty()):
        return shutil.get_terminal_size().columns
    return None


def say(line: object, whole: bool = False) -> None:
    """A sentence on standard output, broken between words where the terminal ends.

    Not if it is `whole`, such as a command to copy: the terminal breaks it, and copies it as it is.
    """
    text, width = plain(line), columns()
    if width is None or whole or len(text) <= width:
        print(text)
    else:
        print(textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False))


def tell(line: object) -> None:
    """One line on standard error."""
    print(plain(line), file=sys.stderr)


def write(text: str) -> None:
    """Text with line breaks of its own on standard output, such as JSON."""
    print(plain_lines(text))


def flag(name: str) -> str:
    """The flag of an option."""
    return f"--{name.replace('_', '-')}"


def with_flags(message: str, command: Any) -> str:
    """A message of the library, with flags of the command for the parameters that it names.

    The library writes a parameter as `lam_h`; that becomes --lam-h where the command has such an
    option, and lam_h elsewhere.
    """
    known = getattr(command, "__struct_fields__", ()) or getattr(command, "__annotations__", {})
    return _PARAMETER.sub(lambda found: flag(found[1]) if found[1] in known else found[1], message)


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Inside, a warning of the category `UserWarning` is a line that begins with "ufm: note:"."""
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
