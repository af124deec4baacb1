"""A problem as plain values: files, flags and stored rows become a `Problem` through it.

>>> spec = ProblemSpec(parse_loss("ls:0.1"), (100,) * 10, 16,
...                    lam_w=5e-4, lam_h=5e-4, lam_b=None)
>>> spec.problem().num_columns
1000
>>> ProblemSpec.from_row(spec.row()) == spec
True
"""

import dataclasses
import math
from collections.abc import Container, Mapping
from typing import Any

from ufm.losses import HYPERPARAMETERS, Loss, loss_family, loss_spec, make_loss
from ufm.model.problem import Problem

#: The columns of a stored row that identify its problem; `ProblemSpec.row` has more.
DECISIVE = ("family", *HYPERPARAMETERS, "class_counts", "dim", "lam_w", "lam_h", "lam_b")


def decisive(table: Container[str]) -> list[str]:
    """The columns of `DECISIVE` in a table, which lacks the hyperparameters of other losses."""
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

    @classmethod
    def of(cls, problem: Problem) -> "ProblemSpec":
        """Convert a problem that is not a batch and has no column weights."""
        return cls(
            loss=problem.loss,
            class_counts=tuple(problem.class_counts),
            dim=int(problem.dim),
            lam_w=float(problem.lam_w),
            lam_h=float(problem.lam_h),
            lam_b=None if problem.lam_b is None else float(problem.lam_b),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ProblemSpec":
        """Convert a row with the columns `DECISIVE`, in which missing numbers are NaN or None."""
        lam_b = row["lam_b"]
        return cls(
            loss=make_loss(str(row["family"]), row),
            class_counts=tuple(map(int, str(row["class_counts"]).split())),
            dim=int(row["dim"]),
            lam_w=float(row["lam_w"]),
            lam_h=float(row["lam_h"]),
            lam_b=None if lam_b is None or math.isnan(lam_b) else float(lam_b),
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
        )

    def named(self) -> dict[str, Any]:
        """The fields by name, with the loss as text, for JSON and for display."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"loss": loss_spec(self.loss)}

    def row(self) -> dict[str, Any]:
        """Convert to a row of a table: NaN for a missing number, −1 for n if counts are unequal."""
        family, counts = loss_family(self.loss), self.class_counts
        numbers = {name: float(getattr(self.loss, name, math.nan)) for name in HYPERPARAMETERS}
        return {
            "loss": loss_spec(self.loss),
            "family": family,
            **numbers,
            "num_classes": len(counts),
            "dim": self.dim,
            "per_class": counts[0] if len(set(counts)) == 1 else -1,
            "class_counts": " ".join(map(str, counts)),
            "lam_w": self.lam_w,
            "lam_h": self.lam_h,
            "lam_b": math.nan if self.lam_b is None else self.lam_b,
            "mu": math.sqrt(self.lam_w) * math.sqrt(self.lam_h),
        }
