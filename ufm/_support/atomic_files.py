"""Write files whole or not at all, and say what to do when that fails."""

import contextlib
import os
from pathlib import Path

#: Suffix of a file while it is being written.
PARTIAL = ".part"


def unwritable(path: Path, error: OSError, remedy: str = "choose another `out`") -> ValueError:
    """The error for a folder or file that cannot be written, with the remedy."""
    return ValueError(f"{path} cannot be written ({error.strerror}): {remedy}")


def write_whole(path: Path, content: bytes, owner: str = "") -> None:
    """Write a file whole or not at all, even if the machine stops in between.

    `owner` keeps apart processes that write the same file at once.
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
            partial.unlink()  # frees its space on a full disk
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Flush the new name to disk too, where the system supports this for folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
