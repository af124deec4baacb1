"""The stored result of `ufm solve` for one loss: a JSON object, and arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ufm._support.pytree import entry
from ufm.certificates.certificate import Reason, Verdict
from ufm.collapse.symmetric_solution import known_threshold
from ufm.collapse.target_metrics import target_metrics
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.minimum.minority_thresholds import minority_thresholds
from ufm.model.problem import Params, Problem
from ufm.model.variant import answers
from ufm.runs.many_starts import Verification
from ufm.solvers import Status

LossResult = dict[str, Any]
#: The stored fields of a run's history.
HISTORY = ("step", "products", "value", "grad_norm")
#: What is stored of the minimum.
_OF_MINIMUM = (
    *("value", "lower_bound", "is_exact", "kind", "reason", "rho", "tau", "bias_level", "rank"),
)


def loss_result(name: str, verification: Verification, seconds: float) -> LossResult:
    """The results of all runs of a loss, as a JSON object."""
    minimum, problem = verification.minimum, verification.problem
    solutions, certificates = verification.solutions, verification.certificates
    metrics = verification.metrics
    threshold = known_threshold(problem)
    columns = {
        "value": solutions.value,
        "grad_norm": solutions.grad_norm,
        "steps": solutions.num_steps,
        "products": solutions.num_products,
        "gap": certificates.gap,
        "rounding": certificates.rounding,
        "dual_norm": certificates.dual_norm,
        **{name: getattr(metrics, name) for name in ("nc1", "nc2", "nc3", "nc4")},
    }
    lists = {key: np.asarray(column).tolist() for key, column in columns.items()}
    runs = [
        {
            "start": i,
            "verdict": verification.verdicts[i].name,
            "reason": Reason(int(np.asarray(certificates.reason)[i])).name,
            "status": Status(int(np.asarray(solutions.status)[i])).name,
            "matches_geometry": verification.geometry[i].matches,
            "logit_distance": verification.geometry[i].logit_distance,
            **{key: column[i] for key, column in lists.items()},
        }
        for i in range(verification.num_starts)
    ]
    return {
        "loss": name,
        "label": problem.loss.label(),
        "minimum": {name: getattr(minimum, name) for name in _OF_MINIMUM},
        "threshold": float(np.asarray(certificates.threshold)[0]),
        "collapse_threshold": None if threshold is None else float(threshold.mu),
        "collapse_jumps": None if threshold is None else bool(threshold.jumps),
        "minority": minority(problem, minimum),
        "dtype": str(certificates.dtype),
        "starts": verification.num_starts,
        "verdicts": {v.name: verification.verdicts.count(v) for v in Verdict},
        "geometry_matches": verification.num_matching,
        "seconds": seconds,
        "runs": runs,
        **_of_targets(verification),
    }


def _of_targets(verification: Verification) -> dict[str, Any]:
    """The largest target metrics of all runs, where there are targets."""
    problem, points = verification.problem, verification.solutions.params
    if not problem.has_targets:
        return {}
    found = [target_metrics(problem, entry(points, i)) for i in range(verification.num_starts)]
    names = ("nrc1", "nrc2", "nrc3", "tag_average")
    return {"target_metrics": {n: float(np.max([getattr(x, n) for x in found])) for n in names}}


def minority(problem: Problem, minimum: GlobalMinimum) -> str:
    """Which classes of an imbalanced problem have merged or vanished at its minimum, and why."""
    if problem.per_class is not None or not minimum.is_exact:
        return ""
    if not answers(problem, "minority_thresholds"):
        return ""
    found = minority_thresholds(problem, exact_only=True).sentence()
    return found and f"{found}; the minimum has rank {minimum.rank}"


def loss_arrays(verification: Verification, save: str) -> dict[str, Any]:
    """The arrays to store: histories, and W, H, b of the "best" run, of "all", or of "none"."""
    solutions = verification.solutions
    history = {f"history_{field}": getattr(solutions.history, field) for field in HISTORY}
    problem = verification.problem
    groups = {"labels": problem.labels}
    if problem.has_targets:  # no file of a classifier
        groups = {"groups": problem.labels, "targets": problem.targets}
    arrays: dict[str, Any] = {
        **groups,
        "value": solutions.value,
        "verdict": verification.certificates.verdict,
        "gap": verification.certificates.gap,
        **history,
    }
    if save != "none":
        chosen: Params = solutions.params
        if save == "best":
            best = lowest(np.asarray(solutions.value).tolist())
            chosen = entry(chosen, best)
            arrays["start"] = best
        arrays |= {"W": chosen.W, "H": chosen.H}
        if chosen.b is not None:
            arrays["b"] = chosen.b
    return {key: np.asarray(array) for key, array in arrays.items()}


def lowest(values: Sequence[float | None]) -> int:
    """The index of the run with the lowest f; 0 if no value is finite."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    return int(np.argmin(np.where(np.isfinite(numbers), numbers, np.inf)))
