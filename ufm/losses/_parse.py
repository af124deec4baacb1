"""Losses as text, on a command line, in a file and in a stored table."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ufm.losses._base import Loss
from ufm.losses._margins import BinaryCrossEntropy, CrammerSinger, WestonWatkins
from ufm.losses._probability import MAE, GeneralizedCE, Poly1, SymmetricCE, TaylorCE
from ufm.losses._scaled import LogitNorm, TemperatureCE
from ufm.losses._simplex import (
    Brier,
    ComplementCE,
    ComplementObjective,
    NegativeLearning,
)
from ufm.losses._softmax import CrossEntropy, Focal, LabelSmoothing
from ufm.losses._squared import MSE
from ufm.losses._tempered import BiTempered

#: Name of a loss → its class and its hyperparameters in order, with the defaults of the papers.
FAMILIES: Mapping[str, tuple[type[Loss], Mapping[str, float]]] = {
    "ce": (CrossEntropy, {}),
    "ls": (LabelSmoothing, {"alpha": 0.1}),
    "fl": (Focal, {"gamma": 3.0}),
    "mse": (MSE, {"scale": 1.0, "target": 1.0}),
    "poly": (Poly1, {"epsilon": 1.0}),
    "gce": (GeneralizedCE, {"exponent": 0.7}),
    "sce": (SymmetricCE, {"ce_weight": 0.1, "rce_weight": 1.0, "log_zero": -4.0}),
    "taylor": (TaylorCE, {"terms": 2.0}),
    "mae": (MAE, {}),
    "brier": (Brier, {}),
    "nl": (NegativeLearning, {}),
    "cce": (ComplementCE, {}),
    "cot": (ComplementObjective, {}),
    "bitempered": (BiTempered, {"t1": 0.8, "t2": 1.2}),
    "cs": (CrammerSinger, {"power": 2.0}),
    "ww": (WestonWatkins, {"power": 2.0}),
    "bce": (BinaryCrossEntropy, {}),
    "temperature": (TemperatureCE, {"temperature": 1.0}),
    "logitnorm": (LogitNorm, {"temperature": 1.0}),
}
#: All hyperparameters of these losses: the columns of a table of losses.
HYPERPARAMETERS = tuple(dict.fromkeys(name for _, names in FAMILIES.values() for name in names))

#: Their notation.
_WRITTEN = "ce, ls:ALPHA, fl:GAMMA or mse:SCALE,TARGET, or " + ", ".join(list(FAMILIES)[4:])
#: inf and nan after a comma are numbers, which `parse_loss` refuses.
_COMMA = re.compile(r"\s*,[\s,]*(?=[a-z])(?!inf|nan)", re.IGNORECASE)


def make_loss(family: str, numbers: Mapping[str, Any]) -> Loss:
    """Make a loss of `FAMILIES`; `numbers` may omit its hyperparameters or have those of others."""
    make, defaults = FAMILIES[family]
    return make(**{field: numbers.get(field, default) for field, default in defaults.items()})


def parse_loss(text: str) -> Loss:
    """Make a loss from text: "ce", "ls:0.1", "fl:3", "mse:5,3" (scale κ, target M), "gce:0.7", ….

    Args:
        text: Name and hyperparameters; omitted ones take their defaults.

    Returns:
        The loss.

    Raises:
        ValueError: The name or a number is unknown; the message says what to write instead.
    """
    name, _, numbers = text.strip().lower().partition(":")
    if name not in FAMILIES:
        raise ValueError(f"unknown loss {text!r}: choose {_WRITTEN}")
    fields = FAMILIES[name][1]
    given = numbers.split(",") if numbers else []
    if len(given) > len(fields):
        raise ValueError(f"loss {text!r}: {name} takes {_counted(len(fields))}, got {len(given)}")
    try:
        values = [float(x) for x in given]
    except ValueError:
        raise ValueError(f"loss {text!r}: {numbers!r} is not {_counted(len(fields))}") from None
    return make_loss(name, dict(zip(fields, values, strict=False)))


def split_losses(texts: Iterable[str]) -> tuple[str, ...]:
    """Split a list with spaces or commas: ("ce,mse:1,15",) becomes ("ce", "mse:1,15").

    A comma before a letter separates losses; other commas separate hyperparameters.
    """
    return tuple(part for text in texts for part in _COMMA.split(text.rstrip(", ")))


def distinct_losses(
    texts: Iterable[str], parse: Callable[[str], Loss] = parse_loss
) -> dict[str, Loss]:
    """Canonical texts of losses listed as for `split_losses`, in order.

    Raises `ValueError` if losses are unknown or repeated, or if there are none.
    """
    listed = split_losses(texts)
    if not listed:
        raise ValueError(f"`losses` needs at least one loss: {_WRITTEN}")
    losses = {loss_spec(loss): loss for loss in map(parse, listed)}
    if len(losses) < len(listed):
        raise ValueError(f"`losses` names a loss twice: {' '.join(listed)}")
    return losses


def loss_family(loss: Loss) -> str:
    """The name of a loss in `FAMILIES`. Raises `ValueError` if it has none."""
    for name, (make, _) in FAMILIES.items():
        if type(loss) is make:
            return name
    raise ValueError(f"{loss.label()} has no name: only the losses of the library do")


def loss_spec(loss: Loss) -> str:
    """The canonical text of a loss for `parse_loss`; equal losses have equal texts."""
    name = loss_family(loss)
    numbers = ",".join(repr(float(getattr(loss, field))) for field in FAMILIES[name][1])
    return f"{name}:{numbers}" if numbers else name


def _counted(count: int) -> str:
    if not count:
        return "no number"
    return "a number" if count == 1 else f"up to {count} numbers"
