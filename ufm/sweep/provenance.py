"""What the bits of a sweep depend on: versions, the processor, and the commit of the sources."""

import contextlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from ufm._support.threads import cores
from ufm.runs.run_folder import environment

#: What can change the last bits of a number.
_DECISIVE = ("ufm", "jax", "numpy", "backend", "processor", "threads", "commit")


def provenance() -> dict[str, Any]:
    """Versions, backend, processor and threads, and the commit if this is a working copy."""
    return {
        **environment(),
        "processor": _processor(),
        "threads": threads(),
        "commit": commit(),
    }


def precision() -> str:
    """ "float64" or "float32": what numbers are computed in here."""
    return str(jnp.result_type(float))


def threads() -> int:
    """Threads over which XLA divides a large product on a CPU, and so in which order it adds.

    They are the cores this process may use, unless the environment sets `NPROC` before JAX is first
    used (`continue_with_threads`). With as many threads, processes on more and on fewer cores have
    the same bits.
    """
    given = os.environ.get(_THREADS[0], "")
    return int(given) if given.isdigit() and int(given) > 0 else cores()


def continue_with_threads(store: Path) -> None:
    """Divide work as the first run of a sweep did, so that bits agree on other numbers of cores.

    Without effect once JAX has computed, and where there is no sweep yet.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((store / "sweep.json").read_text(encoding="utf-8"))
        count = int(manifest["environment"]["threads"])
        if 0 < count <= _MOST_THREADS and count != threads():
            for name in _THREADS:
                os.environ[name] = str(count)


#: What no machine of one memory exceeds: a larger number in the file is a mistake.
_MOST_THREADS = 1024
_THREADS = ("NPROC", "PJRT_NPROC")


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
