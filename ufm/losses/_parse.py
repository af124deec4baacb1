"""Losses by name, as they are written on a command line or in a file."""

import re
from collections.abc import Iterable

from ufm.losses._base import Loss
from ufm.losses._softmax import CrossEntropy, Focal, LabelSmoothing
from ufm.losses._squared import MSE

#: Name → (constructor, the defaults of the paper, what the numbers are called).
_NAMES = {
    "ce": (CrossEntropy, (), ()),
    "ls": (LabelSmoothing, (0.1,), ("alpha",)),
    "fl": (Focal, (3.0,), ("gamma",)),
    "mse": (MSE, (1.0, 1.0), ("scale", "target")),
}

#: inf and nan are numbers, which `parse_loss` refuses as such.
_COMMA = re.compile(r"\s*,[\s,]*(?=[a-z])(?!inf|nan)", re.IGNORECASE)


def parse_loss(text: str) -> Loss:
    """Make a loss from "ce", "ls", "ls:0.1", "fl:3", "mse" or "mse:5,3" (scale κ, target M).

    Raises `ValueError` with one line that says what to write instead.
    """
    name, _, numbers = text.strip().lower().partition(":")
    if name not in _NAMES:
        raise ValueError(
            f"unknown loss {text!r}: choose ce, ls:ALPHA, fl:GAMMA or mse:SCALE,TARGET"
        )
    make, values, fields = _NAMES[name]
    if numbers:
        given = numbers.split(",")
        if len(given) > len(fields):
            raise ValueError(f"loss {text!r}: {name} takes {_counted(fields)}, got {len(given)}")
        try:
            values = (*(float(x) for x in given), *values[len(given) :])
        except ValueError:
            raise ValueError(f"loss {text!r}: {numbers!r} is not {_counted(fields)}") from None
    return make(*values)


def split_losses(texts: Iterable[str]) -> tuple[str, ...]:
    """Losses one by one, listed with spaces or commas: ("ce,mse:1,15",) as ("ce", "mse:1,15").

    A comma before a letter is one of the list: numbers, which have commas too, begin with none.
    """
    return tuple(part for text in texts for part in _COMMA.split(text.rstrip(", ")))


def loss_spec(loss: Loss) -> str:
    """The canonical text of a loss, which `parse_loss` reads: equal losses, equal texts."""
    for name, (make, _, fields) in _NAMES.items():
        if type(loss) is make:
            numbers = ",".join(repr(float(getattr(loss, field))) for field in fields)
            return f"{name}:{numbers}" if numbers else name
    raise ValueError(f"{loss.label()} has no name: only CE, LS, FL and MSE do")


def _counted(fields: tuple[str, ...]) -> str:
    if not fields:
        return "no number"
    return "a number" if len(fields) == 1 else f"up to {len(fields)} numbers"
