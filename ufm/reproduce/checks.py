"""What several checks share: problems, certified runs and their rows, a census."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from ufm._support.pytree import entry
from ufm.certificates.certificate import Verdict
from ufm.landscape import Census, explore
from ufm.losses import CrossEntropy, Loss
from ufm.model.constraints import Sphere
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

#: The settings of `usual` and `searched` in words.
USUAL = "K=10, d=16, n=100, λ_W=λ_H=5e-4"
SEARCHED = "K=4, d=5, n=10, λ_W=λ_H=5e-3, λ_b=0.01: a census of critical points"


def usual(loss: Loss, lam_b: float | None = 0.01, per_class: int = 100) -> Problem:
    """Ten balanced classes: the problem of most claims about minimisers."""
    decays = {"lam_w": 5e-4, "lam_h": 5e-4, "lam_b": lam_b}
    return Problem.balanced(loss=loss, num_classes=10, per_class=per_class, dim=16, **decays)


def on_spheres(classes: int, n: int, dim: int, tau: float) -> Problem:
    """Cross-entropy with unit classifiers and features, and a temperature τ."""
    sets = {"lam_w": None, "lam_h": None, "classifier": Sphere(), "features": Sphere()}
    return Problem(CrossEntropy(), (n,) * classes, dim, lam_b=None, temperature=tau, **sets)


def certified(problem: Problem, name: str = "", scale: float = 0.1) -> tuple[Verification, Row]:
    """Runs from random starts, and the row of how many are proven global minima; all, if claimed.

    `name` begins the row; without it the loss does. Entries of starts have deviation `scale`.
    """
    found = verify(problem, jax.random.key(0), _STARTS, scale=scale)
    quantity = f"runs of {_STARTS} that end at a proven global minimum"
    return found, Row(f"{name or problem.loss.label()}: {quantity}", found.num_global, _STARTS)


def value_row(quantity: str, found: Verification, claimed: float) -> Row:
    """The row of the largest f at which a run ended."""
    return Row(quantity, float(np.max(np.asarray(found.solutions.value))), claimed, VALUE)


def ends(found: Verification) -> list[Params]:
    """The points at which the runs ended."""
    return [entry(found.solutions.params, i) for i in range(found.num_starts)]


def cosines(vectors: Any) -> Float[np.ndarray, " p"]:
    """Cosines of all pairs of the rows."""
    unit = np.asarray(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]


def root(function: Callable[[float], float], low: float, high: float, xtol: float = 1e-12) -> float:
    """The root of a function of one number in [low, high], by SciPy."""
    return cast(float, brentq(function, low, high, xtol=xtol))


def least(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """The minimiser of a function of one number in [low, high], and its value, by SciPy."""
    bounded = {"bounds": (low, high), "method": "bounded", "options": {"xatol": 1e-10}}
    found = cast(Any, minimize_scalar(function, **bounded))
    return float(found.x), float(found.fun)


def farthest(values: Any, target: float) -> float:
    """The value farthest from the target."""
    flat = np.concatenate([np.ravel(x) for x in values])
    return float(flat[np.argmax(np.abs(flat - target))])


def cosine_row(quantity: str, sets: Sequence[Any], claimed: float) -> Row:
    """The row of the cosine farthest from the claimed one, of two rows of any of the matrices."""
    return Row(quantity, farthest([cosines(x) for x in sets], claimed), claimed, METRIC)


def collapsed(found: Verification) -> Row:
    """The row of the largest of NC1, NC2 and NC3 of all runs: 0, if claimed."""
    metrics = (found.metrics.nc1, found.metrics.nc2, found.metrics.nc3)
    worst = float(np.max(np.abs(np.asarray(metrics))))
    return Row(f"{found.problem.loss.label()}: largest of NC1–NC3", worst, 0.0, METRIC)


def searched(loss: Loss) -> Census:
    """The critical points that searches find, with fewer starts than those of `ufm landscape`."""
    problem = Problem.balanced(
        loss=loss, num_classes=4, per_class=10, dim=5, lam_w=5e-3, lam_h=5e-3, lam_b=0.01
    )
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
