"""Elementwise operations as calls of NumPy."""

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
    """Divide, rounding integers towards zero; an integer divided by zero is −1."""
    if x.dtype.kind == "f":
        return x / y
    floor, rest = np.divmod(x, y)
    found = floor + ((rest != 0) & ((x < 0) != (y < 0))).astype(x.dtype)
    return np.where(y == 0, x.dtype.type(-1), found)


def _remainder(x: Any, y: Any) -> Any:
    """Remainder with the sign of x; an integer modulo zero is itself."""
    found = np.fmod(x, y)
    return found if x.dtype.kind == "f" else np.where(y == 0, x, found)


def _sign(x: Any) -> Any:
    return np.copysign(np.sign(x), x) if x.dtype.kind == "f" else np.sign(x)


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases, mode="clip")


def _convert(parameters: Any) -> Operation:
    dtype = np.dtype(parameters["new_dtype"])
    if dtype != np.int32:
        return lambda x: x.astype(dtype)
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max

    def to_integer(x: Any) -> Any:
        """Convert to integers: NaN becomes 0, and too large numbers become the largest."""
        if x.dtype.kind != "f":
            return x.astype(dtype)
        return np.clip(
            np.nan_to_num(x.astype(float), posinf=most, neginf=least), least, most
        ).astype(dtype)

    return to_integer


def is_elementwise(equation: Any) -> bool:
    """Whether the table has the operation, and NumPy agrees with XLA for its types."""
    name, inputs = equation.primitive.name, [x.aval for x in equation.invars]
    kinds = {x.dtype.kind for x in inputs}
    if name not in ELEMENTWISE:
        return False
    if name == "select_n":
        return len(inputs) <= 30  # of np.choose
    if name == "convert_element_type":  # int64 has no largest float64
        return kinds != {"f"} or equation.outvars[0].aval.dtype != np.int64
    if name == "round":
        return equation.params["rounding_method"].name == "TO_NEAREST_EVEN"
    return name in _OF_INTEGERS or kinds == {"f"}


def _plain(operation: Operation) -> Callable[[Any], Operation]:
    return lambda _: operation


#: Elementwise operations, as functions of the operation's parameters.
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
        "rem": _remainder,
        "round": np.rint,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "select_n": _select,
        "shift_right_arithmetic": np.right_shift,
        "sign": _sign,
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
}

#: Operations that agree in NumPy and XLA for integers and truth values too.
_OF_INTEGERS = (
    "add", "and", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "neg", "not",
    "or", "rem", "shift_right_arithmetic", "sign", "sub", "xor",
)  # fmt: skip
