"""`jax.jit` for programs that run for less time than XLA takes to compile them.

The first runs of a program are made by NumPy (`HostProgram`): they need what JAX has traced, and
nothing compiled. A program that is used often, or on large arrays, is compiled, by cheap options.
Which of the two it is depends on the calls so far and on the sizes, never on a clock: the same
script gets the same bits.
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

from ufm._support.host.program import HostProgram, TooLongError, is_supported

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
_always: contextvars.ContextVar[bool] = contextvars.ContextVar("always", default=False)
#: A call on few numbers takes as long as one on so many.
_FEW = 5_000
#: Programs of a function that are remembered; the oldest is forgotten.
_MOST_PROGRAMS = 256
#: Numbers in the arguments of one call, beyond which it is left to XLA.
_LARGE = 300_000
#: Numbers that the loops of one run may work through, in a second or so, before it is left to XLA.
_MOST_WORK = 25_000_000


def is_traced(tree: Any) -> bool:
    """Does any leaf stand for a value that is not known yet?"""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def within_a_trace() -> bool:
    """Does what is done here become part of a program, even where all its numbers are known?"""
    return get_opaque_trace_state() != _OUTSIDE


@contextlib.contextmanager
def always_compiled() -> Iterator[None]:
    """Within it programs are compiled at once: for bits that do not depend on what ran before."""
    token = _always.set(True)
    try:
        yield
    finally:
        _always.reset(token)


class _Uses:
    """A traced program, run on the host until it has worked through enough numbers."""

    def __init__(self, traced: Any) -> None:
        # The caches know the jaxpr by its identity: it must not be freed before this is.
        self.jaxpr = traced.jaxpr
        self.structure = jax.tree.structure(traced.out_info)
        self.worked = 0
        #: For XLA whatever it has worked: of types that NumPy treats otherwise, or with long loops.
        self.refused = bool(traced.jaxpr.effects) or not is_supported(traced.jaxpr.jaxpr)

    @functools.cached_property
    def program(self) -> HostProgram:
        return HostProgram(self.jaxpr)

    def __call__(self, arguments: Any) -> Any:
        given = zip(jax.tree.leaves(arguments), self.jaxpr.in_avals, strict=True)
        leaves = [np.asarray(x, like.dtype)[()] for x, like in given]
        most_turns = _MOST_WORK // (_FEW + sum(x.size for x in leaves))
        found = self.program.run(leaves, most_turns)
        # Copies: an output may be an argument, whose memory is somebody else's.
        pairs = zip(found, self.jaxpr.out_avals, strict=True)
        copies = [np.array(x, like.dtype) for x, like in pairs]
        return jax.tree.unflatten(self.structure, jax.device_put(copies))


class QuickJit(Generic[P, R]):
    """A function as `quick_jit` runs it."""

    def __init__(
        self, function: Callable[P, R], static_argnames: tuple[str, ...], host_work: int
    ) -> None:
        functools.update_wrapper(self, function)
        self._plain = jax.jit(function, static_argnames=static_argnames)
        self._tuned = jax.jit(function, static_argnames=static_argnames, compiler_options=_OPTIONS)
        self._static, self._host_work = static_argnames, host_work
        self._uses: dict[int, _Uses] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.chosen(1, *args, **kwargs)[0](*args, **kwargs)

    def chosen(self, times: int, *args: P.args, **kwargs: P.kwargs) -> tuple[Callable[P, R], bool]:
        """What to call, as often as `times`, with arguments of these shapes; is it compiled?"""
        if is_traced((args, kwargs)) or within_a_trace():
            return self._plain, True
        uses = None
        numbers = sum(np.size(x) for x in jax.tree.leaves((args, kwargs)))
        work = times * (_FEW + numbers)
        small = numbers <= _LARGE and work <= self._host_work
        if small and not _always.get() and _on_this_host((args, kwargs)):
            uses = self._uses_for(work, self._plain.trace(*args, **kwargs))
        compiled = self._tuned if _understood() else self._plain
        if uses is None:
            return compiled, True

        def on_host(*args: P.args, **kwargs: P.kwargs) -> R:
            dynamic = {name: x for name, x in kwargs.items() if name not in self._static}
            if not uses.refused:
                try:
                    return uses((args, dynamic))
                except TooLongError:
                    uses.refused = True
            return compiled(*args, **kwargs)

        return on_host, False

    def _uses_for(self, work: int, traced: Any) -> "_Uses | None":
        """The program, with so much work noted; None where compiling it pays by now."""
        with self._lock:
            uses = self._uses.get(id(traced.jaxpr))
            if uses is None:
                uses = self._uses[id(traced.jaxpr)] = _Uses(traced)
                if len(self._uses) > _MOST_PROGRAMS:
                    del self._uses[next(iter(self._uses))]
            uses.worked += work
            if uses.refused or uses.worked > self._host_work:
                uses.__dict__.pop("program", None)
                return None
            return uses

    def programs(self) -> int:
        """How many have been compiled: for tests of what is compiled anew."""
        plain: Any = self._plain
        tuned: Any = self._tuned
        return plain._cache_size() + tuned._cache_size()


def quick_jit(
    function: Callable[P, R], *, static_argnames: tuple[str, ...] = (), host_work: int = 2_000_000
) -> QuickJit[P, R]:
    """As `jax.jit`; inside another transformation exactly that. Static arguments go by keyword.

    `host_work` is how many numbers, in the arguments of all calls of a program together, are worked
    through on the host before compiling it takes less time.
    """
    return QuickJit(function, static_argnames, host_work)


def _on_this_host(tree: Any) -> bool:
    """Is all of it where results go by default, a CPU, with nothing to watch for in between?"""
    config: Any = jax.config
    if jax.default_backend() != "cpu" or config.jax_debug_nans:
        return False
    arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
    home = {config.jax_default_device or jax.local_devices()[0]}
    return all(x.devices() == home for x in arrays)


@functools.cache
def _understood() -> bool:
    """Does this version of XLA know the options, and are they about this backend?"""
    # Where JAX is told to optimise least, the options would have it optimise more.
    if jax.default_backend() != "cpu" or jax.config.read("jax_disable_most_optimizations"):
        return False
    try:
        jax.jit(lambda x: x, compiler_options=_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
