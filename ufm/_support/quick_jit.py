"""`jax.jit` for programs that run for less time than XLA takes to optimise them."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.core import Tracer

F = TypeVar("F", bound=Callable[..., Any])

#: The older of XLA's two code generators for loops on CPUs, and fewer passes of LLVM over its code.
#: Measured on `ufm.certify`, K=10, d=16: a third of the time to compile; once compiled, as fast at
#: 1,000 samples and within a tenth at 10,000.
_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
}


def is_traced(tree: Any) -> bool:
    """Does any leaf stand for a value that is not known yet?"""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def quick_jit(function: F, static_argnames: tuple[str, ...] = ()) -> F:
    """As `jax.jit`; inside another transformation, which allows no options, exactly that."""
    plain = jax.jit(function, static_argnames=static_argnames)
    tuned = jax.jit(function, static_argnames=static_argnames, compiler_options=_OPTIONS)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nested = is_traced((args, kwargs))
        return (plain if nested or not _understood() else tuned)(*args, **kwargs)

    # For tests of what is compiled anew.
    sizes = [program._cache_size for program in (plain, tuned)]  # pyright: ignore[reportAttributeAccessIssue]
    call.__dict__["programs"] = lambda: sum(size() for size in sizes)
    return call  # pyright: ignore[reportReturnType]  # the signature is that of `function`


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
