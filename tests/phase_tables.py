"""Tables of sweeps for phase diagrams: settings and the theory's columns; nothing is solved."""

import itertools
import math

import numpy as np

from ufm.collapse.symmetric_solution import collapse_threshold, supported
from ufm.losses import parse_loss
from ufm.model.problem import Problem

NAN = math.nan
DEFAULTS = {
    "family": "ce", "alpha": NAN, "gamma": NAN, "scale": NAN, "target": NAN,
    "num_classes": 4, "dim": 6, "per_class": 5, "class_counts": "5 5 5 5",
    "lam_w": 0.05, "lam_h": 0.05, "lam_b": 0.01,
    "method": "newton", "max_steps": 100, "start_scale": 0.1, "tol": 1e-10,
}  # fmt: skip


def table_of(zipped: bool = False, tied: bool = False, **fields) -> dict[str, np.ndarray]:
    """One cell for each combination of the fields' values; `gap` is the number of the cell."""
    lists = {name: x if isinstance(x, list) else [x] for name, x in fields.items()}
    combinations = (
        zip(*lists.values(), strict=True) if zipped else itertools.product(*lists.values())
    )
    rows = [DEFAULTS | dict(zip(lists, values, strict=True)) for values in combinations]
    for i, row in enumerate(rows):
        if "class_counts" not in fields:
            row["class_counts"] = " ".join([str(row["per_class"])] * row["num_classes"])
        counts = row["class_counts"].split()
        row["num_classes"] = len(counts)
        row["per_class"] = int(counts[0]) if len(set(counts)) == 1 else -1
        row["lam_h"] = row["lam_w"] if tied else row["lam_h"]
        row |= {"threshold": threshold(row), "kind": "simplex ETF", "gap": float(i + 1)}
        row |= {"verdict": "GLOBAL_MINIMUM", "minimum_exact": 1, "rounding": 1e-15}
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def threshold(row) -> float:
    numbers = [row[name] for name in ("alpha", "gamma", "scale", "target")]
    given = ",".join(repr(x) for x in numbers if x == x)
    counts = tuple(map(int, row["class_counts"].split()))
    bias = None if row["lam_b"] != row["lam_b"] else row["lam_b"]
    problem = Problem(parse_loss(f"{row['family']}:{given}"), counts, row["dim"], 1.0, 1.0, bias)
    return float(collapse_threshold(problem).mu) if supported(problem) else NAN
