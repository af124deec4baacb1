r"""The global minimum of a contrastive problem, with its proof.

- **Balanced full batch**, K ≤ d+1: a simplex ETF, f* = log(n−1+(N−n)e^{−K/((K−1)τ)}) (Graf et al.,
  2021). It is a lower bound for every K.
- **Any class counts, full batch**: the convex problem of K columns (`reduced`), solved in d = K,
  where no second-order point is spurious, and certified. Attained for d ≥ rank C. Classes of one
  sample are negatives alone, and end in one direction.
- **H ≥ 0**, d ≥ K, any counts and batches: an orthogonal frame, each cosine at its own bound (Kini
  et al., 2024).
- **Fixed batches**: the best of several runs, if it is certified. Features of a class may differ.

Otherwise `is_exact` is False, and `value` is the best value that was found.

    >>> contrastive = ContrastiveProblem(class_counts=(12, 12, 2, 2), dim=4, temperature=1.0)
    >>> minimum = global_minimum(contrastive)
    >>> minimum.kind, minimum.rank, minimum.cosines.round(2).tolist()[0]
    ('imbalanced', 3, [1.0, -0.81, -0.25, -0.25])
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import entry, pytree, static
from ufm._support.random_numbers import generator
from ufm._support.rank import matrix_rank
from ufm.collapse.metrics import orthonormal_columns
from ufm.minimum.minimiser import GlobalMinimum, is_proven
from ufm.model.params import Params
from ufm.solvers import solve_many
from ufm.variants.contrastive.dual_bound import (
    Gram,
    closed_bound,
    cosines,
    frame_cosines,
    infimum,
    same_class,
    slopes_at,
    tangent_bound,
)
from ufm.variants.contrastive.pairs import changed, reduced
from ufm.variants.contrastive.problem import ContrastiveProblem

#: Runs where a single one may end elsewhere.
_TRIES = 12
#: Most columns that are solved for.
_MOST_COLUMNS = 600


@pytree()
class ContrastiveMinimum(GlobalMinimum):
    """The minimum value, a proven lower bound, and one minimiser up to rotation.

    `columns` (rank, m) are the features of the m = K classes, or of the m = N samples with fixed
    batches or where the best point found has no such form; None if nothing was found. `logits` is
    (0, K): there is no classifier.
    """

    columns: Any = None
    #: The geometry, if `is_exact`.
    geometry: str = static(default="")

    @property
    def kind(self) -> str:
        """Name the geometry: simplex ETF, orthogonal frame, imbalanced, fixed batches."""
        return self.geometry if self.is_exact else "unknown"

    @property
    def cosines(self) -> Gram:
        """The cosines of `columns`, (m, m)."""
        return cosines(self.columns)

    def params(self, key: Key[Array, ""] | None = None, dtype: Any = None) -> Params:
        """Build H with f = `value`, in a random orientation; of H ≥ 0, in a random order of axes.

        Without a key features lie along the first axes. Raises `ValueError` if no point is known.
        """
        if self.columns is None:
            raise ValueError(f"no minimiser is known: {self.reason}")
        problem, dtype = self.problem, dtype or jnp.result_type(float)
        turn = np.eye(problem.dim)[:, : self.rank]
        if key is not None and problem.features is None:
            turn = np.asarray(orthonormal_columns(key, problem.dim, self.rank))
        elif key is not None:
            random, words = generator(key, problem.dim)
            order = np.argsort(np.asarray(random.normal(words, (problem.dim,), float)))
            turn = np.eye(problem.dim)[:, order[: self.rank]]
        H = turn @ self.columns
        if H.shape[1] != problem.num_columns:
            H = H[:, problem.labels]
        H = H / np.linalg.norm(H, axis=0)
        return Params(jnp.zeros((0, problem.dim), dtype), jnp.asarray(H, dtype), None)


def minimum_of(problem: ContrastiveProblem) -> ContrastiveMinimum:
    """f* with a proof if one is known; see `ufm.global_minimum`."""
    if np.ndim(problem.temperature):
        raise ValueError("the problem is a batch: call global_minimum once for each of its entries")
    classes, bound = problem.num_classes, closed_bound(problem).lower
    if problem.features is not None:
        if problem.dim >= classes:
            why = "every cosine at its own bound"
            return _found(problem, np.eye(classes), bound, why, "orthogonal frame")
        why = f"the lower bound is attained only in dimension {classes} or more"
        return _searched(problem, problem, bound, f"{why}, and dim={problem.dim}")
    if problem.batches is not None:
        return _of_batches(problem, bound)
    if problem.per_class is not None and classes <= problem.dim + 1:
        why = "symmetric minimum, proven by its bound"
        columns = factors(frame_cosines(classes), classes - 1)
        return _found(problem, columns, bound, why, "simplex ETF")
    return _of_classes(problem, bound)


def _of_classes(problem: ContrastiveProblem, bound: float) -> ContrastiveMinimum:
    """Full batch: the problem of K columns, in d = K for the bound, or in d where that is less."""
    small, classes = reduced(problem), problem.num_classes
    if classes > _MOST_COLUMNS:
        return _nothing(problem, bound, f"{classes} classes would take minutes")
    if problem.per_class is not None:  # a simplex ETF in d = K has the closed value
        why = f"the lower bound is attained only in dimension {classes - 1} or more"
        why = f"{why}, and dim={problem.dim}"
        return _searched(problem, changed(small, dim=problem.dim), bound, why)
    H = _solved(small, 1)[0]
    bound = max(bound, tangent_bound(small, cosines(H)).lower)
    rank = matrix_rank(H)
    found = _found(problem, factors(cosines(H), rank), bound, "", "imbalanced")
    closed, why = _is_closed(problem, found), "the problem of class means was not certified"
    if rank <= problem.dim:
        if closed:
            why = "problem of class means, certified by duality"
        return dataclasses.replace(found, is_exact=closed, reason=why)
    if closed:
        why = f"the lower bound is attained only in dimension {rank} or more, and dim={problem.dim}"
    return _searched(problem, changed(small, dim=problem.dim), bound, why)


def _of_batches(problem: ContrastiveProblem, bound: float) -> ContrastiveMinimum:
    """Fixed batches: the best of several runs; the bound may come from a higher dimension."""
    if problem.num_columns > _MOST_COLUMNS:
        return _nothing(problem, bound, f"{problem.num_columns} samples would take minutes")
    for tries in (1, _TRIES):
        why = "no run reaches the lower bound"
        best = _searched(problem, problem, bound, why, tries)
        at_best = tangent_bound(problem, cosines(best.columns)).lower
        best = dataclasses.replace(best, lower_bound=max(bound, at_best))
        if _is_closed(problem, best):
            break
    else:
        # Of rank above √(2N) there are no spurious minima (Boumal, Voroninski & Bandeira, 2016).
        free = min(problem.num_columns, int((2 * problem.num_columns) ** 0.5) + 2)
        higher = changed(problem, dim=max(problem.dim, free))
        above = tangent_bound(problem, cosines(_solved(higher, 1)[0])).lower
        best = dataclasses.replace(best, lower_bound=max(best.lower_bound, above))
    if not _is_closed(problem, best):
        return best
    why = "the best of the runs, certified by duality"
    return dataclasses.replace(best, is_exact=True, reason=why, geometry="fixed batches")


def _searched(
    problem: ContrastiveProblem,
    columns: ContrastiveProblem,
    bound: float,
    why: str,
    tries: int = _TRIES,
) -> ContrastiveMinimum:
    """The best of several runs of this problem or of its K columns."""
    if columns.num_columns > _MOST_COLUMNS:
        return _nothing(problem, bound, f"{why}; {columns.num_columns} columns would take minutes")
    best = min(_solved(columns, tries), key=lambda H: slopes_at(columns, cosines(H)).value)
    reason = f"{why}; value is the best found in {tries} run{'s' * (tries > 1)}"
    features = best if problem.features is not None else factors(cosines(best), matrix_rank(best))
    return dataclasses.replace(_found(problem, features, bound, reason, ""), is_exact=False)


def _solved(problem: ContrastiveProblem, tries: int) -> list[Float[np.ndarray, "d m"]]:
    """The ends of runs from random starts; the key only fixes them."""
    runs = solve_many(problem, jax.random.key(0), num_starts=tries, tol=1e-12)
    ends = [np.array(entry(runs.params, i).H, float) for i in range(tries)]
    return [H / np.linalg.norm(H, axis=0) for H in ends]


def _found(
    problem: ContrastiveProblem, columns: Any, bound: float, reason: str, geometry: str
) -> ContrastiveMinimum:
    small = problem
    if columns.shape[1] != problem.num_columns and problem.features is None:
        small = reduced(problem)
    X = cosines(columns)
    if len(X) != small.num_columns:
        X = same_class(problem)
    return ContrastiveMinimum(
        value=slopes_at(small, X).value,
        lower_bound=bound,
        is_exact=True,
        logits=np.zeros((0, problem.num_classes)),
        bias=None,
        rank=len(columns),
        problem=problem,
        reason=reason,
        columns=columns,
        geometry=geometry,
    )


def _nothing(problem: ContrastiveProblem, bound: float, why: str) -> ContrastiveMinimum:
    return ContrastiveMinimum(
        value=np.nan,
        lower_bound=bound,
        is_exact=False,
        logits=np.zeros((0, problem.num_classes)),
        bias=None,
        rank=0,
        problem=problem,
        reason=f"not computed: {why}",
    )


def _is_closed(problem: ContrastiveProblem, found: ContrastiveMinimum) -> bool:
    return is_proven(found.value, found.lower_bound, infimum(problem))


def factors(X: Gram, rank: int) -> Float[np.ndarray, "r m"]:
    """Unit columns with these cosines, from the largest `rank` eigenvalues."""
    values, vectors = np.linalg.eigh(X)
    columns = np.sqrt(np.maximum(values[-rank:], 0.0))[:, None] * vectors[:, -rank:].T
    return columns / np.linalg.norm(columns, axis=0)
