r"""The decay from which on the origin is the minimum of a deep linear model, where it jumps.

For M ≥ 3 factors the minimum jumps at a tie with the origin, which is always a local minimum. MSE:
see `squared_error`. Balanced classes of other losses without bias: the tie of the best structure
(`rays`), which is proven for two classes, and for three by `ufm.global_minimum` at any decay.
"""

from typing import Any

import numpy as np

from ufm._support.pytree import pytree, static
from ufm.collapse.symmetric_solution import CollapseThreshold
from ufm.minimum.minority_thresholds import MinorityThreshold, MinorityThresholds
from ufm.minimum.squared_error_minimum import target_directions
from ufm.minimum.structures import TableLoss, structures
from ufm.model.class_means import class_sizes
from ufm.model.problem import Problem
from ufm.variants.deep.factors import largest_rank, mean_decay, number_of_factors
from ufm.variants.deep.rays import spinodal_of, tie_with_origin
from ufm.variants.deep.squared_error import spinodal, tie


@pytree()
class DeepThreshold(CollapseThreshold):
    """Λ = (∏λ)^{1/M} at and above which the origin is below `structure`, as `mu`.

    `spinodal` is the Λ up to which the structure exists: between the two a run that follows it with
    growing decay stays there. If `is_exact`, `mu` is where the minimum jumps to the origin;
    otherwise another point may be below the origin at larger decays.
    """

    spinodal: Any
    is_exact: bool = static()
    structure: str = static()


def collapse_threshold_of(problem: Problem) -> DeepThreshold:
    """As `ufm.collapse_threshold`; raises `ValueError` where no structure is known."""
    found, M = target_directions(problem), number_of_factors(problem)
    if found is not None:
        top, total = float(found.sizes[0]), found.total
        mu, end = tie(top, total, M), spinodal(top, total, M)
        return DeepThreshold(np.asarray(mu), np.asarray(True), np.asarray(end), True, "target")
    n, K = problem.per_class, problem.num_classes
    if n is None or problem.has_targets or not problem.loss.equivariant:
        raise ValueError(
            "the collapse threshold with hidden layers is known for squared error, and for "
            f"balanced classes; got {problem.loss.label()} with class counts {problem.class_counts}"
        )
    loss = TableLoss(problem.loss, K)
    rays = [x for x in structures(K, largest_rank(problem)) if len(x.patterns) == 1]
    best = max(rays, key=lambda x: tie_with_origin(x, loss, M))
    scale = n ** (1 / M)
    exact = K == 2 and bool(problem.loss.is_convex()) and problem.loss.contrastive
    ends = tie_with_origin(best, loss, M) / scale, spinodal_of(best, loss, M) / scale
    return DeepThreshold(
        np.asarray(ends[0]), np.asarray(True), np.asarray(ends[1]), exact, best.name
    )


def minority_thresholds_of(problem: Problem, exact_only: bool = False) -> MinorityThresholds:
    """As `ufm.minority_thresholds`: for squared error without bias each class has its own tie."""
    del exact_only  # all of them are
    sizes, mean = np.asarray(class_sizes(problem), float), float(mean_decay(problem))
    found = target_directions(problem)
    total, M = float(np.sum(sizes)), number_of_factors(problem)
    if found is None or problem.has_bias or problem.has_targets:
        why = "with hidden layers thresholds are known for squared error without bias"
        return MinorityThresholds(mean, total, (), why)
    target, rows = float(np.linalg.norm(found.sizes) / total**0.5), []
    for size in np.unique(sizes):
        limit = float(tie(target * size**0.5, total, M))
        classes = tuple(int(k) for k in np.flatnonzero(sizes == size))
        how = "exact: classes of MSE decouple, and each vanishes by a jump; μ is (∏λ)^{1/M}"
        rows.append(
            MinorityThreshold(float(size), classes, "vanish", limit, limit, how, mean >= limit)
        )
    return MinorityThresholds(mean, total, tuple(rows))
