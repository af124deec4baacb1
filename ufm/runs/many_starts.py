"""Test the claim of the paper on one problem: solve from many starts, with a verdict for each.

>>> verification = verify(problem, key, num_starts=3)
>>> verification.num_global, verification.worst_gap < 1e-9
(3, True)
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ufm._support.pytree import entry, pytree, stacked, static
from ufm._support.shown import Shown
from ufm.certificates.certificate import Certificate, Verdict, certify
from ufm.collapse.metrics import NCMetrics
from ufm.minimum.geometry_match import GeometryMatch, collapse_metrics, compare_geometry
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.problem import Problem
from ufm.solvers import DEFAULT_METHOD, History, Solution, polish, solve_many


@pytree()
class Verification(Shown):
    """Runs from random starts, each certified; arrays have a leading axis over the starts.

    `metrics` are NaN where a run has collapsed to the origin, which has no geometry.
    """

    problem: Problem
    minimum: GlobalMinimum
    solutions: Solution
    certificates: Certificate
    metrics: NCMetrics
    geometry: tuple[GeometryMatch, ...] = static()

    _printed = ("num_starts", "num_global", "num_matching", "worst_gap", "minimum", "problem")

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts of all runs."""
        return [Verdict(int(code)) for code in np.asarray(self.certificates.verdict)]

    @property
    def history(self) -> History:
        """Value and gradient norm along every run."""
        return self.solutions.history

    @property
    def num_starts(self) -> int:
        return len(self.geometry)

    @property
    def num_global(self) -> int:
        """Number of runs certified to end at a global minimum."""
        return sum(verdict is Verdict.GLOBAL_MINIMUM for verdict in self.verdicts)

    @property
    def num_matching(self) -> int:
        """Number of runs with the predicted geometry (`compare_geometry`)."""
        return sum(bool(match.matches) for match in self.geometry)

    @property
    def worst_gap(self) -> float:
        """The largest certified gap f − (lower bound)."""
        return float(np.max(np.asarray(self.certificates.gap)))


def verify(
    problem: Problem,
    key: Key[Array, ""],
    num_starts: int = 20,
    *,
    scale: float = 0.1,
    method: str = DEFAULT_METHOD,
    tol: float | None = None,
    gap_tol: float | None = None,
    max_steps: int | None = None,
    dtype: Any = None,
    on_done: Callable[[int], None] | None = None,
) -> Verification:
    """Solve from random starts and certify the end point of each run.

    Float32 runs continue in float64 if JAX has it enabled, because certificates need it.

    Args:
        problem: The problem.
        key: Random key; start i uses `fold_in(key, i)`.
        num_starts: Number of starts.
        scale: Standard deviation of their entries.
        method: As for `solve`.
        tol: As for `solve`.
        gap_tol: The tolerance of the gap, as for `certify`.
        max_steps: As for `solve`.
        dtype: float32 or float64; None is JAX's default.
        on_done: Called with the number of each finished run.

    Returns:
        Solutions, certificates, NC metrics and distances to the predicted minimisers of all runs.

    Raises:
        ValueError: As for `solve_many` and `certify`.
    """
    minimum = global_minimum(problem)
    solutions = solve_many(
        problem,
        key,
        num_starts=num_starts,
        scale=scale,
        method=method,
        tol=tol,
        max_steps=max_steps,
        dtype=dtype,
        on_done=on_done,
    )
    if solutions.params.W.dtype != jnp.result_type(float):
        solutions = polish(problem, solutions, tol=tol, max_steps=max_steps)
    points = [entry(solutions.params, i) for i in range(num_starts)]
    geometry = tuple(compare_geometry(problem, point, minimum) for point in points)
    return Verification(
        problem=problem,
        minimum=minimum,
        solutions=solutions,
        certificates=stacked([certify(problem, point, gap_tol) for point in points]),
        metrics=stacked(
            [collapse_metrics(problem, *x) for x in zip(points, geometry, strict=True)]
        ),
        geometry=geometry,
    )
