"""Allow one process at a time on a store, or one for each shard of it.

The operating system holds the lock (`flock`), and releases it when the process dies in any way.
Machines may share a folder but not its locks. The file therefore also names the holder, and is
touched every half minute. If another machine has not touched it for ten minutes, its process counts
as dead.
"""

import contextlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: the file's entry alone decides
    fcntl = None

from ufm._support.atomic_files import unwritable

#: The lock that excludes all others.
WHOLE = "whole"
FOLDER = "locks"
#: Seconds between two signs of life, and seconds without one after which a holder counts as dead.
_BEAT, _DEAD = 30.0, 600.0
#: Seconds between two attempts to take a lock.
_POLL = 0.1


@contextlib.contextmanager
def locked(
    store: Path,
    name: str = WHOLE,
    patience: float = 0.0,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[str | None]:
    """Hold the lock of the whole store, or of a shard ("1-of-8"), during the block.

    Yields a sentence if a dead process had held it, else None. Raises `ValueError` if another
    process holds it, or holds a lock that excludes it, for longer than `patience` seconds. While
    waiting it calls `on_wait` with the holder, several times a second.
    """
    path, until = store / FOLDER / f"{name}.lock", time.monotonic() + patience
    while True:
        try:
            handle, before = _taken(path, store)
            break
        except HeldError as held:
            if time.monotonic() >= until:
                raise
            on_wait(held.holder)
            # Random, so that two processes that exclude each other do not collide repeatedly.
            time.sleep(random.uniform(0.5, 1.0) * _POLL)
    ended = threading.Event()
    beat = threading.Thread(target=_live, args=(path, ended), daemon=True)
    beat.start()
    try:
        yield before
    finally:
        ended.set()
        beat.join()
        _let_go(handle)


class HeldError(ValueError):
    """Another process holds the lock."""

    def __init__(self, path: Path, holder: dict[str, object] | None) -> None:
        self.holder = _described(path, holder)
        super().__init__(
            f"{path.parent.parent} is in use by {self.holder}: wait for it (`wait`), or choose "
            f"another `out` (if it is gone for good, remove {path})"
        )


def _taken(path: Path, store: Path) -> tuple[int, str | None]:
    """Take and sign the lock; a sentence if its holder died. Raises `HeldError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(store, error) from None
    try:
        before = _acquire(handle, path)
        _sign(handle, store)
    except ValueError:
        os.close(handle)
        raise
    try:
        _refuse_others(path)
    except ValueError:
        _let_go(handle)
        raise
    return handle, before


def _let_go(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)  # a file without an entry: nobody holds it
    os.close(handle)


def _sign(handle: int, store: Path) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_self()).encode(), 0)
    except OSError as error:
        raise unwritable(store, error) from None


def _live(path: Path, ended: threading.Event) -> None:
    """Touch the file periodically."""
    while not ended.wait(_BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _acquire(handle: int, path: Path) -> str | None:
    """Take the lock; return a sentence if its holder died."""
    if not _try(handle):
        raise HeldError(path, _entry(path))
    holder = _entry(path)
    if holder is None:
        return None
    if _lives(path, holder):
        raise HeldError(path, holder)
    host = holder.get("host")
    where = "" if host == socket.gethostname() else f" on {host}"
    return f"process {holder.get('pid')}{where} died while it used {path.parent.parent}: continuing"


def _try(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lives(path: Path, holder: dict[str, object]) -> bool:
    """Whether the holder lives although its lock could be taken, on a machine without our locks."""
    if fcntl is not None and holder.get("host") == socket.gethostname():
        return False
    try:
        return time.time() - path.stat().st_mtime < _DEAD
    except OSError:
        return False  # removed meanwhile


def _refuse_others(path: Path) -> None:
    """Check that no other lock excludes this one; only shards of the same division coexist."""
    for other in sorted(path.parent.glob("*.lock")):
        if other == path or _compatible(path.stem, other.stem):
            continue
        holder = _entry(other)
        if holder is not None and not _is_dead(other, holder):
            raise HeldError(other, holder)


def _compatible(name: str, other: str) -> bool:
    """Whether the holders of two locks may work at the same time."""
    if WHOLE in (name, other):
        return False
    parts, others = name.rpartition("-of-")[2], other.rpartition("-of-")[2]
    return parts == others or "-of-" not in name or "-of-" not in other


def _is_dead(path: Path, holder: dict[str, object]) -> bool:
    """Whether the process that left the entry is gone."""
    if _lives(path, holder):
        return False
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # removed meanwhile
        return True
    try:
        return _try(handle)
    finally:
        os.close(handle)


def _self() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _entry(path: Path) -> dict[str, object] | None:
    """The holder named in the file; None if nobody holds it."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if text else None
    except (OSError, ValueError):
        return {}  # half-written: somebody was there, nobody knows who
    return found if isinstance(found, dict) else None


def _described(path: Path, holder: dict[str, object] | None) -> str:
    """Describe the holder, with its last sign of life if it is on another machine."""
    if not holder:
        return "another process"
    who = f"process {holder.get('pid')} on {holder.get('host')}"
    if holder.get("host") == socket.gethostname():
        return who
    try:
        silent = max(time.time() - path.stat().st_mtime, 0.0)
    except OSError:  # removed meanwhile
        return who
    return f"{who}, last alive {silent:.0f} s ago, which counts as dead after {_DEAD:.0f} s"
