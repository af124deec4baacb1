r"""The decays at which classes of one size merge, and at which they vanish.

Let L be convex and treat classes alike, and group the classes by size n_k and weight a_k. Averaging
over permutations of a group keeps the minimum, and Z*, with columns √n_k z_k, splits into blocks
that do not see each other in ‖·‖_*: the differences within each group, and what is between groups.
The block of G = ∇g that belongs to a block of Z* has spectral norm at most μ, and below μ only if
the block of Z* is zero.

**Merge.** Two classes i, j of a group have one classifier, bias and class mean iff the block of
their difference is zero. There z_i = z_j, and for the losses of `swap_force`

    (∂_i − ∂_j) L(z, i) = −c      whatever z,

so that the block of G at the merged point is a_k c √n_k/N exactly: **they merge iff
μ ≥ a_k c √n_k/N**, for any other classes and any bias. CE: c = 1; LS: 1 − α; MSE: its target.

**Vanish.** A class vanishes if its classifier and its class mean are zero: if it is merged with its
group and the block between groups is zero. For MSE without bias classes decouple, Z* is diagonal,
and class k vanishes iff μ ≥ a_k κM√n_k/N. Otherwise the block between groups is that of the origin
if no group is alive there, and its threshold the block of G at the origin. If a group is alive,
bisection finds it: at a certified minimum with gap ε a convex L with second derivatives ≤ ℓ has
‖G − G*‖_F ≤ √(2ℓε/N), so that a block of G below μ by more than this proves its block of Z* zero.

With as many small classes as large ones, R times as large, CE merges the small ones iff
(R + 1) K √n_min μ ≥ 2. (Fang et al., PNAS 2021: existence; Hong & Ling, 2023.)

    >>> skewed = Problem(loss=CrossEntropy(), class_counts=(1000, 1000, 100, 100), dim=4,
    ...                  lam_w=5e-3, lam_h=5e-3, lam_b=None)
    >>> minority_thresholds(skewed, exact_only=True).rows[0]
    MinorityThreshold
      size     100
      classes  (2, 3)
      event    merge
      mu       0.004545454545
      low      0.004545454545
      how      √100/2200, exact for any bias and any other classes
      holds    True
"""

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.collapse.origin import origin_bias
from ufm.losses import (
    MSE,
    BinaryCrossEntropy,
    ClassWeighted,
    CrossEntropy,
    LabelSmoothing,
    Loss,
    TemperatureCE,
)
from ufm.minimum.global_minimum import global_minimum
from ufm.model.class_means import class_sizes, reduced_problem
from ufm.model.objective import feature_gradient, logit_gradient
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: Halvings of a bracket whose ends are within a factor of a few.
_HALVINGS = 10
_MERGE = "exact for any bias and any other classes"
_DIAGONAL = "exact: without bias the classes of MSE decouple"
_ORIGIN = "exact: no class is alive beyond it, and the origin is the minimum"
_BRACKET = "bisection, proven at the upper end"


class _Found(NamedTuple):
    """The last fields of a `MinorityThreshold`."""

    mu: float
    low: float
    how: str
    holds: bool


@pytree()
class MinorityThreshold(Shown):
    """The decay μ = √(λ_W λ_H) at and above which classes of `size` samples "merge" or "vanish".

    It is `mu` if low = mu. Otherwise they are proven to at `mu`, and were not found to at `low`;
    that they do at all larger decays is not proven. NaN if nothing was decided. `holds` says
    whether they are proven to at the problem's own decay.
    """

    size: float
    classes: tuple[int, ...] = static()
    event: str = static()
    mu: float
    low: float
    how: str = static()
    holds: bool = static()

    @property
    def is_exact(self) -> bool:
        """Whether a theorem gives the number."""
        return self.low == self.mu


@pytree()
class MinorityThresholds(Shown):
    """What becomes of the classes of each size as the decay grows.

    `rows` go from small classes to large ones; `mu` is the problem's own decay. `reason` says why
    there are no rows. The statements are about the minimum in d ≥ rank Z*, K − 1 or K at most.
    """

    mu: float
    num_samples: float
    rows: tuple[MinorityThreshold, ...]
    reason: str = static(default="")

    _printed = ("mu", "num_samples", "rows", "reason")

    def explain(self) -> str:
        """Say for each size what has happened at the problem's decay, a line for each threshold."""
        return "\n".join(self._line(row) for row in self.rows) or self.reason

    def sentence(self) -> str:
        """What holds at the problem's decay in one line; empty if no threshold is known."""
        vanished = [row.size for row in self.rows if row.holds and row.event == "vanish"]
        past = [
            row
            for row in self.rows
            if row.holds and (row.event == "vanish" or row.size not in vanished)
        ]
        return "; ".join(self._line(row) for row in past or self.rows[:1])

    def _line(self, row: MinorityThreshold) -> str:
        count = len(row.classes)
        who = f"the {count} classes" if count > 1 else f"class {row.classes[0]}"
        past = {"merge": "merged", "vanish": "vanished"}[row.event]
        have, here = "have" if count > 1 else "has", f"μ = {self.mu:.6g}"
        subject = f"{who} of {row.size:g} samples {have}"
        if row.is_exact:
            done, relation = ("", "≥") if row.holds else ("not ", "<")
            return f"{subject} {done}{past}: {here} {relation} {row.mu:.6g} ({row.how})"
        done = "" if row.holds else "not provably "
        return f"{subject} {done}{past} at {here}, from {row.low:.4g}–{row.mu:.4g} on ({row.how})"


@by_variant
def minority_thresholds(problem: Problem, exact_only: bool = False) -> MinorityThresholds:
    """Compute for each class size the decays at which its classes merge and vanish.

    The problem's own decays give only the bias (λ_b) and the ratio λ_W/λ_H, which does not matter.
    A class of a unique size has no other to merge with.

    Args:
        problem: A problem with a convex loss.
        exact_only: Leave out what would take a bisection with a dozen certified minima.

    Returns:
        Rows of size, classes (from 0), event ("merge" or "vanish"), `mu`, and how it is known.

    Raises:
        ValueError: The problem is a batch.
    """
    if np.ndim(problem.mu()):
        raise ValueError("the problem is a batch: call it once for each of its entries")
    sizes = np.asarray(class_sizes(problem), float)
    mu, samples = float(problem.mu()), float(sizes.sum())
    inner, _ = _unweighted(problem.loss)
    if problem.has_targets:
        why = "nothing is decided: no theorem says which groups of samples with targets merge"
        return MinorityThresholds(mu, samples, (), why)
    if not (problem.loss.is_convex() and problem.loss.has_conjugate and inner.equivariant):
        why = f"nothing is decided: {problem.loss.label()} is not known to be convex with a dual"
        return MinorityThresholds(mu, samples, (), why)
    between = None if _is_diagonal(problem) else _between(problem, sizes, exact_only)
    rows = []
    for group in _groups(problem, sizes):
        merge = _merging(problem, sizes, group, exact_only)
        vanish = _vanishing(problem, sizes, group, merge, between)
        rows += [row for row in (merge, vanish) if row is not None]
    return MinorityThresholds(mu, samples, tuple(rows))


def swap_force(loss: Loss, label: int) -> float | None:
    """c with (∂_i − ∂_j) L(z, i) = −c wherever z_i = z_j, i the label; None if it depends on z."""
    inner, weights = _unweighted(loss)
    scale = 1.0 if weights is None else float(weights[label])
    match inner:
        case CrossEntropy() | BinaryCrossEntropy():
            return scale
        case LabelSmoothing(alpha=alpha):
            return scale * (1.0 - float(alpha))
        case TemperatureCE(temperature=temperature):
            return scale / float(temperature)
        case MSE(scale=1.0, target=target):
            return scale * float(target)
    return None


def _unweighted(loss: Loss) -> tuple[Loss, Float[np.ndarray, " K"] | None]:
    """The loss without its class weights, and these."""
    if isinstance(loss, ClassWeighted):
        return loss.loss, np.asarray(loss.weights, float)
    return loss, None


def _groups(problem: Problem, sizes: Float[np.ndarray, " K"]) -> list[tuple[int, ...]]:
    """The classes with one size and one weight, small ones first."""
    _, weights = _unweighted(problem.loss)
    keys = [(size, 1.0 if weights is None else weights[k]) for k, size in enumerate(sizes.tolist())]
    return [tuple(k for k, other in enumerate(keys) if other == key) for key in sorted(set(keys))]


def _merging(
    problem: Problem, sizes: Float[np.ndarray, " K"], group: tuple[int, ...], exact_only: bool
) -> MinorityThreshold | None:
    if len(group) < 2 or _is_diagonal(problem):
        return None
    size, force = float(sizes[group[0]]), swap_force(problem.loss, group[0])
    if force is not None:
        mu, rule = _rule(force, size, float(sizes.sum()))
        found = _exactly(problem, mu, f"{rule}, {_MERGE}")
        return MinorityThreshold(size, group, "merge", *found)
    if exact_only:
        return None
    difference = np.zeros((len(sizes), 1))
    difference[group[0]], difference[group[1]] = 0.5**0.5, -(0.5**0.5)
    return MinorityThreshold(size, group, "merge", *_bisected(problem, difference))


def _vanishing(
    problem: Problem,
    sizes: Float[np.ndarray, " K"],
    group: tuple[int, ...],
    merge: MinorityThreshold | None,
    between: _Found | None,
) -> MinorityThreshold | None:
    size = float(sizes[group[0]])
    if _is_diagonal(problem):
        inner, weights = _unweighted(problem.loss)
        assert isinstance(inner, MSE)
        pull = float(inner.scale) * float(inner.target)
        pull *= 1.0 if weights is None else float(weights[group[0]])
        mu, rule = _rule(pull, size, float(sizes.sum()))
        found = _exactly(problem, mu, f"{rule}, {_DIAGONAL}")
        return MinorityThreshold(size, group, "vanish", *found)
    if between is None:
        return None
    if merge is not None and merge.low >= between.mu:  # the last to go is its own difference
        return dataclasses.replace(merge, event="vanish")
    return MinorityThreshold(size, group, "vanish", *between)


def _exactly(problem: Problem, mu: float, how: str) -> _Found:
    return _Found(mu, mu, how, bool(float(problem.mu()) >= mu))


def _rule(pull: float, size: float, samples: float) -> tuple[float, str]:
    """c√n/N, and how it is written."""
    factor = "" if pull == 1.0 else f"{pull:g}·"
    return pull * size**0.5 / samples, f"{factor}√{size:g}/{samples:g}"


def _is_diagonal(problem: Problem) -> bool:
    return isinstance(_unweighted(problem.loss)[0], MSE) and not problem.has_bias


def _between(problem: Problem, sizes: Float[np.ndarray, " K"], exact_only: bool) -> _Found | None:
    """The block between groups; None if it is not sought."""
    groups = _groups(problem, sizes)
    frame = np.zeros((len(sizes), len(groups)))
    for column, group in enumerate(groups):
        frame[list(group), column] = len(group) ** -0.5
    at_origin = float(np.linalg.norm(frame.T @ _origin_gradient(problem) @ frame, 2))
    forces = [swap_force(problem.loss, group[0]) for group in groups]
    alive = [
        None if force is None else _rule(force, float(sizes[group[0]]), float(sizes.sum()))[0]
        for force, group in zip(forces, groups, strict=True)
        if len(group) > 1
    ]
    if all(mu is not None and mu <= at_origin for mu in alive):
        return _exactly(problem, at_origin, _ORIGIN)
    return None if exact_only else _bisected(problem, frame)


def _origin_gradient(problem: Problem) -> Float[np.ndarray, "K m"]:
    """G at W = H = 0, whose spectral norm is the least decay with the origin as the minimum."""
    small = reduced_problem(problem)
    b = np.asarray(origin_bias(small)) if small.has_bias else np.zeros(small.num_classes)
    return _gradient(small, np.repeat(b[:, None], small.num_columns, axis=1))


def _gradient(small: Problem, V: Float[np.ndarray, "K m"]) -> Float[np.ndarray, "K m"]:
    return np.asarray(feature_gradient(small, logit_gradient(small, jnp.asarray(V))))


def _bisected(problem: Problem, frame: Float[np.ndarray, "K g"]) -> _Found:
    """Where Z* has no part FFᵀZ*FFᵀ, and whether it is proven to have none at its own decay."""
    top = float(np.linalg.norm(_origin_gradient(problem), 2))  # the origin is the minimum there
    zero_at = functools.partial(_proven_zero, problem, frame)
    if not zero_at(top * (1.0 + 1e-3)):
        return _Found(np.nan, np.nan, "no certified minimum at this size", False)
    low, high = 0.0, top
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if zero_at(middle) else (middle, high)
    return _Found(high, low, _BRACKET, zero_at(float(problem.mu())))


def _proven_zero(problem: Problem, frame: Float[np.ndarray, "K g"], mu: float) -> bool:
    """Whether the block of G* is below μ, by the distance of G from it that the gap allows."""
    at = _with_decay(problem, mu)
    found = global_minimum(at)
    if not found.is_exact:
        return False
    small = reduced_problem(at)
    V = found.logits if found.bias is None else found.logits + found.bias[:, None]
    gap = max(found.value - found.lower_bound, 0.0)
    curvature, samples = (
        float(problem.loss.smoothness()[0]),
        float(np.sum(np.asarray(class_sizes(at)))),
    )
    error = (2.0 * curvature * gap / samples) ** 0.5
    block = frame.T @ _gradient(small, V) @ frame
    return float(np.linalg.norm(block, 2)) + error < mu


def _with_decay(problem: Problem, mu: float) -> Problem:
    """The problem at √(λ_W λ_H) = μ, with its λ_b, in dimensions enough for any Z*."""
    dim = max(problem.dim, problem.num_classes)
    return dataclasses.replace(problem, lam_w=mu, lam_h=mu, dim=dim)
