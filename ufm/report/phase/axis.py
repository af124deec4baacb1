r"""Axes of phase diagrams: the positions of a field's values.

The position of a number is the number. Other values have named positions: no bias is "none", left
of the least λ_b; a decay of 0 is "0", left of a logarithmic axis; class counts and methods are
categories, in the order of the cells.

    axis(table, "lam_b").named     # of lam_b = ["none", 0.0, 0.01]: ((-0.01, "none"),)

Sets of one kind with different numbers, such as spheres, have an axis of these numbers.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from jaxtyping import Float

from ufm.model.constraint_text import size_in

Table = dict[str, np.ndarray]
Values = Float[np.ndarray, " _"]

#: Fields that can be an axis, in order of preference, with their names in figures and in texts.
FIELDS = {
    "lam_w": (r"$\lambda_W$", "λ_W"),
    "lam_h": (r"$\lambda_H$", "λ_H"),
    "alpha": (r"$\alpha$", "α"),
    "gamma": (r"$\gamma$", "γ"),
    "scale": (r"scale $\kappa$", "κ"),
    "target": (r"target $M$", "M"),
    "lam_b": (r"$\lambda_b$", "λ_b"),
    "temperature": (r"temperature $\tau$", "τ"),
    "radius_h": (r"radius $\rho_H$", "ρ_H"),
    "budget_h": ("budget $E_H$", "E_H"),
    "radius_w": (r"radius $\rho_W$", "ρ_W"),
    "budget_w": ("budget $E_W$", "E_W"),
    "features": ("features", "features"),
    "classifier": ("classifier", "classifier"),
    "num_classes": ("$K$", "K"),
    "dim": ("$d$", "d"),
    "per_class": ("$n$", "n"),
    "class_counts": ("class counts", "class counts"),
    "start_scale": ("scale of the start", "scale of the start"),
    "tol": ("tolerance", "tolerance"),
    "max_steps": ("most steps", "most steps"),
    "method": ("method", "method"),
}
DECAYS = ("lam_w", "lam_h")
_TEXTS = ("class_counts", "method", "features", "classifier")
_WHOLE = ("num_classes", "dim", "per_class", "max_steps")
#: The factor whose set has the number, and the word for it in that column's name.
SIZES = {"radius_w": "classifier", "budget_w": "classifier"} | {
    "radius_h": "features", "budget_h": "features"
}  # fmt: skip
#: Fields with a linear axis even if they reach 0, where nothing changes abruptly.
_SMOOTH_AT_ZERO = ("alpha", "gamma")
#: Class counts of more classes are written as runs of equal ones.
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Axis:
    """The places of a field's values.

    `at` is the position of every row, `levels` are the distinct positions, ascending, `values` are
    their values, `edges` the ends of the cells around them, and `named` the named positions.
    Numbers begin at the edge `low`.
    """

    name: str
    log: bool
    at: Values
    levels: Values
    values: tuple[Any, ...]
    edges: Values
    low: float
    named: tuple[tuple[float, str], ...]

    @property
    def discrete(self) -> bool:
        """Whether there is nothing between the levels."""
        return self.name in (*_TEXTS, *_WHOLE) or (bool(self.named) and self.name not in DECAYS)

    @property
    def numbers(self) -> Values:
        """The numeric levels."""
        return self.levels[self.levels > self.low]

    def describe(self, i: int) -> str:
        """Describe level i, as in "λ_b = none"."""
        names = dict(self.named)
        place = float(self.levels[i])
        value = names.get(place, f"{place:.3g}").replace("\n", " ")
        return f"{FIELDS[self.name][1]} = {value}"


def with_sizes(table: Table) -> Table:
    """The table with the numbers of sets as columns, for factors whose sets are of one kind."""
    found = dict(table)
    for name, factor in SIZES.items():
        sets = [size_in(factor, str(x)) for x in table.get(factor, ()) if x]
        kinds, sizes = {kind for kind, _ in sets}, [size for _, size in sets]
        named = len(kinds) == 1 and (kinds == {"budget"}) == name.startswith("budget")
        if named and len(sizes) == len(table[factor]) and None not in sizes:
            found[name] = np.array(sizes, float)
    return found


def at_place(row: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    """The row with other numbers, from which the texts of sets follow."""
    texts = {
        factor: f"{str(row[factor]).partition(':')[0]}:{place[name]!r}"
        for name, factor in SIZES.items()
        if name in place
    }
    return row | place | texts


def axis(table: Table, name: str) -> Axis:
    """Make the axis of a field of `FIELDS`."""
    return _categories(table, name) if name in _TEXTS else _numbers(table, name)


def _categories(table: Table, name: str) -> Axis:
    kinds = list(dict.fromkeys(table[name].tolist()))
    at = np.array([kinds.index(x) for x in table[name].tolist()], float)
    levels = np.arange(len(kinds), dtype=float)
    # In short lines, since an ordinate has little room.
    words = [_counts(text) if name == "class_counts" else text.replace("_", "\n") for text in kinds]
    if len(set(words)) < len(words):  # too long to be told apart
        words = [f"list {i + 1}" for i in range(len(kinds))]
    named = tuple(zip(levels.tolist(), words, strict=True))
    edges = cell_edges(levels, log=False)
    return Axis(name, False, at, levels, tuple(kinds), edges, float(edges[0]), named)


def _counts(text: str) -> str:
    """ "5 5 2" as 5,5,2 and, of many classes, as 50×100 over 50×10: so many of that size."""
    counts = text.split()
    if len(counts) <= _LISTED:
        return ",".join(counts)
    runs = [(len(list(run)), size) for size, run in itertools.groupby(counts)]
    words = [f"{length}×{size}" for length, size in runs]
    return "\n".join(words if len(words) <= 2 else [words[0], "…", words[-1]])


def _numbers(table: Table, name: str) -> Axis:
    values = table[name].astype(float)
    known = np.unique(values[~np.isnan(values)])
    positive = known[known > 0]
    log = is_log(positive if name not in _SMOOTH_AT_ZERO else known)
    apart = [(np.isnan(values), float("nan"), "none")]
    if log and known[0] == 0:
        apart.insert(0, (values == 0, 0.0, "0"))
        known = positive
    at, stands, named = values.copy(), dict(zip(known.tolist(), known.tolist(), strict=True)), []
    place, step = float(known[0]), _step(known, log)
    for rows, value, word in apart:
        if rows.any():
            place = place / step if log else place - step
            at[rows], stands[place] = place, value
            named.append((place, word))
    levels = np.array(sorted(stands))
    edges = cell_edges(levels, log)
    low = float(edges[len(named)])
    own = tuple(stands[place] for place in levels.tolist())
    return Axis(name, log, at, levels, own, edges, low, tuple(named))


def is_log(known: Values) -> bool:
    """Whether values are positive, span a decade or more, and are not an arithmetic progression."""
    if not known.size or known[0] <= 0 or known[-1] / known[0] < 10:
        return False
    steps = np.diff(known)
    return bool(np.ptp(steps) > 1e-6 * steps.max()) or len(known) == 2


def _step(known: Values, log: bool) -> float:
    """The distance of a named position from the next; a factor on logarithmic axes."""
    if log:
        return float(known[1] / known[0])
    return float(known[1] - known[0]) if len(known) > 1 else float(abs(known[0])) or 1.0


def cell_edges(levels: Values, log: bool) -> Values:
    """The ends of the cells around ascending levels."""
    places = np.log(levels) if log else levels
    if len(places) == 1:
        places = np.concatenate([places, places + 1.0])
        inner = (places[1:] + places[:-1]) / 2
        edges = np.array([2 * places[0] - inner[0], inner[0]])
    else:
        inner = (places[1:] + places[:-1]) / 2
        first, last = (places[1] - places[0]) / 2, (places[-1] - places[-2]) / 2
        edges = np.concatenate([[places[0] - first], inner, [places[-1] + last]])
    return np.exp(edges) if log else edges
