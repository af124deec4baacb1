r"""Phase diagrams: what the runs of a loss found over two fields of its problems.

Over λ_W × λ_H, or over a decay and α, γ or any other field that the sweep varies. Every cell shows
the worst of its runs (of all starts, and of whatever else varies). The curve is the theory's: where
√(λ_W λ_H) is the collapse threshold, beyond which the minimum is the origin.

    >>> diagram(table, "gap").value
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.certificate import Verdict
from ufm.losses import parse_loss
from ufm.problem import Problem
from ufm.symmetric import collapse_threshold, supported

Table = dict[str, np.ndarray]
Values = Float[np.ndarray, " _"]

#: Fields that can be an axis, most wanted first, and how they are written.
FIELDS = {
    "lam_w": r"$\lambda_W$",
    "lam_h": r"$\lambda_H$",
    "alpha": r"$\alpha$",
    "gamma": r"$\gamma$",
    "scale": r"scale $\kappa$",
    "target": r"target $M$",
    "lam_b": r"$\lambda_b$",
    "num_classes": "$K$",
    "dim": "$d$",
    "per_class": "$n$",
    "start_scale": "scale of the start",
    "tol": "tolerance",
    "max_steps": "most steps",
}
_DECAYS = ("lam_w", "lam_h")
_WHOLE = ("num_classes", "dim", "per_class", "max_steps")
#: Verdicts from best to worst, in colours of Okabe & Ito that colour-blind readers tell apart.
VERDICTS = {
    Verdict.GLOBAL_MINIMUM: ("global minimum", "#0072B2"),
    Verdict.MINIMUM_ON_CONVEX_REGION: ("min. on convex region", "#56B4E9"),
    Verdict.LOCAL_MINIMUM: ("local minimum", "#E69F00"),
    Verdict.STRICT_SADDLE: ("strict saddle", "#D55E00"),
    Verdict.NOT_CRITICAL: ("not critical", "#CC79A7"),
    Verdict.UNDECIDED: ("undecided", "#999999"),
}
_ORDER = [verdict.name for verdict in VERDICTS]


class Quantity(NamedTuple):
    """A column of the table as a diagram shows it."""

    column: str
    title: str
    unit: str
    log: bool
    worst: Callable[[Any], Any]
    #: One scale of colours for all losses? Sizes differ between them by nature.
    shared: bool = True
    #: Has it no meaning at the origin?
    needs_shape: bool = False


QUANTITIES = {
    "verdict": Quantity("verdict", "Verdict", "", False, np.max),
    "gap": Quantity("gap", "Certified gap", r"$f-$ lower bound", True, np.max),
    "rho": Quantity("rho", "Size of the solution", r"$\rho$, mean margin", False, np.mean, False),
    "nc1": Quantity("nc1", "NC1, within-class variability", "NC1", True, np.max, True, True),
    "nc2": Quantity(
        "nc2", "NC2, classifier against simplex ETF", "NC2", True, np.max, needs_shape=True
    ),
    "nc3": Quantity(
        "nc3", "NC3, classifier against class means", "NC3", True, np.max, needs_shape=True
    ),
    "norm_w": Quantity("norm_w", "Norm of the classifier", r"$\|W\|_F$", True, np.max, False, True),
}


@dataclasses.dataclass(frozen=True)
class Diagram:
    """Points of the plane and a value at each; `y` is None where one field varies.

    `value` is NaN at the origin where the quantity has no meaning there; for verdicts it is the
    place in `VERDICTS`. `curve` holds x and y of the threshold, empty where there is none. `tied`
    says that λ_H is λ_W. `others` are fields over which the worst was taken.
    """

    quantity: Quantity
    x_name: str
    y_name: str | None
    x: Values
    y: Values
    value: Values
    curve: Float[np.ndarray, "_ 2"]
    tied: bool
    others: tuple[str, ...]

    @property
    def x_label(self) -> str:
        """The field of the abscissa."""
        return r"$\lambda_W=\lambda_H$" if self.tied else FIELDS[self.x_name]


def diagram(table: Table, name: str, set_tol: bool = False) -> Diagram | None:
    """The diagram of a quantity over the cells of one loss; None where no field varies.

    `set_tol` says that the tolerance was set, and is a field that can vary.
    """
    quantity = QUANTITIES[name]
    tied = bool(np.array_equal(table["lam_w"], table["lam_h"]))
    # The default tolerance follows the decays: no field of its own.
    derived = [] if set_tol else ["tol"]
    varying = [x for x in FIELDS if x not in derived and _varies(table[x])]
    if tied and "lam_h" in varying:
        varying.remove("lam_h")
    if not varying:
        return None
    x_name, y_name = varying[0], varying[1] if len(varying) > 1 else None
    x = table[x_name].astype(float)
    y = table[y_name].astype(float) if y_name else np.zeros(len(x))
    points, inverse = np.unique(np.column_stack([x, y]), axis=0, return_inverse=True)
    numbers = _numbers(table, quantity)
    inverse = inverse.ravel()
    value = np.array([_worst(numbers[inverse == i], quantity) for i in range(len(points))])
    curve = _curve(table, x_name, y_name, tied)
    texts = ("method", "class_counts") if (table["per_class"] < 0).any() else ("method",)
    others = (*varying[2:], *(name for name in texts if len(np.unique(table[name])) > 1))
    return Diagram(quantity, x_name, y_name, points[:, 0], points[:, 1], value, curve, tied, others)


def _varies(values: np.ndarray) -> bool:
    return len(np.unique(values[~np.isnan(values.astype(float))])) > 1


def _numbers(table: Table, quantity: Quantity) -> Values:
    column = table[quantity.column]
    if quantity.column == "verdict":
        return np.array([_ORDER.index(name) for name in column.tolist()], float)
    numbers = column.astype(float)
    return np.where(table["kind"] == "origin", np.nan, numbers) if quantity.needs_shape else numbers


def _worst(values: Values, quantity: Quantity) -> float:
    known = values[~np.isnan(values)]
    return float(quantity.worst(known)) if known.size else float("nan")


# The theory's curve --------------------------------------------------------------------------


def _curve(table: Table, x_name: str, y_name: str | None, tied: bool) -> Float[np.ndarray, "_ 2"]:
    """Points where √(λ_W λ_H) is the threshold, along the other field."""
    nothing = np.zeros((0, 2))
    if x_name not in _DECAYS or np.isnan(table["threshold"]).any():
        return nothing
    if y_name == "lam_h" and not tied:
        threshold = np.unique(table["threshold"])
        if np.ptp(threshold) > 1e-12 * threshold[-1]:
            return nothing  # a third field moves it
        low, high = _ends(table["lam_h"])
        y = np.geomspace(low / 100, high * 100, 400)  # beyond the edges of the cells
        return np.column_stack([threshold[0] ** 2 / y, y])
    other = "lam_h" if x_name == "lam_w" else "lam_w"
    if not tied and _varies(table[other]):
        return nothing
    at = [0.0] if y_name is None else _along(table[y_name], y_name)
    thresholds = [_threshold(table, y_name, value) for value in at]
    if None in thresholds:
        return nothing
    mu = np.array(thresholds, float)
    return np.column_stack([mu if tied else mu**2 / table[other][0], at])


def _ends(values: np.ndarray) -> tuple[float, float]:
    positive = values[values > 0]
    return float(np.min(positive)), float(np.max(positive))


def _along(values: np.ndarray, name: str) -> list[float]:
    known = np.unique(values[~np.isnan(values.astype(float))]).tolist()
    return known if name in _WHOLE else np.linspace(known[0], known[-1], 60).tolist()


def _threshold(table: Table, name: str | None, value: float) -> float | None:
    """The collapse threshold of the first problem with one of its fields changed."""
    row = {key: column[0] for key, column in table.items()}
    if name is not None:
        row[name] = value
    numbers = [row[key] for key in ("alpha", "gamma", "scale", "target")]
    given = ",".join(repr(float(x)) for x in numbers if not np.isnan(x))
    counts = tuple(map(int, str(row["class_counts"]).split()))
    if name in ("num_classes", "per_class"):
        counts = (int(row["per_class"]),) * int(row["num_classes"])
    lam_b = float(row["lam_b"])
    problem = Problem(
        parse_loss(f"{row['family']}:{given}"),
        counts,
        int(row["dim"]),
        1.0,
        1.0,
        None if np.isnan(lam_b) else lam_b,
    )
    return float(collapse_threshold(problem).mu) if supported(problem) else None
