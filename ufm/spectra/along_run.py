"""Spectra along a run, at points that are neither collapsed nor critical.

Counts of eigenvalues are exact nevertheless. The smallest and the largest eigenvalue are found by
counting (`ufm.hessian.counts.inertia`). All are modulo rotations: f is constant along these, and
away from critical points ∇²f there is not a curvature of f (`ufm.hessian.counts.orbit`).

    >>> path = spectrum_along(problem, trajectory(problem, params, num_points=3))
    >>> int(path.negative[-1]), int(path.zero[-1])
    (0, 0)
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from ufm._support.shown import Shown
from ufm.hessian import eigenvalue_bracket, inertia
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant
from ufm.runs.trajectory import Trajectory


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpectrumPath(Shown):
    """Eigenvalues of ∇²f modulo rotations at T steps of one run.

    `negative`, `zero` and `positive` count those below, within and above ±`zero_tol`, and
    `rotations` the directions left out; `smallest` and `largest` are known to ±`error`.
    """

    step: Int[np.ndarray, " T"]
    products: Int[np.ndarray, " T"]
    value: Float[np.ndarray, " T"]
    negative: Int[np.ndarray, " T"]
    zero: Int[np.ndarray, " T"]
    positive: Int[np.ndarray, " T"]
    rotations: Int[np.ndarray, " T"]
    smallest: Float[np.ndarray, " T"]
    largest: Float[np.ndarray, " T"]
    error: Float[np.ndarray, " T"]
    zero_tol: float
    reliable: bool

    _printed = ("step", "negative", "zero", "smallest", "largest", "error", "reliable")


@by_variant
def spectrum_along(
    problem: Problem, path: Trajectory, on_done: Callable[[], None] = lambda: None
) -> SpectrumPath:
    """Count the eigenvalues of ∇²f modulo rotations by sign, and find both ends, along a run.

    Each point costs about 40 passes over the samples, each linear in N.

    Args:
        problem: The problem.
        path: From `trajectory`.
        on_done: Called after each point.

    Returns:
        Counts and ends, with a leading axis over the points.

    Raises:
        ValueError: A point is not finite, or Kd + K exceeds 10,000.
    """
    counts, ends = [], []
    for moment in range(len(np.asarray(path.step))):
        point = path.point(moment)
        try:
            counts.append(inertia(problem, point, modulo_rotations=True))
            ends.append([_bracket(problem, point, index) for index in (0, -1)])
        except np.linalg.LinAlgError:
            raise ValueError(
                f"at step {int(path.step[moment])} the Hessian's entries overflow: start the run "
                "at a smaller scale"
            ) from None
        on_done()
    low, high = np.asarray(ends).transpose(2, 0, 1)
    negative, zero, positive = (
        np.array([getattr(found, sign) for found in counts])
        for sign in ("negative", "zero", "positive")
    )
    return SpectrumPath(
        step=np.asarray(path.step),
        products=np.asarray(path.products),
        value=np.asarray(path.value),
        negative=negative,
        zero=zero,
        positive=positive,
        rotations=problem.num_parameters - negative - zero - positive,
        smallest=(low[:, 0] + high[:, 0]) / 2,
        largest=(low[:, 1] + high[:, 1]) / 2,
        error=np.max(high - low, axis=1) / 2,
        zero_tol=max(max(found.upper, -found.lower) for found in counts),
        reliable=all(found.reliable for found in counts),
    )


def _bracket(problem: Problem, point: Params, index: int) -> tuple[float, float]:
    """Enclose an eigenvalue, to a hundredth of the decays, or finer if it is near zero."""
    decays = float(problem.lam_w + problem.lam_h)
    bracket = functools.partial(eigenvalue_bracket, problem, point, index, modulo_rotations=True)
    if not decays > 0:
        return bracket()
    low, high = bracket(tol=1e-2 * decays)
    if min(abs(low), abs(high)) > 20 * (high - low):
        return low, high
    return bracket(tol=1e-6 * decays)
