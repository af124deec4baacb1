"""Files that are written whole or not at all, and what to say where they cannot be."""

import contextlib
import os
from pathlib import Path

#: Ending of a file that is being written.
PARTIAL = ".part"


def unwritable(path: Path, error: OSError, remedy: str = "choose another `out`") -> ValueError:
    """What to raise, and what to do, where a folder or file cannot be written."""
    return ValueError(f"{path} cannot be written ({error.strerror}): {remedy}")


def write_whole(path: Path, content: bytes, owner: str = "") -> None:
    """Whole or not at all, even if the machine stops in between.

    `owner` tells apart processes that write the same file at once.
    """
    partial = path.with_name(path.name + owner + PARTIAL)
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()  # on a full disk it is in the way
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the new name last as well, where the system can do that for folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
