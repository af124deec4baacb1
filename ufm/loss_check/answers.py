"""An answer about a loss, and its evidence."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Answer:
    """Yes, no or undecided.

    `holds` is True if `how` is a proof, and False if `witness` or `how` disproves the property. It
    is None if samples found no violation, which proves nothing.
    """

    holds: bool | None
    how: str
    witness: dict[str, Any] | None = None

    @property
    def word(self) -> str:
        return {True: "yes", False: "no", None: "undecided"}[self.holds]

    def __str__(self) -> str:
        shown = ""
        if self.witness is not None:
            shown = "; " + ", ".join(f"{k} = {_short(v)}" for k, v in self.witness.items())
        return f"{self.word}: {self.how}{shown}"

    def as_dict(self) -> dict[str, Any]:
        return {"answer": self.word, "how": self.how, "witness": self.witness}


def yes(how: str) -> Answer:
    return Answer(True, how)


def no(how: str, **witness: Any) -> Answer:
    return Answer(False, how, witness or None)


def undecided(how: str, **found: Any) -> Answer:
    return Answer(None, how, found or None)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        few = [_short(x) for x in value[:6]]
        return "(" + ", ".join(few + ["…"] * (len(value) > 6)) + ")"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
