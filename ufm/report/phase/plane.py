"""The axes of a phase diagram, the positions of runs, and the slices of a third field.

The first two fields that vary are the axes, in the order of `FIELDS`. Fields that vary together
with one of them (λ_H = λ_W, or all fields of a sweep with combine = "zip") are not separate axes. A
third field divides the plane into slices, one for each of a few of its values.

    for part in slices(table).parts:
        print(part.label, plane(part.table).x.name)
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from ufm.report.phase.axis import FIELDS, SIZES, Axis, Table, axis, with_sizes
from ufm.report.phase.curve import common_ratio, is_reach, threshold_curve

#: Largest number of slices, spread over the values of the third field with its ends.
_SLICES = 4


@dataclasses.dataclass(frozen=True)
class Plane:
    """Axes (`y` is None if one field varies), the points, and the point of each run.

    `curve` is that of `threshold_curve`, of bounded norms if `of_reach`. `tied` says that λ_H = λ_W
    everywhere. `along` are the fields that vary between points without being an axis, and `others`
    those that differ between the runs of a point.
    """

    x: Axis
    y: Axis | None
    points: Float[np.ndarray, "p 2"]
    point_of: Int[np.ndarray, " r"]
    curve: Float[np.ndarray, "_ 2"]
    of_reach: bool
    tied: bool
    along: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def x_label(self) -> str:
        """The field of the abscissa, for figures."""
        both = self.tied and self.x.name == "lam_w"
        return r"$\lambda_W=\lambda_H$" if both else FIELDS[self.x.name][0]

    @property
    def is_grid(self) -> bool:
        """Whether at least three quarters of the combinations of levels have a point.

        A finished grid has all of them; random decays, or decays that are multiples of each
        problem's own threshold, have few.
        """
        return self.y is not None and 3 * self._places <= 4 * len(self.points)

    @property
    def has_holes(self) -> bool:
        """Whether it is a grid with missing points."""
        return self.is_grid and len(self.points) < self._places

    @property
    def _places(self) -> int:
        return len(self.x.levels) * (1 if self.y is None else len(self.y.levels))

    def on_grid(self, value: Float[np.ndarray, " p"]) -> np.ma.MaskedArray:
        """Arrange a value for each point in rows of ascending y, masked where there is no point."""
        assert self.y is not None  # a line has no rows
        grid = np.ma.masked_all((len(self.y.levels), len(self.x.levels)))
        row = np.searchsorted(self.y.levels, self.points[:, 1])
        grid[row, np.searchsorted(self.x.levels, self.points[:, 0])] = value
        return grid


@dataclasses.dataclass(frozen=True)
class Part:
    """Cells of a sweep with one value of the third field, such as "α = 0.2"; "" is all."""

    label: str
    table: Table


@dataclasses.dataclass(frozen=True)
class Slices:
    """The slices to draw; `note` says which, if these are not all."""

    parts: tuple[Part, ...]
    note: str


def plane(table: Table, set_tol: bool = False) -> Plane | None:
    """Axes and points of the cells of one loss family; None if no field varies.

    `set_tol` says that the tolerance was set, so that it is a field that can vary. Raises
    `ValueError` for cells of several families.
    """
    kinds = np.unique(table["family"])
    if len(kinds) > 1:
        raise ValueError(f"a diagram is of one loss family, got {', '.join(kinds.tolist())}")
    table = with_sizes(table)
    fields, companions = _fields(table, set_tol)
    if not fields:
        return None
    x, y = fields[0], fields[1] if len(fields) > 1 else None
    ordinates = np.zeros(len(x.at)) if y is None else y.at
    points, point_of = np.unique(np.column_stack([x.at, ordinates]), axis=0, return_inverse=True)
    point_of = point_of.ravel()
    rest = [field.name for field in fields[2:]]
    inside = [name for name in rest if _differs(table[name], point_of)]
    along = [*companions, *(name for name in rest if name not in inside)]
    tied = bool(np.array_equal(table["lam_w"], table["lam_h"]))
    ratio = _ratio(table, x, along)
    curve = threshold_curve(table, x, y, ratio)
    shown = tuple(name for name in along if not (tied and name == "lam_h"))
    of_reach = is_reach(table)
    return Plane(x, y, points, point_of, curve, of_reach, tied, shown, tuple(inside))


def slices(table: Table, set_tol: bool = False) -> Slices:
    """Split the table by its third field if each part is still a plane; else keep it whole."""
    table = with_sizes(table)
    whole = Slices((Part("", table),), "")
    fields, _ = _fields(table, set_tol)
    if len(fields) < 3:
        return whole
    third, count = fields[2], len(fields[2].levels)
    kept = np.unique(np.linspace(0, count - 1, min(count, _SLICES)).round().astype(int))
    parts = tuple(
        Part(
            third.describe(i),
            {k: column[third.at == third.levels[i]] for k, column in table.items()},
        )
        for i in kept.tolist()
    )
    if any(len(_fields(part.table, set_tol)[0]) < 2 for part in parts):
        return whole
    name = FIELDS[third.name][1]
    note = "" if len(parts) == count else f"{len(parts)} of {count} values of {name} are drawn"
    return Slices(parts, note)


def _fields(table: Table, set_tol: bool) -> tuple[list[Axis], list[str]]:
    """The axes of all fields that vary independently, and the names of the dependent ones."""
    # The default tolerance follows the decays, so it is not a separate field. Unequal class counts
    # are neither K nor n.
    unequal = bool((table["per_class"] < 0).any())
    out = ("num_classes", "per_class") if unequal else ("class_counts",)
    out += () if set_tol else ("tol",)
    out += tuple(factor for name, factor in SIZES.items() if name in table)
    found: list[Axis] = []
    companions = []
    for name in FIELDS:
        if name in out or not _varies(table, name):
            continue
        field = axis(table, name)
        if any(_go_along(first, field) for first in found[:2]):
            companions.append(name)
        else:
            found.append(field)
    return found, companions


def _varies(table: Table, name: str) -> bool:
    return name in table and len(np.unique(table[name])) > 1  # NaN, no bias, is one value


def _go_along(first: Axis, second: Axis) -> bool:
    """Whether each determines the other monotonically."""
    pairs = np.unique(np.column_stack([first.at, second.at]), axis=0)
    if not len(pairs) == len(first.levels) == len(second.levels):
        return False
    steps = np.diff(pairs[:, 1])
    return bool((steps > 0).all() or (steps < 0).all())


def _differs(column: np.ndarray, point_of: np.ndarray) -> bool:
    codes = np.unique(column, return_inverse=True)[1]
    return len(np.unique(np.column_stack([point_of, codes]), axis=0)) > int(point_of.max()) + 1


def _ratio(table: Table, x: Axis, along: list[str]) -> float | None:
    """λ_H/λ_W if the ratio is constant."""
    if x.name != "lam_w" or "lam_h" not in along:
        return None
    used = table["lam_w"] > 0
    return common_ratio(table["lam_h"][used] / table["lam_w"][used]) if used.any() else None
