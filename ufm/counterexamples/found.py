"""What a hunt found: local minima that are not global, and the numbers of its tries."""

import dataclasses

from ufm._support.shown import Shown
from ufm.counterexamples.search_space import SearchSpace
from ufm.model.class_means import from_class_means
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.minimum import relative_decay


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpuriousMinimum(Shown):
    """A local minimum that is not global.

    `means` are W, √n_k h̄_k (d×K) and b. `index`, `zeros` and `smallest` (the smallest eigenvalue
    that is not zero) are those of ∇²f over all N features; rotations force `gauge_dimension` zeros.
    `lower_value` is f at another point of the same problem, and `lower` names that point.
    """

    problem: Problem
    means: Params
    value: float
    lower_value: float
    lower: str
    grad_norm: float
    index: int
    zeros: int
    gauge_dimension: int
    smallest: float
    rank: int
    dead_classes: int
    found_by: str
    attempt: int = -1

    _printed = ("problem", "kind", "value", "excess", "index", "zeros", "smallest")

    @property
    def params(self) -> Params:
        """W, H (d×N) and b."""
        means = self.means
        return dataclasses.replace(means, H=from_class_means(self.problem, means.H))

    @property
    def excess(self) -> float:
        """f minus the lower value."""
        return self.value - self.lower_value

    @property
    def rate(self) -> float:
        """μ√n, through which alone n and the decays affect the landscape of class means.

        With M factors it is Λ n^{1/M}.
        """
        return rate(self.problem)

    @property
    def model(self) -> str:
        """The loss, and the number of factors if there are more than two."""
        factors = len(self.problem.lam_hidden) + 2
        return self.problem.loss.label() + (f", {factors} factors" if factors > 2 else "")

    @property
    def kind(self) -> str:
        """Name the geometry."""
        if self.rank == 0:
            return "origin"
        if self.dead_classes:
            return f"{self.dead_classes} dead classes"
        return "simplex ETF" if self.rank == self.problem.num_classes - 1 else f"rank {self.rank}"

    def explain(self) -> str:
        """Describe the minimum in one line."""
        p = self.problem
        return (
            f"{self.model}, K={p.num_classes}, n={p.per_class}, {rate_name(p)}={self.rate:.6g}: "
            f"{self.kind}, f={self.value:.10g} is {self.excess:.3g} above {self.lower}; "
            f"{self.index} negative, {self.zeros} zero ({self.gauge_dimension} by rotations), "
            f"smallest other {self.smallest:.3e}, |grad f|={self.grad_norm:.1e}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Attempt:
    """The problem of one try, and its numbers of points of each kind.

    `lowest`: at the lowest value; `saddles`: above it, with a negative eigenvalue; `undecided`:
    above it and neither a proven saddle nor a minimum, or not critical to 1e-10.
    """

    number: int
    problem: Problem
    lowest: int
    saddles: int
    undecided: int
    found: tuple[SpuriousMinimum, ...]
    points: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Hunt(Shown):
    """The results of all tries of a hunt."""

    space: SearchSpace
    attempts: tuple[Attempt, ...]

    _printed = ("found", "points", "undecided", "attempts", "space")

    @property
    def found(self) -> tuple[SpuriousMinimum, ...]:
        """All local minima that are not global, in the order of the tries."""
        return tuple(each for attempt in self.attempts for each in attempt.found)

    @property
    def points(self) -> int:
        """Number of examined points."""
        return sum(attempt.points for attempt in self.attempts)

    @property
    def undecided(self) -> int:
        """Number of undecided points."""
        return sum(attempt.undecided for attempt in self.attempts)

    @property
    def saddles(self) -> int:
        """Number of critical points with a negative eigenvalue, above the lowest value."""
        return sum(attempt.saddles for attempt in self.attempts)

    def explain(self) -> str:
        """Describe the search and its results in one sentence."""
        successful = sum(bool(attempt.found) for attempt in self.attempts)
        what = f"{len(self.found)} local minima that are not global, in {successful}"
        return (
            f"{what if self.found else 'no local minimum that is not global in any'} of "
            f"{len(self.attempts)} tries; of {self.points} points {self.saddles} are saddles and "
            f"{self.undecided} undecided"
        )


def rate_name(problem: Problem) -> str:
    """The symbol of `rate`."""
    return "Λn^(1/M)" if problem.lam_hidden else "μ√n"


def rate(problem: Problem) -> float:
    """μ√n of a balanced problem, or Λ n^{1/M}."""
    if problem.lam_hidden:
        return relative_decay(problem)
    return float(problem.mu()) * (problem.num_columns / problem.num_classes) ** 0.5
