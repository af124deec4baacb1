"""`jax.jit` for programs that run for less time than XLA takes to compile them.

NumPy makes the first runs of a program (`HostProgram`). They need only JAX's trace of it, and
compile nothing. A program that is called often, or on large arrays, is compiled with cheap options.
The choice depends on the previous calls and on sizes, never on time, so that the same script
computes the same bits.
"""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import get_opaque_trace_state

from ufm._support.host.jaxprs import is_supported
from ufm._support.host.program import HostProgram, TooLongError

P = ParamSpec("P")
R = TypeVar("R")

#: The older of XLA's two code generators for loops on CPUs, and fewer passes of LLVM over its code.
#: Measured on `ufm.certify`, K=10, d=16: a third of the time to compile; once compiled, as fast at
#: 1,000 samples and within a tenth at 10,000.
_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
}
_OUTSIDE = get_opaque_trace_state()
#: Identifies the context in which runs are counted.
_count: contextvars.ContextVar[object] = contextvars.ContextVar("count", default=None)
_always: contextvars.ContextVar[bool] = contextvars.ContextVar("always", default=False)
#: A call on fewer numbers than these takes as long as a call on this many.
_FEW = 5_000
#: Programs kept for each function; beyond these the oldest is dropped.
_MOST_PROGRAMS = 256
#: A call with more numbers than these in its arguments is left to XLA.
_LARGE = 300_000
#: A run whose loops process more numbers than these (about a second) is left to XLA.
_MOST_WORK = 25_000_000


def is_traced(tree: Any) -> bool:
    """Whether any leaf is a tracer, whose value is unknown."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def within_a_trace() -> bool:
    """Whether operations are being traced into a program, even if all their inputs are known."""
    return get_opaque_trace_state() != _OUTSIDE


@contextlib.contextmanager
def always_compiled() -> Iterator[None]:
    """Compile programs at once within this context, so that bits do not depend on earlier runs."""
    token = _always.set(True)
    try:
        yield
    finally:
        _always.reset(token)


@contextlib.contextmanager
def counted_anew() -> Iterator[None]:
    """Count runs from zero within this context, so that bits do not depend on earlier ones."""
    token = _count.set(object())
    try:
        yield
    finally:
        _count.reset(token)


class _Uses:
    """A traced program, run on the host until it has processed enough numbers to be compiled."""

    def __init__(self, traced: Any) -> None:
        # Caches identify the jaxpr by its address, so it must live as long as this object.
        self.jaxpr = traced.jaxpr
        self.structure = jax.tree.structure(traced.out_info)
        self.worked = 0
        #: Always left to XLA: it has types that NumPy treats differently, or long loops.
        self.refused = bool(traced.jaxpr.effects) or not is_supported(traced.jaxpr.jaxpr)

    @functools.cached_property
    def program(self) -> HostProgram:
        return HostProgram(self.jaxpr)

    def __call__(self, arguments: Any) -> Any:
        given = zip(jax.tree.leaves(arguments), self.jaxpr.in_avals, strict=True)
        leaves = [np.asarray(x, like.dtype)[()] for x, like in given]
        most_turns = _MOST_WORK // (_FEW + sum(x.size for x in leaves))
        found = self.program.run(leaves, most_turns)
        # Copies, because an output may share the memory of an argument.
        pairs = zip(found, self.jaxpr.out_avals, strict=True)
        copies = [np.array(x, like.dtype) for x, like in pairs]
        return jax.tree.unflatten(self.structure, jax.device_put(copies))


class QuickJit(Generic[P, R]):
    """A function as `quick_jit` runs it."""

    def __init__(
        self,
        function: Callable[P, R],
        static_argnames: tuple[str, ...],
        host_work: int,
        thorough: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self._plain = jax.jit(function, static_argnames=static_argnames)
        options = None if thorough else _OPTIONS
        self._tuned = jax.jit(function, static_argnames=static_argnames, compiler_options=options)
        self._static, self._host_work = static_argnames, host_work
        self._uses: dict[tuple[int, object], _Uses] = {}
        #: Kinds of arguments that are left to XLA for good: to trace them again costs 0.2 ms.
        self._settled: set[object] = set()
        self._lock = threading.Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.chosen(1, *args, **kwargs)[0](*args, **kwargs)

    def chosen(self, times: int, *args: P.args, **kwargs: P.kwargs) -> tuple[Callable[P, R], bool]:
        """Choose the function for `times` calls on such arguments, and tell if it is compiled."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        if any(isinstance(x, Tracer) for x in leaves) or within_a_trace():
            return self._plain, True
        static = tuple(kwargs.get(name) for name in self._static)
        key = structure, static, tuple(map(_kind, leaves)), _count.get()
        if key in self._settled:
            return self._compiled, True
        uses = None
        numbers = sum(map(np.size, leaves))
        work = times * (_FEW + numbers)
        small = numbers <= _LARGE and work <= self._host_work
        if small and not _always.get() and _on_this_host(leaves):
            uses = self._uses_for(work, self._plain.trace(*args, **kwargs))
            if uses is None and len(self._settled) < _MOST_PROGRAMS:
                self._settled.add(key)
        if uses is None:
            return self._compiled, True

        def on_host(*args: P.args, **kwargs: P.kwargs) -> R:
            dynamic = {name: x for name, x in kwargs.items() if name not in self._static}
            if not uses.refused:
                try:
                    return uses((args, dynamic))
                except TooLongError:
                    uses.refused = True
            return self._compiled(*args, **kwargs)

        return on_host, False

    @property
    def _compiled(self) -> Any:
        """The program for XLA; asking whether it knows the options takes a quarter of a second."""
        return self._tuned if _understood() else self._plain

    def _uses_for(self, work: int, traced: Any) -> "_Uses | None":
        """The program, with this work added to its record; None once compiling it pays."""
        key = id(traced.jaxpr), _count.get()
        with self._lock:
            uses = self._uses.get(key)
            if uses is None:
                uses = self._uses[key] = _Uses(traced)
                if len(self._uses) > _MOST_PROGRAMS:
                    del self._uses[next(iter(self._uses))]
            uses.worked += work
            if uses.refused or uses.worked > self._host_work:
                uses.__dict__.pop("program", None)
                return None
            return uses

    def programs(self) -> int:
        """Number of compiled programs, for tests that count compilations."""
        plain: Any = self._plain
        tuned: Any = self._tuned
        return plain._cache_size() + tuned._cache_size()


def quick_jit(
    function: Callable[P, R],
    *,
    static_argnames: tuple[str, ...] = (),
    host_work: int = 2_000_000,
    thorough: bool = False,
) -> QuickJit[P, R]:
    """Like `jax.jit`, and exactly `jax.jit` inside another transformation.

    Pass static arguments by keyword. The host runs a program until its calls have together had
    `host_work` numbers in their arguments; from then on compiling takes less time. A program that
    runs for longer than it compiles is compiled with XLA's own options if it is `thorough`.
    """
    return QuickJit(function, static_argnames, host_work, thorough)


def _kind(leaf: Any) -> object:
    """What two leaves of one program have in common."""
    return (leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array | np.ndarray) else type(leaf)


def _on_this_host(leaves: list[Any]) -> bool:
    """Whether all arrays are on the default device, a CPU, and no debugging option is on."""
    config: Any = jax.config
    if jax.default_backend() != "cpu" or config.jax_debug_nans:
        return False
    arrays = [x for x in leaves if isinstance(x, jax.Array)]
    home = {config.jax_default_device or jax.local_devices()[0]}
    return all(x.devices() == home for x in arrays)


@functools.cache
def _understood() -> bool:
    """Whether this version of XLA knows the options, and the backend is the CPU."""
    # If JAX is set to optimise least, these options would make it optimise more.
    if jax.default_backend() != "cpu" or jax.config.read("jax_disable_most_optimizations"):
        return False
    try:
        jax.jit(lambda x: x, compiler_options=_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
