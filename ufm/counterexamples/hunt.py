r"""Hunt for counterexamples: local minima that are not global.

Try i draws a problem (`ufm.counterexamples.search_space`) from `fold_in(key, i)`, so that it can be
repeated alone. It examines

- the origin, and the symmetric critical point with ρ > 0 (`ufm.minimum.global_minimum.frame`),
- the end points of Newton runs from random starts at several scales,
- the end points of runs from the frame with the rows and features of some classes set to zero
  ("dead" classes).

All points are those of the problem of class means, so that nothing depends on n. A point counts as
found if

    ‖∇f‖ ≤ 1e-10,   all eigenvalues of ∇²f positive except the zeros that rotations force,
    f > (the value of another examined point) · (1 + 1e-8),

with eigenvalues over all features as in `ufm.certificates.second_order`. Like LOCAL_MINIMUM, this
is a numerical statement about a critical point nearby. The point is not global because another
point has a lower value; no bound is used.

    >>> space = SearchSpace((Focal(2.0), Focal(4.0)), num_classes=(4,))
    >>> hunt(space, key, tries=2).explain()
    'no local minimum that is not global in any of 2 tries; ...'
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ufm._support.shown import Shown
from ufm.certificates.second_order import all_positive, curvature_margin, means_spectrum
from ufm.collapse.origin import origin
from ufm.counterexamples.search_space import SearchSpace
from ufm.hessian import Spectrum, has_frame, rank_of
from ufm.minimum.global_minimum import frame
from ufm.model.class_means import from_class_means, reduced_problem
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params, norm
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.solvers import default_tol, solve

#: Largest gradient norm of a critical point.
CRITICAL = 1e-10
#: A local minimum is spurious if f exceeds a lower value by more than this fraction of it.
EXCESS = 1e-8
#: Standard deviations of random starts. Runs from small ones all follow the same saddles.
_SCALES = (0.1, 1.0, 3.0)
#: Number of starts with dead classes in a try, and their noise relative to the size of the frame.
_DEAD_STARTS, _NOISE = 2, 1e-2
#: Features, or differences of features, shorter than this fraction of the longest count as zero.
_DEAD = 0.1


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
        return Params(means.W, from_class_means(self.problem, means.H), means.b)

    @property
    def excess(self) -> float:
        """f minus the lower value."""
        return self.value - self.lower_value

    @property
    def rate(self) -> float:
        """μ√n, through which alone n and the decays affect the landscape of class means."""
        return rate(self.problem)

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
            f"{p.loss.label()}, K={p.num_classes}, n={p.per_class}, μ√n={self.rate:.6g}: "
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


def hunt(
    space: SearchSpace,
    key: Key[Array, ""],
    tries: int = 50,
    on_done: Callable[[Attempt], None] = lambda _: None,
) -> Hunt:
    """Search random problems for local minima that are not global.

    Args:
        space: The losses, sizes and decays to draw from.
        key: Random key; try i depends only on it and on i.
        tries: Number of problems.
        on_done: Called with each try.

    Returns:
        Every try, and every spurious minimum found.

    Raises:
        ValueError: `tries` is below 1.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    attempts = []
    for number in range(tries):
        attempts.append(attempt(space, key, number))
        on_done(attempts[-1])
    return Hunt(space, tuple(attempts))


def attempt(space: SearchSpace, key: Key[Array, ""], number: int) -> Attempt:
    """Make only try `number` of the hunt with this key."""
    draw, look = jax.random.split(jax.random.fold_in(key, number))
    problem = space.draw(draw)
    return examine(problem, candidates(problem, look), number)


def candidates(problem: Problem, key: Key[Array, ""]) -> Iterator[tuple[str, Params]]:
    """Points of the K-column problem to examine, and their origins."""
    small = reduced_problem(problem, problem.dim)
    yield "origin", origin(small)
    base = frame(problem, small) if has_frame(problem) else None
    if base is not None:
        yield "frame", base
    for i, scale in enumerate(_SCALES):
        start = init_params(small, jax.random.fold_in(key, i), scale)
        yield f"run from scale {scale:g}", solve(small, start).params
    for i in range(_DEAD_STARTS):
        local = jax.random.fold_in(key, len(_SCALES) + i)
        start = init_params(small, local, 1.0) if base is None else base
        dead = int(jax.random.randint(local, (), 1, max(problem.num_classes - 1, 2)))
        start = without_classes(start, dead, local)
        yield f"run from {dead} dead classes", solve(small, start).params


def without_classes(point: Params, dead: int, key: Key[Array, ""]) -> Params:
    """Set the rows and features of random classes to zero, and add a little noise."""
    order, noise = jax.random.split(key)
    classes = point.W.shape[0]
    alive = jnp.ones(classes).at[jax.random.permutation(order, classes)[:dead]].set(0.0)
    point = Params(point.W * alive[:, None], point.H * alive[None, :], point.b)
    leaves, structure = jax.tree.flatten(point)
    keys = jax.random.split(noise, len(leaves))
    moved = [
        x + _NOISE * jnp.max(jnp.abs(x)) * jax.random.normal(k, x.shape, x.dtype)
        for x, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def converged(small: Problem, start: Params) -> Params:
    """The end of a Newton run with a tolerance a thousand times smaller than the default.

    The uncertainty of a curvature is proportional to the square root of the gradient; see
    `ufm.certificates.second_order.curvature_margin`.
    """
    return solve(small, start, tol=1e-3 * float(default_tol(small, np.float64))).params


def examine(problem: Problem, points: Iterable[tuple[str, Params]], number: int = -1) -> Attempt:
    """Sort points of the K-column problem into lowest, saddles, spurious minima and undecided."""
    small = reduced_problem(problem, problem.dim)
    values = [(_value_and_grad_norm(small, point)[0], by, point) for by, point in points]
    best = min(value for value, _, _ in values)
    lower = next(by for value, by, _ in values if value - best <= EXCESS * abs(best))
    kinds: list[str] = []
    found: list[SpuriousMinimum] = []
    for value, found_by, point in values:
        if value - best > EXCESS * abs(best):
            point = converged(small, point)
        value, grad_norm = _value_and_grad_norm(small, point)
        if value - best <= EXCESS * abs(best):
            kinds.append("lowest")
            continue
        spectrum = means_spectrum(problem, point)
        kind = classify(small, point, grad_norm, spectrum)
        kinds.append(kind)
        rank = rank_of(point)
        known = any(abs(x.value - value) <= EXCESS * abs(value) and x.rank == rank for x in found)
        if kind == "minimum" and spectrum is not None and not known:
            found.append(
                SpuriousMinimum(
                    problem=problem,
                    means=point,
                    value=value,
                    lower_value=best,
                    lower=lower,
                    grad_norm=grad_norm,
                    index=spectrum.negative or 0,
                    zeros=spectrum.zero or 0,
                    gauge_dimension=spectrum.gauge_dimension,
                    smallest=smallest_nonzero(spectrum),
                    rank=rank,
                    dead_classes=dead_classes(point),
                    found_by=found_by,
                    attempt=number,
                )
            )
    return Attempt(
        number=number,
        problem=problem,
        lowest=kinds.count("lowest"),
        saddles=kinds.count("saddle"),
        undecided=kinds.count("undecided"),
        found=tuple(found),
        points=len(values),
    )


def _value_and_grad_norm(problem: Problem, point: Params) -> tuple[float, float]:
    value, gradient = value_and_gradient(problem, point)
    return float(value), float(norm(gradient))


def classify(small: Problem, point: Params, grad_norm: float, spectrum: Spectrum | None) -> str:
    """Whether a point is a "minimum", a "saddle", or "undecided", given its gradient."""
    if spectrum is None or not grad_norm <= CRITICAL:
        return "undecided"
    margin = curvature_margin(small, point, grad_norm)
    if all_positive(spectrum, margin):
        return "minimum"
    down = float(np.min(spectrum.eigenvalues + spectrum.residuals))
    return "saddle" if down < -margin else "undecided"


def smallest_nonzero(spectrum: Spectrum) -> float:
    """The smallest eigenvalue that is not a zero of rotations."""
    nonzero = spectrum.eigenvalues[np.abs(spectrum.eigenvalues) > spectrum.zero_tol]
    return float(nonzero[np.argmin(np.abs(nonzero))])


def dead_classes(point: Params) -> int:
    """Number of classes whose feature is near zero, or near that of another class.

    A few dead classes have zero features; more of them share one, opposite to the mean of the rest.
    """
    products = np.asarray(point.H.T @ point.H)
    squares = np.diag(products)
    apart = squares[:, None] + squares[None, :] - 2.0 * products
    np.fill_diagonal(apart, np.inf)
    short = _DEAD**2 * np.max(squares)
    return int(np.sum((squares < short) | (np.min(apart, axis=1) < short)))


def rate(problem: Problem) -> float:
    """μ√n of a balanced problem."""
    return float(problem.mu()) * (problem.num_columns / problem.num_classes) ** 0.5
