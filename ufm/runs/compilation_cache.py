"""Keep compiled programs on disk, so that the next process does not compile them again.

enable_compilation_cache()     # before the first computation
"""

import os
from pathlib import Path


def enable_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Store every program that JAX compiles in a folder, and load stored programs from there.

    Call it before the first computation.

    Args:
        folder: The folder; None is ufm/jax in $XDG_CACHE_HOME, or else in ~/.cache.

    Returns:
        The folder; None if it cannot be written, which costs only compilation time, or if
        JAX_COMPILATION_CACHE_DIR names another folder.
    """
    import jax

    if folder is None:
        if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            return None
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = Path(home) / "ufm" / "jax"
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder
