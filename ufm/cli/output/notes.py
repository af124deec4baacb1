"""Warnings of the library as a command says them: one line on standard error."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from ufm.cli.output.print import tell


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
