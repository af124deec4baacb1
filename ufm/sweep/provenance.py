"""Record what the bits of a sweep depend on: versions, processor, and commit of the sources."""

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

#: The entries that can change the last bits of a number.
_DECISIVE = ("ufm", "jax", "numpy", "backend", "processor", "threads", "commit")


def provenance() -> dict[str, Any]:
    """Versions, backend, processor and threads, and the commit of a working copy."""
    return {
        **environment(),
        "processor": _processor(),
        "threads": threads(),
        "commit": commit(),
    }


def precision() -> str:
    """ "float64" or "float32", the precision of this process."""
    return str(jnp.result_type(float))


def threads() -> int:
    """Number of threads over which XLA divides a large product on a CPU, which orders its sums.

    It is the number of cores of this process, unless the environment sets `NPROC` before JAX is
    first used (`continue_with_threads`). With equal numbers of threads, processes on different
    numbers of cores compute the same bits.
    """
    given = os.environ.get(_THREADS[0], "")
    return int(given) if given.isdigit() and int(given) > 0 else cores()


def continue_with_threads(store: Path) -> None:
    """Use as many threads as the first run of a sweep, so that bits agree for any number of cores.

    This has no effect once JAX has computed, or if there is no sweep yet.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((store / "sweep.json").read_text(encoding="utf-8"))
        count = int(manifest["environment"]["threads"])
        if 0 < count <= _MOST_THREADS and count != threads():
            for name in _THREADS:
                os.environ[name] = str(count)


#: No single machine has more threads: a larger number in the file is a mistake.
_MOST_THREADS = 1024
_THREADS = ("NPROC", "PJRT_NPROC")


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The names of decisive entries that differ."""
    return [name for name in _DECISIVE if before.get(name) != now.get(name)]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the sources, marked if they have changed since; None for an installed copy.

    A package that is only located inside another repository has no commit.
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
