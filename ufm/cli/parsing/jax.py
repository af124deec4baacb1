"""Configure JAX for the command: double precision, and a cache of compiled programs."""

import gc
import importlib.util
import os


def configure() -> None:
    """Enable float64, and cache compilations in the user's folder if it can be written."""
    # A traced program is a great many objects, few of them garbage: with Python's own thresholds
    # the collector takes a tenth of a short run.
    gc.set_threshold(100_000, 50, 100)
    import jax

    from ufm.runs.compilation_cache import enable_compilation_cache

    jax.config.update("jax_enable_x64", True)
    enable_compilation_cache()


def may_have_accelerator() -> bool:
    """Whether JAX may find an accelerator, judged without importing JAX."""
    plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return plugins and os.environ.get("JAX_PLATFORMS") != "cpu"
