"""What every test runs under: float64, strict promotion, cached compilations, fixed examples.

Do not import `ufm` here: the jaxtyping hook, which checks shapes and types, has to come first.
"""

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
#: Folders that are compiled as users have it: rounding bounds and accuracy are promises about that.
OPTIMISED = ("certificates", "losses", "model")

# Before NumPy, SciPy and JAX are imported, and in the environment rather than in JAX's
# configuration: xdist's workers and the processes that tests start inherit it.
for name, value in {
    # The oracles' BLAS threads would fight XLA's for the same cores.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Compilation is most of the run time: keep every program, however small.
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # Code that runs once is not worth optimising; 0 compiles all of it as users have it.
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}.items():
    os.environ.setdefault(name, value)

import hypothesis  # noqa: E402  # after the environment
import jax  # noqa: E402  # after the environment
import pytest  # noqa: E402  # after the environment

jax.config.update("jax_enable_x64", True)
# Neither dtypes nor ranks may be promoted silently: both hide bugs that float32 and vmap expose.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("ufm", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ufm")


CHEAP = jax.config.read("jax_disable_most_optimizations")


def is_optimised(path: Path) -> bool:
    return not CHEAP or path.relative_to(TESTS).parts[0] in OPTIMISED


def pytest_collection_modifyitems(items):
    """Optimised files first, so that a process changes over once; then examples, the longest."""
    items.sort(key=lambda item: (not is_optimised(item.path), item.path.parent.name != "examples"))


@pytest.fixture(autouse=True, scope="module")
def _compilation(request):
    """As cheap or as optimised as the file asks for, and never too many programs.

    Every compiled program maps memory, several regions each, and Linux grants a process 65,530
    regions by default: beyond, the compiler aborts it. What is forgotten is on disk.
    """
    cheap = not is_optimised(request.path)
    if jax.config.read("jax_disable_most_optimizations") and not cheap:
        jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", cheap)
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
