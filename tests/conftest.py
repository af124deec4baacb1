"""What every test runs under: float64, strict promotion, cached compilations, fixed examples.

Do not import `ufm` here: the jaxtyping hook, which checks shapes and types, has to come first.
"""

import collections
import functools
import gc
import itertools
import os
import types
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

#: Rounding bounds and accuracy are promises about the code that users have. What is not here is
#: compiled the cheap way: for code that runs once, XLA takes a third of the time.
PROMISES = {
    TESTS / "certificates",
    TESTS / "losses",
    TESTS / "minimum" / "test_minimum.py",
    TESTS / "model" / "test_problem.py",
}
#: What takes longest.
LONGEST = {
    TESTS / "benchmarks",
    TESTS / "examples",
    TESTS / "model" / "test_mesh.py",
    TESTS / "release",
}

#: Where the choice between NumPy and XLA is tested, or is to be that of other processes.
CHOOSING = {TESTS / "test_quick_jit.py", TESTS / "cli" / "test_cli_workers.py"}
#: Where the work is shared by threads or processes, one for each core.
THREADED = {
    TESTS / "cli" / "test_cli_workers.py",
    TESTS / "last_layer" / "test_streaming.py",
    TESTS / "sweep" / "test_sweep_threads.py",
    TESTS / "test_threads.py",
}
#: What shows the results of sweeps.
PAGES = {
    TESTS / "examples",
    TESTS / "report",
    TESTS / "cli" / "test_cli_figures.py",
    TESTS / "cli" / "test_cli_hostile_names.py",
    TESTS / "cli" / "test_cli_minority.py",
    TESTS / "cli" / "test_cli_targets.py",
    TESTS / "cli" / "test_cli_train.py",
}

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
    # XLA may lose a program that it was to run behind the caller's back: on two cores a batch of
    # certificates was awaited for ever, with every thread asleep, once in some five runs.
    "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
    # Programs do not record the lines of Python that made them: a tenth less time to lower one.
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
}.items():
    os.environ.setdefault(name, value)

# What is printed is as wide as a file has it.
os.environ.pop("COLUMNS", None)

import hypothesis  # noqa: E402  # after the environment
import jax  # noqa: E402  # after the environment
import pytest  # noqa: E402  # after the environment
import shapes  # noqa: E402  # after the environment
from jax._src import compiler  # noqa: E402  # after the environment
from jax._src.interpreters import mlir  # noqa: E402  # after the environment

jax.config.update("jax_enable_x64", True)
# Neither dtypes nor ranks may be promoted silently: both hide bugs that float32 and vmap expose.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("ufm", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ufm")

# The collector goes through JAX's many objects each time: rarely.
gc.set_threshold(100_000, 20, 100)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every case and every test")


def pytest_configure(config):
    if not config.getoption("--full"):
        shapes.only_where_there_are_shapes()
        _to_a_core_of_its_own(os.environ.get("PYTEST_XDIST_WORKER", ""))


#: The cores that this process was given.
CORES: list[int] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _to_a_core_of_its_own(worker: str) -> None:
    """Threads of two workers on the same cores take a tenth more time than one thread each."""
    number = worker.removeprefix("gw")
    if CORES and number.isdigit():
        os.sched_setaffinity(0, {CORES[int(number) % len(CORES)]})


def pytest_sessionfinish():
    """Leave nothing to the five collections of garbage with which pytest ends."""
    gc.freeze()


def is_among(places: set[Path], path: Path) -> bool:
    return path in places or path.parent in places


def pytest_collection_modifyitems(config, items):
    """Promises first, as they are compiled in another way; then what takes longest, then by size.

    At the end one process waits for another: not long if what is left is small.
    Without --full one in six of the cases that only repeat an oracle on other numbers, and no
    test that is slow though others hold the same promise.
    """

    def place(item: Any) -> tuple[bool, bool, int]:
        path = item.path
        return not is_among(PROMISES, path), not is_among(LONGEST, path), -path.stat().st_size

    items.sort(key=place)
    if config.getoption("--full"):
        return
    seen = collections.Counter()
    left_out = []
    for item in items:
        function = item.path, getattr(item, "originalname", item.name)
        seen[function] += 1
        repeated = item.get_closest_marker("repeats") and seen[function] % 6 != 1
        if repeated or item.get_closest_marker("slow"):
            left_out.append(item)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def full(request) -> bool:
    """Whether a test is to take as many samples as it can."""
    return request.config.getoption("--full")


@pytest.fixture(autouse=True, scope="module")
def _compiled_at_once(request):
    """With --full XLA makes the runs that NumPy makes first: both ways are tested, each in whole.

    Except in `CHOOSING`.
    """
    if not request.config.getoption("--full") or request.path in CHOOSING:
        yield
        return
    # Not at the top: the hook that checks shapes has to come first.
    from ufm._support.quick_jit import always_compiled

    with always_compiled():
        yield


@pytest.fixture(autouse=True, scope="module")
def _on_all_cores(request):
    """Where threads are what is tested, a worker has all cores."""
    if request.path not in THREADED or not CORES:
        yield
        return
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, mine)


@pytest.fixture(autouse=True, scope="module")
def _pages_of_quick_sweeps(request):
    """A sweep compiles at once, which for the few runs of a page takes longer than the page.

    How NumPy and XLA share the work is not what tests of pages, tables and examples hold.
    """
    if request.config.getoption("--full") or not is_among(PAGES, request.path):
        yield
        return
    # Not at the top: the hook that checks shapes has to come first.
    from ufm._support import quick_jit

    never = types.SimpleNamespace(get=lambda: False, set=lambda _: None, reset=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick_jit, "_always", never)
        yield


#: What takes XLA longest with few optimisations: the emitters that it fuses loops with, how often
#: each loop turns, and a module of LLVM for each part of a program.
CHEAP = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_disable_hlo_passes": "simplify-while-loops,while-loop-invariant-code-motion",
}


@functools.cache
def _compile_cheaply() -> None:
    """Let XLA leave out most optimisations from now on, and what is `CHEAP`.

    The environment says so to the processes that tests start.
    """
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
    if jax.__version_info__ >= (0, 11):  # whose XLA ends a process that gives this option
        return
    os.environ["XLA_FLAGS"] = " ".join(f"--{name}={value}" for name, value in CHEAP.items())
    usual = compiler.get_compile_options

    def options(*args: Any, **kwargs: Any) -> Any:
        found = usual(*args, **kwargs)
        found.env_option_overrides += [*CHEAP.items()]
        return found

    # XLA reads its variable once, before the promises are compiled.
    compiler.get_compile_options = options


@pytest.fixture(autouse=True, scope="module")
def _compiled_as_its_place_asks(request):
    """Promises come first; what follows them is compiled the cheap way, but with --full."""
    if not (request.config.getoption("--full") or is_among(PROMISES, request.path)):
        _compile_cheaply()


@pytest.fixture(autouse=True, scope="session")
def _a_context_of_mlir_for_many_programs():
    """JAX makes one for each program, which takes a tenth of the time of a small one.

    It keeps the constants of its programs, hence a new one now and then.
    """
    make, made = mlir.make_ir_context, itertools.count()
    recent = functools.lru_cache(maxsize=1)(lambda _: make())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", lambda: recent(next(made) // 200))
        yield


@pytest.fixture(autouse=True, scope="session")
def _formulas_parsed_once():
    """Labels of ticks and axes: matplotlib keeps 50 formulas, and of one figure only."""
    # Not at the top: a run of few tests need not wait for it.
    from matplotlib.mathtext import MathTextParser

    parser: Any = MathTextParser
    parse = parser._parse_cached.__wrapped__

    @functools.lru_cache(maxsize=2_000)
    def parsed(kind, *what):
        return parse(parser({"raster": "agg", "vector": "path"}[kind]), *what)

    parser._parse_cached = lambda self, *what: parsed(self._output_type, *what)


@pytest.fixture(autouse=True, scope="module")
def _figures_drawn_once(request):
    """Files of figures without what is in them: to write each in three formats takes longest.

    Drawn once they are all the same; outside of their own tests even that is left out. Except
    where the files are what is tested.
    """
    if request.path.name == "test_report_files.py":
        yield
        return
    # Not at the top: the hook that checks shapes has to come first.
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from ufm.report import _figure

    of_figures = request.config.getoption("--full") or request.path.parent == TESTS / "report"

    def drawn(figure, kind: str) -> bytes:
        if kind == "png" and of_figures:
            figure.draw_without_rendering()
        return {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_figure, "_saved", drawn)
        if not of_figures:
            patch.setattr(ConstrainedLayoutEngine, "execute", lambda self, figure: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Programs forgotten before there are too many: the cache on disk brings them back.

    Every compiled program maps memory, several regions each, and Linux grants a process 65,530
    regions by default: beyond, the compiler aborts it.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
