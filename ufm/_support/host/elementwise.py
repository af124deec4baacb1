"""Operations of arrays that broadcast, as calls of NumPy."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Operation = Callable[..., Any]


def _power(x: Any, exponent: int) -> Any:
    if exponent == 2:
        return x * x
    return x**exponent if exponent > 0 else 1.0 / x**-exponent


def _logistic(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), small) / (1 + small)


def _quotient(x: Any, y: Any) -> Any:
    """Of whole numbers rounded towards zero."""
    found = x / y
    return found if found.dtype == x.dtype else np.trunc(found).astype(x.dtype)


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases)


def _convert(parameters: Any) -> Operation:
    dtype = np.dtype(parameters["new_dtype"])
    return lambda x: x.astype(dtype)


def _rounding(parameters: Any) -> Operation:
    if parameters["rounding_method"].name == "TO_NEAREST_EVEN":
        return np.rint
    return lambda x: np.trunc(x + np.copysign(x.dtype.type(0.5), x))


def _plain(operation: Operation) -> Callable[[Any], Operation]:
    return lambda _: operation


#: Operations of arrays that broadcast, as functions of the operation's parameters.
ELEMENTWISE: dict[str, Callable[[Any], Operation]] = {
    name: _plain(operation)
    for name, operation in {
        "abs": np.abs,
        "add": np.add,
        "add_any": np.add,
        "and": np.bitwise_and,
        "ceil": np.ceil,
        "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
        "cos": np.cos,
        "div": _quotient,
        "eq": np.equal,
        "exp": np.exp,
        "exp2": np.exp2,
        "expm1": np.expm1,
        "floor": np.floor,
        "ge": np.greater_equal,
        "gt": np.greater,
        "is_finite": np.isfinite,
        "le": np.less_equal,
        "log": np.log,
        "log1p": np.log1p,
        "logistic": _logistic,
        "lt": np.less,
        "max": np.maximum,
        "min": np.minimum,
        "mul": np.multiply,
        "ne": np.not_equal,
        "neg": np.negative,
        "nextafter": np.nextafter,
        "not": np.invert,
        "or": np.bitwise_or,
        "pow": np.power,
        "rem": np.fmod,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "select_n": _select,
        "shift_right_arithmetic": np.right_shift,
        "sign": np.sign,
        "sin": np.sin,
        "sqrt": np.sqrt,
        "square": np.square,
        "sub": np.subtract,
        "tan": np.tan,
        "tanh": np.tanh,
        "xor": np.bitwise_xor,
    }.items()
} | {
    "convert_element_type": _convert,
    "integer_pow": lambda p: functools.partial(_power, exponent=p["y"]),
    "round": _rounding,
}
