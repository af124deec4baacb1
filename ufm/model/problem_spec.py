"""A problem as plain values: files, flags and stored rows become a `Problem` through it.

>>> spec = ProblemSpec(parse_loss("ls:0.1"), (100,) * 10, 16,
...                    lam_w=5e-4, lam_h=5e-4, lam_b=None)
>>> spec.problem().num_columns
1000
>>> ProblemSpec.from_row(spec.row()) == spec
True
"""

import dataclasses
import json
import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ufm.losses import HYPERPARAMETERS, Loss, loss_family, loss_spec, make_loss
from ufm.model.constraint_text import constraint_text, make_constraint
from ufm.model.problem import Problem

#: The columns of a stored row that identify its problem; `ProblemSpec.row` has more.
DECISIVE = (
    *("family", *HYPERPARAMETERS, "class_counts", "targets"),
    *("dim", "lam_w", "lam_h", "lam_b"),
    *("classifier", "features", "temperature", "lam_hidden", "hidden_dims"),
)


def decisive(table: Container[str]) -> list[str]:
    """The columns of `DECISIVE` in a table, without what its losses and problems do not have."""
    return [name for name in DECISIVE if name in table]


@dataclasses.dataclass(frozen=True, slots=True)
class ProblemSpec:
    """The arguments of a `Problem` with a named loss, compared, hashed and pickled by value.

    `classifier` and `features` are sets as text (`ufm.model.constraint_text`). Arguments are
    checked only when `problem` is called.
    """

    loss: Loss
    class_counts: tuple[int, ...]
    dim: int
    lam_w: float | None
    lam_h: float | None
    lam_b: float | None
    #: A row for each entry of `class_counts`; None for class labels.
    targets: tuple[tuple[float, ...], ...] | None = None
    classifier: str | None = None
    features: str | None = None
    temperature: float | None = None
    lam_hidden: tuple[float, ...] = ()
    hidden_dims: tuple[int, ...] = ()

    @classmethod
    def of(cls, problem: Problem) -> "ProblemSpec":
        """Convert a problem that is not a batch and has no column weights.

        Raises `ValueError` for a fixed classifier, which has no text.
        """
        loss, targets = problem.loss.without_targets()
        decays = (problem.lam_w, problem.lam_h, problem.lam_b, problem.temperature)
        lam_w, lam_h, lam_b, temperature = (None if x is None else float(x) for x in decays)
        return cls(
            loss=loss,
            class_counts=tuple(problem.class_counts),
            dim=int(problem.dim),
            lam_w=lam_w,
            lam_h=lam_h,
            lam_b=lam_b,
            targets=None if targets is None else _rows(targets.tolist()),
            classifier=constraint_text("classifier", problem.classifier),
            features=constraint_text("features", problem.features),
            temperature=temperature,
            lam_hidden=tuple(map(float, problem.lam_hidden)),
            hidden_dims=problem.hidden_dims,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ProblemSpec":
        """Convert a row with the columns `DECISIVE`, in which missing numbers are NaN or None."""
        targets = row.get("targets")
        return cls(
            loss=make_loss(str(row["family"]), row),
            class_counts=tuple(map(int, str(row["class_counts"]).split())),
            dim=int(row["dim"]),
            lam_w=_number(row["lam_w"]),
            lam_h=_number(row["lam_h"]),
            lam_b=_number(row["lam_b"]),
            targets=_rows(json.loads(targets)) if targets else None,
            classifier=row.get("classifier") or None,
            features=row.get("features") or None,
            temperature=_number(row.get("temperature")),
            lam_hidden=tuple(map(float, str(row.get("lam_hidden", "")).split())),
            hidden_dims=tuple(map(int, str(row.get("hidden_dims", "")).split())),
        )

    def problem(self) -> Problem:
        """Make the problem. Raises `ValueError`, naming the field, if a value is invalid."""
        outputs = len(self.targets[0]) if self.targets else len(self.class_counts)
        fields: dict[str, Any] = self._fields() | {"hidden_dims": self.hidden_dims or None}
        for factor in ("classifier", "features"):
            if fields[factor] is not None:
                fields[factor] = make_constraint(factor, fields[factor], outputs, self.dim)
        return Problem(**fields)

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def named(self) -> dict[str, Any]:
        """The fields by name, with the loss as text, for JSON and for display."""
        fields = self._fields().items()
        used = {name: x for name, x in fields if name in _PLAIN or x not in (None, ())}
        return used | {"loss": loss_spec(self.loss)}

    def row(self) -> dict[str, Any]:
        """Convert to a row of a table: NaN for a missing number, −1 for n if counts are unequal."""
        family, counts = loss_family(self.loss), self.class_counts
        decays = (self.lam_w, self.lam_h, self.lam_b)
        lam_w, lam_h, lam_b = (math.nan if decay is None else decay for decay in decays)
        numbers = {name: float(getattr(self.loss, name, math.nan)) for name in HYPERPARAMETERS}
        return {
            "loss": loss_spec(self.loss),
            "family": family,
            **numbers,
            "num_classes": len(counts),
            "dim": self.dim,
            "per_class": counts[0] if len(set(counts)) == 1 else -1,
            "class_counts": " ".join(map(str, counts)),
            **({} if self.targets is None else {"targets": json.dumps(self.targets)}),
            "lam_w": lam_w,
            "lam_h": lam_h,
            "lam_b": lam_b,
            "mu": math.sqrt(lam_w) * math.sqrt(lam_h),
            **self._of_variant(),
        }

    def _of_variant(self) -> dict[str, Any]:
        """The columns of a problem that is not plain."""
        columns = {
            "classifier": self.classifier,
            "features": self.features,
            "temperature": self.temperature,
            "lam_hidden": " ".join(map(repr, self.lam_hidden)),
            "hidden_dims": " ".join(map(str, self.hidden_dims)),
        }
        return {name: value for name, value in columns.items() if value not in (None, "")}


#: The fields that every problem has.
_PLAIN = ("loss", "class_counts", "dim", "lam_w", "lam_h", "lam_b")


def _number(entry: float | None) -> float | None:
    return None if entry is None or math.isnan(entry) else float(entry)


def _rows(rows: Iterable[Iterable[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)
