r"""Phase diagrams: results of the runs of a loss over two fields of its problems.

The axes are λ_W × λ_H, or a decay and α, γ or another field that the sweep varies. Every point
shows the worst of its runs, over all starts and other fields that vary there, or for ρ the mean.
The theory's curve is √(λ_W λ_H) at the collapse threshold (`ufm.report.phase.curve`).

    diagram(table, "gap").value
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from ufm.certificates.certificate import Verdict
from ufm.report.phase.axis import Table, Values
from ufm.report.phase.plane import Plane, plane
from ufm.report.runs.collapse import FLOORS

#: Verdicts from best to worst, in the style's colours, which dichromats can distinguish.
VERDICTS = {
    Verdict.GLOBAL_MINIMUM: ("global minimum", "#1F4FD0"),
    Verdict.MINIMUM_ON_CONVEX_REGION: ("min. on convex region", "#2F9CF0"),
    Verdict.LOCAL_MINIMUM: ("local minimum", "#EAC23C"),
    Verdict.STRICT_SADDLE: ("strict saddle", "#D65A18"),
    Verdict.NOT_CRITICAL: ("not critical", "#6E0F5E"),
    Verdict.UNDECIDED: ("undecided", "#BBBBBB"),
}
_ORDER = [verdict.name for verdict in VERDICTS]

_ORIGIN = "undefined: the origin has no geometry"


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A column of the table in a diagram.

    `floor` is the size below which a number is rounding; that of a gap is in the table. `blank`
    explains missing numbers. Quantities with the same `colours` share a scale of colours, over all
    losses unless they are `per_loss`, because some sizes differ between losses.
    """

    column: str
    title: str
    unit: str
    log: bool
    colours: str
    blank: str = ""
    per_loss: bool = False
    mean: bool = False
    floor: float = 0.0

    @property
    def needs_shape(self) -> bool:
        """Whether the quantity is undefined if the minimum is the origin."""
        return self.blank == _ORIGIN


QUANTITIES = {
    each.column: each
    for each in (
        Quantity("verdict", "Verdict", "", False, "verdict"),
        Quantity(
            "gap", "Certified gap", r"$f-$ lower bound", True, "gap", "no lower bound is known"
        ),
        Quantity(
            "rho", "Size ρ of the solution, measured", r"$\rho$, mean margin", False, "rho",
            per_loss=True, mean=True,
        ),
        Quantity(
            "rho_star", "Size ρ* of the minimum, theory", r"$\rho^\star$", False, "rho",
            "no symmetric minimum is proven", per_loss=True, mean=True,
        ),
        Quantity(
            "nc1", "NC1, within-class variability", "NC1", True, "nc1", _ORIGIN,
            floor=FLOORS["nc1"],
        ),
        Quantity(
            "nc2", "NC2, classifier against simplex ETF", "NC2", True, "nc2", _ORIGIN,
            floor=FLOORS["nc2"],
        ),
        Quantity(
            "nc3", "NC3, classifier against class means", "NC3", True, "nc3", _ORIGIN,
            floor=FLOORS["nc3"],
        ),
        Quantity(
            "nc4", "NC4, samples whose nearest class mean disagrees", "NC4, share of samples",
            False, "nc4", _ORIGIN,
        ),
        Quantity(
            "cosine", "Cosine of class means, not centred: 0 if orthogonal, −1/(K−1) in an ETF",
            "mean cosine", False, "cosine", _ORIGIN, mean=True,
        ),
        Quantity(
            "norm_w", "Norm of the classifier", r"$\|W\|_F$", True, "norm_w", _ORIGIN,
            per_loss=True,
        ),
        Quantity(
            "etf", "Runs that end at the simplex ETF, with hidden layers", "share of runs", False,
            "etf", mean=True,
        ),
    )
}  # fmt: skip
#: NC2 at the end of a run at the simplex ETF is below this: others have at least some tenths.
_ETF = 1e-3


@dataclasses.dataclass(frozen=True)
class Diagram:
    """A value at each point of a plane.

    `value` is NaN if the quantity is unknown or undefined, like geometry at the origin; for
    verdicts it is the index in `VERDICTS`. Values that are rounding are at the `floor`.
    """

    quantity: Quantity
    plane: Plane
    value: Values
    floor: float = 0.0

    @property
    def x(self) -> Values:
        """Abscissae of the points."""
        return self.plane.points[:, 0]

    @property
    def y(self) -> Values:
        """Ordinates of the points, 0 if one field varies."""
        return self.plane.points[:, 1]

    @property
    def curve(self) -> Float[np.ndarray, "_ 2"]:
        """The threshold, empty if none is proven."""
        return self.plane.curve


def diagram(
    table: Table, name: str, set_tol: bool = False, over: Plane | None = None
) -> Diagram | None:
    """The diagram of a quantity over the cells of one loss; None if no field varies.

    It is None, too, if the table does not have the quantity: the cosines of the plain model, the
    share at the ETF without hidden layers.

    `set_tol` is that of `plane`; `over` is the plane, if it is known already. Raises `ValueError`
    for an unknown quantity and like `plane`.
    """
    if name not in QUANTITIES:
        raise ValueError(f"name has to be one of {', '.join(QUANTITIES)}, got {name!r}")
    quantity, place = QUANTITIES[name], over or plane(table, set_tol)
    columns = ("lam_hidden", "nc2") if quantity.column == "etf" else (quantity.column,)
    if place is None or not set(columns) <= set(table):
        return None
    order = np.argsort(place.point_of, kind="stable")
    ends = np.cumsum(np.bincount(place.point_of))[:-1]
    runs = np.split(_numbers(table, quantity)[order], ends)
    values = np.array([_combined(each, quantity) for each in runs])
    floor = _floor(table, quantity)
    return Diagram(quantity, place, np.maximum(values, floor) if floor else values, floor)


def _floor(table: Table, quantity: Quantity) -> float:
    """The rounding error: a gap contains its bound twice, for f and for the lower bound."""
    if quantity.column != "gap":
        return quantity.floor
    known = table["rounding"][np.isfinite(table["rounding"])]
    return 2.0 * float(np.max(known, initial=0.0))


def _numbers(table: Table, quantity: Quantity) -> Values:
    if quantity.column == "etf":
        return (table["nc2"] < _ETF).astype(float)
    column = table[quantity.column]
    if quantity.column == "verdict":
        return np.array([_ORDER.index(name) for name in column.tolist()], float)
    numbers = np.where(np.isfinite(column), column, np.nan)
    if quantity.column == "rho_star":
        return np.where(table["minimum_exact"] == 1, numbers, np.nan)
    return np.where(table["kind"] == "origin", np.nan, numbers) if quantity.needs_shape else numbers


def _combined(values: Values, quantity: Quantity) -> float:
    """The worst, or the mean, of the known values."""
    known = values[~np.isnan(values)]
    # If a run has no bound, the largest gap is unknown.
    if not known.size or (quantity.column == "gap" and known.size < values.size):
        return float("nan")
    return float(np.mean(known) if quantity.mean else np.max(known))
