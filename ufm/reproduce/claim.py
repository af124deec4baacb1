"""A published claim, what was found of it, and the verdict.

A claim is checked by numbers: what it says, from its formula evaluated by NumPy or SciPy, beside
what the library finds by solving and certifying. It is

- **confirmed** if every number agrees. That is no proof of a theorem: it says that this check, with
  its setting, did not contradict it;
- **refuted** if one does not, and these numbers are the witness;
- **not decided** if something that the check rests on could not be certified.
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any


class Judgement(enum.StrEnum):
    """What became of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "not decided"


@dataclasses.dataclass(frozen=True)
class Row:
    """One number: ours, and what the claim says, if anything, with the tolerance between them."""

    quantity: str
    ours: float | int
    claimed: float | int | None = None
    tolerance: float = 0.0

    @property
    def difference(self) -> float | int | None:
        """Ours − claimed; None if the claim says no number."""
        return None if self.claimed is None else self.ours - self.claimed

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance; NaN never is."""
        return self.difference is None or bool(abs(self.difference) <= self.tolerance)


@dataclasses.dataclass(frozen=True)
class Finding:
    """The numbers of a check; `undecided` says what is not certified, `remark` what they mean."""

    rows: tuple[Row, ...]
    undecided: str = ""
    remark: str = ""

    @property
    def judgement(self) -> Judgement:
        """Judge by the rows alone."""
        if self.undecided or any(math.isnan(row.ours) for row in self.rows):
            return Judgement.UNDECIDED
        agree = all(row.agrees for row in self.rows)
        return Judgement.CONFIRMED if agree else Judgement.REFUTED


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim in one sentence, where the source makes it, the setting and function of its check.

    `recorded` is the verdict that the check is known to give.
    """

    name: str
    statement: str
    where: str
    setting: str
    check: Callable[[], Finding]
    recorded: Judgement = Judgement.CONFIRMED

    @property
    def beyond(self) -> bool:
        """Whether the source does not make the statement, which goes beyond it; `where` says so."""
        return self.where.startswith("not claimed")


@dataclasses.dataclass(frozen=True)
class Paper:
    """A source, how much of it was read (`read`), and its claims."""

    key: str
    reference: str
    arxiv: str
    read: str
    claims: tuple[Claim, ...]


@dataclasses.dataclass(frozen=True)
class Result:
    """A claim after its check."""

    paper: Paper
    claim: Claim
    finding: Finding
    seconds: float

    @property
    def name(self) -> str:
        """PAPER:CLAIM."""
        return f"{self.paper.key}:{self.claim.name}"

    @property
    def as_recorded(self) -> bool:
        """Whether the verdict is the recorded one."""
        return self.finding.judgement is self.claim.recorded

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "reference": self.paper.reference,
            "arxiv": self.paper.arxiv,
            "read": self.paper.read,
            "claim": self.claim.statement,
            "where": self.claim.where,
            "beyond": self.claim.beyond,
            "setting": self.claim.setting,
            "verdict": self.finding.judgement.value,
            "recorded": self.claim.recorded.value,
            "rows": [
                dataclasses.asdict(row) | {"difference": row.difference, "agrees": row.agrees}
                for row in self.finding.rows
            ],
            "undecided": self.finding.undecided,
            "remark": self.finding.remark,
            "seconds": round(self.seconds, 1),
        }

    def explain(self) -> str:
        """Describe claim, numbers and verdict in lines."""
        verdict = self.finding.judgement.value.upper()
        recorded = "" if self.as_recorded else f", BUT RECORDED AS {self.claim.recorded.upper()}"
        lines = [
            f"{self.name}: {verdict}{recorded} ({self.seconds:.1f} s)",
            f"  claim    {self.claim.statement}",
            f"  source   {self.paper.reference}, {self.claim.where} ({self.paper.read})",
            f"  setting  {self.claim.setting}",
        ]
        lines += [f"  {_shown(row)}" for row in self.finding.rows]
        told = (("why not", self.finding.undecided), ("remark ", self.finding.remark))
        return "\n".join([*lines, *(f"  {name}  {text}" for name, text in told if text)])


def _shown(row: Row) -> str:
    if row.claimed is None:
        return f"{row.quantity}: ours {row.ours:.8g}"
    mark = "" if row.agrees else "  <- DIFFERS"
    return f"{row.quantity}: claimed {row.claimed:.8g}, ours {row.ours:.8g}{mark}"
