"""Questions about JAX programs before they are translated."""

from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

#: Other types are left to XLA: smaller integers, random keys, complex numbers, …
_DTYPES = {np.dtype(x) for x in ("bool", "int32", "int64", "float32", "float64")}


def is_supported(jaxpr: Jaxpr) -> bool:
    """Whether NumPy and XLA agree for the types of all arrays of a program."""
    variables = [*jaxpr.invars, *jaxpr.constvars, *(x for y in jaxpr.eqns for x in y.outvars)]
    given = [value for equation in jaxpr.eqns for value in equation.params.values()]
    inner = [x for value in given for x in (value if isinstance(value, tuple) else (value,))]
    return all(getattr(x.aval, "dtype", None) in _DTYPES for x in variables) and all(
        is_supported(x.jaxpr if isinstance(x, ClosedJaxpr) else x)
        for x in inner
        if isinstance(x, Jaxpr | ClosedJaxpr)
    )


_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat")


def called(equation: Any) -> ClosedJaxpr | None:
    """The jaxpr that an operation calls, if calling it is all that the operation does."""
    if equation.primitive.name not in _CALLS:
        return None
    for value in equation.params.values():
        if isinstance(value, ClosedJaxpr):
            return value
        if isinstance(value, Jaxpr):
            return ClosedJaxpr(value, ())
    return None


def changes_nothing(equation: Any) -> bool:
    """Whether the output is the input."""
    name = equation.primitive.name
    if name in ("copy", "copy_p", "stop_gradient"):
        return True
    if name not in ("convert_element_type", "reshape", "squeeze") or len(equation.invars) != 1:
        return False
    old, new = equation.invars[0].aval, equation.outvars[0].aval
    return (old.shape, old.dtype) == (new.shape, new.dtype)
