r"""Hunt for counterexamples: local minima that are not global.

Try i draws a problem (`ufm.counterexamples.search_space`) from `fold_in(key, i)`, so that it can be
repeated alone. It examines

- the origin, and the symmetric critical point with ρ > 0 (`ufm.minimum.global_minimum.frame`),
- the end points of Newton runs from random starts at several scales,
- the end points of runs from the frame with the rows and features of some classes set to zero
  ("dead" classes);

with hidden layers the origin, structured points (`ufm.minimum.structures`) and ends of runs.

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
import numpy as np
from jaxtyping import Array, Key

from ufm._support.random_numbers import generator
from ufm.certificates.second_order import all_positive, curvature_margin, means_spectrum
from ufm.collapse.origin import origin
from ufm.counterexamples import hidden_layers as deep
from ufm.counterexamples.found import Attempt, Hunt, SpuriousMinimum
from ufm.counterexamples.search_space import SearchSpace
from ufm.hessian import Spectrum, has_frame, rank_of
from ufm.minimum.global_minimum import frame
from ufm.model import objective
from ufm.model.class_means import reduced_problem
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
    points = deep.candidates(problem, look) if problem.lam_hidden else candidates(problem, look)
    return examine(problem, points, number)


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
    alive = np.ones(classes)
    alive[np.asarray(jax.random.permutation(order, classes))[:dead]] = 0.0
    leaves = [np.asarray(point.W) * alive[:, None], np.asarray(point.H) * alive[None, :]]
    if point.b is not None:
        leaves.append(np.asarray(point.b))
    random, noise = generator(noise, sum(x.size for x in leaves))
    W, H, *b = (
        jax.device_put(x + _NOISE * np.max(np.abs(x)) * random.normal(k, x.shape, x.dtype))
        for x, k in zip(leaves, random.split(noise, len(leaves)), strict=True)
    )
    return Params(W, H, b[0] if b else None)


def converged(small: Problem, start: Params) -> Params:
    """The end of a Newton run with a tolerance a thousand times smaller than the default.

    The uncertainty of a curvature is proportional to the square root of the gradient; see
    `ufm.certificates.second_order.curvature_margin`.
    """
    return solve(small, start, tol=1e-3 * float(default_tol(small, np.float64))).params


def examine(problem: Problem, points: Iterable[tuple[str, Params]], number: int = -1) -> Attempt:
    """Sort points of the K-column problem into lowest, saddles, spurious minima and undecided."""
    small = _of_means(problem)
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
        kind, counted = _curvatures(problem, small, point, grad_norm)
        kinds.append(kind)
        rank = deep.rank_of(point) if point.hidden else rank_of(point)
        known = any(abs(x.value - value) <= EXCESS * abs(value) and x.rank == rank for x in found)
        if kind == "minimum" and counted is not None and not known:
            found.append(
                SpuriousMinimum(
                    problem=problem,
                    means=point,
                    value=value,
                    lower_value=best,
                    lower=lower,
                    grad_norm=grad_norm,
                    **dataclasses.asdict(counted),
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


def _of_means(problem: Problem) -> Problem:
    if problem.lam_hidden:
        return deep.of_class_means(problem)
    return reduced_problem(problem, problem.dim)


def _curvatures(
    problem: Problem, small: Problem, point: Params, grad_norm: float
) -> tuple[str, deep.Counted | None]:
    """Whether a point is a "minimum", a "saddle", or "undecided", and its eigenvalues counted."""
    if point.hidden:
        return deep.curvatures(problem, point, grad_norm, CRITICAL)
    spectrum = means_spectrum(problem, point)
    kind = classify(small, point, grad_norm, spectrum)
    if spectrum is None:
        return kind, None
    counts = spectrum.negative or 0, spectrum.zero or 0, spectrum.gauge_dimension
    return kind, deep.Counted(*counts, smallest_nonzero(spectrum))


def _value_and_grad_norm(problem: Problem, point: Params) -> tuple[float, float]:
    value, gradient = (deep if point.hidden else objective).value_and_gradient(problem, point)
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
