"""Elementwise operations: expressions in Python, or calls of NumPy.

Python's operators take a tenth of the time of NumPy's functions for single numbers, and the same
time for arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

#: A function, or an expression with a gap for each argument.
Operation = Callable[..., Any] | str


def _power(equation: Any) -> Operation:
    exponent = equation.params["y"]
    if exponent == 2:
        return "{0} * {0}"
    return f"{{}}**{exponent}" if exponent > 0 else f"1.0 / {{}}**{-exponent}"


def _is_float(equation: Any) -> bool:
    return equation.outvars[0].aval.dtype.kind == "f"


def _quotient(x: Any, y: Any) -> Any:
    """Divide integers, rounding towards zero; an integer divided by zero is −1."""
    floor, rest = np.divmod(x, y)
    found = floor + ((rest != 0) & ((x < 0) != (y < 0))).astype(x.dtype)
    return np.where(y == 0, x.dtype.type(-1), found)


def _remainder(x: Any, y: Any) -> Any:
    """Remainder of integers with the sign of x; an integer modulo zero is itself."""
    return np.where(y == 0, x, np.fmod(x, y))


def _sign(x: Any) -> Any:
    return np.copysign(np.sign(x), x)


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases, mode="clip")


def _convert(equation: Any) -> Operation:
    dtype = np.dtype(equation.params["new_dtype"])
    if dtype != np.int32 or equation.invars[0].aval.dtype.kind != "f":
        return f"{{}}.astype(np.{dtype.name})"
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max

    def to_integer(x: Any) -> Any:
        """Convert to integers: NaN becomes 0, and too large numbers become the largest."""
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


#: Elementwise operations, as functions of the equation.
ELEMENTWISE: dict[str, Callable[[Any], Operation]] = {
    name: _plain(operation)
    for name, operation in {
        "abs": "abs({})",
        "add": "{} + {}",
        "add_any": "{} + {}",
        "and": "{} & {}",
        "ceil": np.ceil,
        "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
        "cos": np.cos,
        "eq": "{} == {}",
        "exp": np.exp,
        "exp2": np.exp2,
        "expm1": np.expm1,
        "floor": np.floor,
        "ge": "{} >= {}",
        "gt": "{} > {}",
        "is_finite": np.isfinite,
        "le": "{} <= {}",
        "log": np.log,
        "log1p": np.log1p,
        "logistic": "1 / (1 + np.exp(-{}))",
        "lt": "{} < {}",
        "max": np.maximum,
        "min": np.minimum,
        "mul": "{} * {}",
        "ne": "{} != {}",
        "neg": "-{}",
        "nextafter": np.nextafter,
        "or": "{} | {}",
        "pow": np.power,
        "round": np.rint,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "select_n": _select,
        "shift_right_arithmetic": "{} >> {}",
        "sin": np.sin,
        "sqrt": np.sqrt,
        "square": "{0} * {0}",
        "sub": "{} - {}",
        "tan": np.tan,
        "tanh": np.tanh,
        "xor": "{} ^ {}",
    }.items()
} | {
    "convert_element_type": _convert,
    "div": lambda equation: "{} / {}" if _is_float(equation) else _quotient,
    "integer_pow": _power,
    "not": lambda equation: "~{}" if equation.invars[0].aval.dtype.kind == "i" else "{} ^ True",
    "rem": lambda equation: np.fmod if _is_float(equation) else _remainder,
    "sign": lambda equation: _sign if _is_float(equation) else np.sign,
}

#: Operations that agree in NumPy and XLA for integers and truth values too.
_OF_INTEGERS = (
    "add", "and", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "neg", "not",
    "or", "rem", "shift_right_arithmetic", "sign", "sub", "xor",
)  # fmt: skip
