r"""The decays at which a point stays a local minimum that is not global, by continuation.

With everything but μ√n fixed (λ_W and λ_H change by one factor), the point is followed by Newton
runs, each from the last point that was still good, as long as

    all eigenvalues but the rotations' are positive,  f > f*,

f* the value of the best symmetric point at that decay. That is the global minimum wherever one is
proven, which with a trained bias and (K−1)μ√n > 1 the focal loss's is not: "becomes global" then
says no more than that the point is the best symmetric one. The ends are bracketed by growing steps
and bisected. At an end a minimum becomes unstable, becomes global, or meets a saddle and is gone:
`event` says which. Beyond a fold the run ends elsewhere, at another rank or with other classes
dead, so that it is never mistaken for the point. For the origin and the simplex ETF without a bias
the ends are known: `ufm.landscape.phases`.

    >>> spurious_interval(hunt(space, key).found[0])
"""

import dataclasses
from typing import NamedTuple

from ufm.class_means import reduced_problem
from ufm.curvature import means_spectrum
from ufm.hessian import rank_of
from ufm.landscape.hunt import CRITICAL, SpuriousMinimum, converged, dead_classes
from ufm.params import Params, norm
from ufm.problem import Problem, value_and_gradient
from ufm.symmetric import symmetric_minimum

#: Relative size of the first step away from the point that was found; doubled while all is well.
_FIRST_STEP = 1e-3
#: Decays beyond these multiples of the first are not followed.
_FARTHEST = 20.0
#: A value that exceeds f* by less than this part of it is f*.
_SAME = 1e-12


class End(NamedTuple):
    """One end of an interval of μ√n: the last good value, the first bad one, what happens there.

    `event`: "becomes global", "becomes unstable", "disappears", "is no longer decided", or
    "not reached" for an end that lies beyond twenty times the first decay.
    """

    inside: float
    outside: float
    event: str

    @property
    def rate(self) -> float:
        """The middle of the bracket."""
        return 0.5 * (self.inside + self.outside)


@dataclasses.dataclass(frozen=True)
class Interval:
    """The ends, and the relative width of their brackets; `problems` is how many were solved."""

    lower: End
    upper: End
    accuracy: float
    problems: int


def spurious_interval(minimum: SpuriousMinimum, accuracy: float = 1e-6) -> Interval:
    """All decays about that of the point at which it is a local minimum that is not global.

    Raises `ValueError` for an accuracy that is not between 1e-9 and 1.
    """
    if not 1e-9 <= accuracy < 1:
        raise ValueError(f"accuracy must be in [1e-9, 1), got {accuracy}")
    branch = _Branch(minimum)
    lower, upper = (branch.end(direction, accuracy) for direction in (-1, 1))
    return Interval(lower, upper, accuracy, branch.problems)


class _Branch:
    """The point as a function of the decay; remembers where it was last good, on either side."""

    def __init__(self, minimum: SpuriousMinimum) -> None:
        self.problem, self.rate = minimum.problem, minimum.rate
        self.start = minimum.means
        self.rank, self.dead = minimum.rank, minimum.dead_classes
        self.problems = 0

    def end(self, direction: int, accuracy: float) -> End:
        """Steps that double until one fails, then halves of the last."""
        good, point, step = 1.0, self.start, _FIRST_STEP
        while True:
            trial = good * (1.0 + step) ** direction
            if not 1 / _FARTHEST < trial < _FARTHEST:
                return End(self.rate * good, self.rate * good, "not reached")
            event, found = self.at(trial, point)
            if event:
                break
            good, point, step = trial, found, 2 * step
        bad = trial
        while abs(bad - good) > accuracy * good:
            middle = 0.5 * (good + bad)
            what, found = self.at(middle, point)
            if what:
                bad, event = middle, what
            else:
                good, point = middle, found
        return End(self.rate * good, self.rate * bad, event)

    def at(self, factor: float, near: Params) -> tuple[str, Params]:
        """What is wrong with the point at a multiple of the first decay ("" if nothing)."""
        self.problems += 1
        problem = scaled(self.problem, factor)
        small = reduced_problem(problem, problem.dim)
        point = converged(small, near)
        value, gradient = value_and_gradient(small, point)
        same = rank_of(point) == self.rank and dead_classes(point) == self.dead
        if not same or not float(norm(gradient)) <= CRITICAL:
            return "disappears", point
        spectrum = means_spectrum(problem, point)
        if spectrum is None or spectrum.definite_modulo_gauge is None:
            return "is no longer decided", point
        if not spectrum.definite_modulo_gauge:
            return "becomes unstable", point
        lowest = float(symmetric_minimum(problem).value)
        if float(value) - lowest <= _SAME * abs(lowest):
            return "becomes global", point
        return "", point


def scaled(problem: Problem, factor: float) -> Problem:
    """The problem with λ_W and λ_H, and so μ, times a factor."""
    return dataclasses.replace(problem, lam_w=problem.lam_w * factor, lam_h=problem.lam_h * factor)
