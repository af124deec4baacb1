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
from ufm.model.problem import Problem

#: The columns of a stored row that identify its problem; `ProblemSpec.row` has more.
DECISIVE = (
    *("family", *HYPERPARAMETERS, "class_counts", "targets"),
    *("dim", "lam_w", "lam_h", "lam_b"),
)


def decisive(table: Container[str]) -> list[str]:
    """The columns of `DECISIVE` in a table, without what its losses and problems do not have."""
    return [name for name in DECISIVE if name in table]


@dataclasses.dataclass(frozen=True, slots=True)
class ProblemSpec:
    """The arguments of a `Problem` with a named loss, compared, hashed and pickled by value.

    Arguments are checked only when `problem` is called.
    """

    loss: Loss
    class_counts: tuple[int, ...]
    dim: int
    lam_w: float
    lam_h: float
    lam_b: float | None
    #: A row for each entry of `class_counts`; None for class labels.
    targets: tuple[tuple[float, ...], ...] | None = None

    @classmethod
    def of(cls, problem: Problem) -> "ProblemSpec":
        """Convert a problem that is not a batch and has no column weights."""
        loss, targets = problem.loss.without_targets()
        return cls(
            loss=loss,
            class_counts=tuple(problem.class_counts),
            dim=int(problem.dim),
            lam_w=float(problem.lam_w),
            lam_h=float(problem.lam_h),
            lam_b=None if problem.lam_b is None else float(problem.lam_b),
            targets=None if targets is None else _rows(targets.tolist()),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ProblemSpec":
        """Convert a row with the columns `DECISIVE`, in which missing numbers are NaN or None."""
        lam_b, targets = row["lam_b"], row.get("targets")
        return cls(
            loss=make_loss(str(row["family"]), row),
            class_counts=tuple(map(int, str(row["class_counts"]).split())),
            dim=int(row["dim"]),
            lam_w=float(row["lam_w"]),
            lam_h=float(row["lam_h"]),
            lam_b=None if lam_b is None or math.isnan(lam_b) else float(lam_b),
            targets=_rows(json.loads(targets)) if targets else None,
        )

    def problem(self) -> Problem:
        """Make the problem. Raises `ValueError`, naming the field, if a value is invalid."""
        return Problem(
            loss=self.loss,
            class_counts=self.class_counts,
            dim=self.dim,
            lam_w=self.lam_w,
            lam_h=self.lam_h,
            lam_b=self.lam_b,
            targets=self.targets,
        )

    def named(self) -> dict[str, Any]:
        """The fields by name, with the loss as text, for JSON and for display."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.targets is None:
            del fields["targets"]
        return fields | {"loss": loss_spec(self.loss)}

    def row(self) -> dict[str, Any]:
        """Convert to a row of a table: NaN for a missing number, −1 for n if counts are unequal."""
        family, counts = loss_family(self.loss), self.class_counts
        numbers = {name: float(getattr(self.loss, name, math.nan)) for name in HYPERPARAMETERS}
        targets = {} if self.targets is None else {"targets": json.dumps(self.targets)}
        return {
            "loss": loss_spec(self.loss),
            "family": family,
            **numbers,
            "num_classes": len(counts),
            "dim": self.dim,
            "per_class": counts[0] if len(set(counts)) == 1 else -1,
            "class_counts": " ".join(map(str, counts)),
            **targets,
            "lam_w": self.lam_w,
            "lam_h": self.lam_h,
            "lam_b": math.nan if self.lam_b is None else self.lam_b,
            "mu": math.sqrt(self.lam_w) * math.sqrt(self.lam_h),
        }


def _rows(rows: Iterable[Iterable[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)
