"""What several checks do: many certified runs, and a census of critical points."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from ufm._support.pytree import entry
from ufm.certificates.certificate import Verdict
from ufm.landscape import Census, explore
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.reproduce.claim import Row
from ufm.runs.many_starts import Verification, verify

#: Runs end at ‖∇f‖ ≤ 1e-10, and the least curvature along which the metrics change is that of a
#: decay, 1e-4 and more: the metrics, of order ‖x − x*‖/‖x*‖, are far below this.
METRIC = 1e-5
#: Gaps of runs in double precision are below 1e-11; the formulas are evaluated to 1e-12.
VALUE = 1e-9
_STARTS = 3


def certified(problem: Problem) -> tuple[Verification, Row]:
    """Runs from random starts, and how many are proven global minima; all, if claimed."""
    found = verify(problem, jax.random.key(0), _STARTS)
    quantity = f"{problem.loss.label()}: runs of {_STARTS} that end at a proven global minimum"
    return found, Row(quantity, found.num_global, _STARTS)


def highest_value(found: Verification) -> float:
    """The largest f at which a run ended."""
    return float(np.max(np.asarray(found.solutions.value)))


def ends(found: Verification) -> list[Params]:
    """The points at which the runs ended."""
    return [entry(found.solutions.params, i) for i in range(found.num_starts)]


def cosines(vectors: Any) -> Float[np.ndarray, " p"]:
    """Cosines of all pairs of the rows."""
    unit = np.asarray(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of a function of one number in [low, high], by SciPy."""
    return cast(float, brentq(function, low, high, xtol=1e-12))


def least(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """The minimiser of a function of one number in [low, high], and its value, by SciPy."""
    bounded = {"bounds": (low, high), "method": "bounded", "options": {"xatol": 1e-10}}
    found = cast(Any, minimize_scalar(function, **bounded))
    return float(found.x), float(found.fun)


def farthest(values: Any, target: float) -> float:
    """The value farthest from the target."""
    flat = np.concatenate([np.ravel(x) for x in values])
    return float(flat[np.argmax(np.abs(flat - target))])


def collapsed(found: Verification) -> Row:
    """The row of the largest of NC1, NC2 and NC3 of all runs: 0, if claimed."""
    metrics = (found.metrics.nc1, found.metrics.nc2, found.metrics.nc3)
    worst = float(np.max(np.abs(np.asarray(metrics))))
    return Row(f"{found.problem.loss.label()}: largest of NC1–NC3", worst, 0.0, METRIC)


def searched(problem: Problem) -> Census:
    """The critical points that searches find, with fewer starts than those of `ufm landscape`."""
    return explore(problem, jax.random.key(0), starts_per_rank=5, root_starts=60, flows=0)


def benign(verdicts: Sequence[Verdict]) -> tuple[Row, ...]:
    """Rows of a landscape where all but the global minimum are strict saddles."""
    minima = verdicts.count(Verdict.GLOBAL_MINIMUM)
    others = len(verdicts) - minima - verdicts.count(Verdict.STRICT_SADDLE)
    return (
        Row("critical points found, up to symmetry", len(verdicts)),
        Row("of them global minima", minima, 1),
        Row("of them neither global minima nor strict saddles", others, 0),
    )
