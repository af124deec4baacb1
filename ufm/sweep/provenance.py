"""What the bits of a sweep depend on: versions, the processor, and the commit of the sources."""

import contextlib
import platform
import subprocess
from pathlib import Path
from typing import Any

from ufm.results import environment

#: What can change the last bits of a number.
_DECISIVE = ("ufm", "jax", "numpy", "backend", "processor", "cores", "commit")


def provenance() -> dict[str, Any]:
    """Versions, backend, processor and cores, and the commit if this is a working copy."""
    return {**environment(), "processor": _processor(), "commit": commit()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of the decisive entries that differ."""
    return [name for name in _DECISIVE if before.get(name) != now.get(name)]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the sources, marked where they have changed since; None for an installed copy.

    A package that merely lies inside somebody's repository is not in it.
    """
    folder = Path(__file__).resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    found, changes = _git(folder, "rev-parse", "HEAD"), _git(folder.parent, "status", "-s", ".")
    return f"{found} with changes" if found and changes else found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
