"""The points of one run at increasing numbers of steps: how W, H and b collapse.

A solver's history has only numbers, because points would fill the memory of a batch. But a run is a
pure function of its start, so that stopping it after t steps gives its point there. The stopped
runs use the program of the whole run with a smaller `max_steps`, and equal its prefixes bit for
bit.

    >>> path = trajectory(problem, init_params(problem, key), num_points=3)
    >>> path.metrics.nc1.shape, float(path.metrics.nc1[-1]) < 1e-9
    ((3,), True)
"""

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from ufm._support.pytree import entry, pytree, stacked
from ufm._support.shown import Shown
from ufm._support.threads import in_order
from ufm.collapse.metrics import NCMetrics, nc_metrics
from ufm.model.problem import Params, Problem
from ufm.solvers import DEFAULT_METHOD, Solution, prepared_run

#: Number of points of a trajectory. Newton's runs have about 20 steps; longer runs are thinned.
NUM_POINTS = 32


@pytree()
class Trajectory(Shown):
    """Points of one run; every array has a leading axis over T steps.

    `params` at step t is the result of a run of at most t steps: the best point until then.
    `products` counts passes over the data, as in `Solution`.
    """

    step: Int[Array, " T"]
    products: Int[Array, " T"]
    value: Float[Array, " T"]
    metrics: NCMetrics
    params: Params

    def point(self, moment: int) -> Params:
        """W, H, b at one of the recorded steps; −1 is the end."""
        return entry(self.params, moment)


def trajectory(
    problem: Problem,
    start: Params,
    *,
    method: str = DEFAULT_METHOD,
    tol: float | None = None,
    max_steps: int | None = None,
    num_points: int = NUM_POINTS,
) -> Trajectory:
    """Compute the points of a run of `solve` at some steps of its history.

    The first point is the start, the last is the solution. The cost is about `num_points` / 2 runs.

    Args:
        problem: The problem.
        start: The start: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        method: As for `solve`.
        tol: As for `solve`.
        max_steps: As for `solve`.
        num_points: Largest number of points.

    Returns:
        Steps, values, NC metrics and points, with a leading axis over the steps.

    Raises:
        ValueError: As for `solve`.
    """
    if num_points < 2:
        raise ValueError(f"num_points must be at least 2, got {num_points}")
    run, compiled = prepared_run(problem, start, method, tol, times=num_points)
    end = run(max_steps)
    steps = _thin(np.asarray(end.history.step), num_points)

    def stopped(moment: int) -> Solution:
        return jax.block_until_ready(run(int(steps[moment])))

    solutions = [*in_order(stopped, len(steps) - 1, parallel=compiled), end]
    points = [solution.params for solution in solutions]
    return Trajectory(
        step=jax.device_put(steps),
        products=stacked([solution.num_products for solution in solutions]),
        value=stacked([solution.value for solution in solutions]),
        metrics=stacked([nc_metrics(problem, point) for point in points]),
        params=stacked(points),
    )


def _thin(steps: Int[np.ndarray, " S"], count: int) -> Int[np.ndarray, " T"]:
    """Thin the steps of a history evenly; they are dense at first, like the history itself."""
    used = steps[steps >= 0]
    return used[np.unique(np.linspace(0, len(used) - 1, count).round().astype(int))]
