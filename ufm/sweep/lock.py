"""One process at a time on a store, or one for each shard of it.

The lock is held by the operating system (`flock`), which lets go when the process dies, however it
dies. The file says who holds it, for the message, and for machines that share a folder but not
its locks: there an entry of another machine is believed until somebody removes the file.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: the file's entry alone decides
    fcntl = None

from ufm.results import unwritable

#: Name of the lock that excludes all others.
WHOLE = "whole"
_FOLDER = "locks"


@contextlib.contextmanager
def locked(store: Path, name: str = WHOLE) -> Iterator[str | None]:
    """Hold the lock of the whole store, or of a shard ("1-of-8"), as long as the block runs.

    Yields a sentence if a process that died had held it, else None. Raises `ValueError` where
    another process holds it, or one that excludes it.
    """
    path = store / _FOLDER / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(store, error) from None
    try:
        before = _acquire(handle, path)
    except ValueError:
        os.close(handle)
        raise
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_self()).encode(), 0)
        _refuse_others(path)
        yield before
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)  # a file without an entry: nobody holds it
        os.close(handle)


def _acquire(handle: int, path: Path) -> str | None:
    """Take the lock; a sentence if its holder died with it."""
    holder = _entry(path)
    if not _try(handle):
        raise ValueError(_held(path, holder))
    if holder is None:
        return None
    if holder.get("host") != socket.gethostname() or fcntl is None:
        raise ValueError(_held(path, holder))
    return f"process {holder.get('pid')} died while it worked on {path.parent.parent}: going on"


def _try(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _refuse_others(path: Path) -> None:
    """A shard and the whole exclude each other; two shards do not."""
    whole = path.stem == WHOLE
    for other in sorted(path.parent.glob("*.lock")):
        if other == path or not (whole or other.stem == WHOLE):
            continue
        holder = _entry(other)
        if holder is None or _is_dead(other, holder):
            continue
        raise ValueError(_held(other, holder))


def _is_dead(path: Path, holder: dict[str, object]) -> bool:
    """Did a process of this machine leave the entry, and is it gone?"""
    if fcntl is None or holder.get("host") != socket.gethostname():
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        return _try(handle)
    finally:
        os.close(handle)


def _self() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _entry(path: Path) -> dict[str, object] | None:
    """Who wrote the file; None for one that nobody holds."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if text else None
    except (OSError, ValueError):
        return {}  # half-written: somebody was there, nobody knows who
    return found if isinstance(found, dict) else None


def _held(path: Path, holder: dict[str, object] | None) -> str:
    who = "another process"
    if holder:
        who = f"process {holder.get('pid')} on {holder.get('host')}"
    return (
        f"{path.parent.parent} is in use by {who}: wait for it, or choose another --out "
        f"(if it is gone for good, remove {path})"
    )
