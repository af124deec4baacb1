r"""Collapse onto targets: regression (NRC1–NRC3) and label sets (tag-wise averages).

With features h̃_i, centred if there is a bias, and scaled to norm 1; P_K the projection on their K
principal directions, P_W that on the row space of W; ω_i the shares of the samples,

    NRC1 = Σ_i ω_i ‖(I − P_K) h̃_i‖²          features collapse to K dimensions
    NRC2 = Σ_i ω_i ‖(I − P_W) h̃_i‖²          … which are those of the classifier
    NRC3 = ‖WWᵀ/‖WWᵀ‖_F − M/‖M‖_F‖_F²,  M = (Σ^{1/2} − μ√N I)₊

with Σ the second moment of the targets, centred if there is a bias (Andriopoulos et al., 2024, who
fit the constant that μ√N gives here). For the indicator of a set S of labels, all of which have
samples of their own,

    tag_average = mean over such groups of ‖h̄_S/‖h̄_S‖ − s/‖s‖‖,  s = Σ_{k∈S} h̄_k

(Li et al., 2023). All are 0 at a global minimum: NRC for MSE without a bias or with a free one, tag
averages for cross-entropy with targets that no permutation of the labels changes.

    >>> tags = Problem(CrossEntropy(), (2, 2, 2, 2), 4, 1e-2, 1e-2, None,
    ...                targets=[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    >>> end = solve(tags, init_params(tags, jax.random.key(0)))
    >>> target_metrics(tags, end.params).nrc2 < 1e-9
    True
"""

import numpy as np
from jaxtyping import Float

from ufm._support.pytree import pytree
from ufm._support.rank import NEGLIGIBLE, numerical_rank
from ufm._support.shown import Shown
from ufm.collapse.metrics import class_means
from ufm.losses import SquaredTargets
from ufm.model.class_means import class_sizes
from ufm.model.objective import features
from ufm.model.problem import Params, Problem, check_shapes
from ufm.model.variant import by_variant


@pytree()
class TargetMetrics(Shown):
    """NRC1–NRC3 and the distance from tag-wise averages; NaN where undefined."""

    nrc1: float
    nrc2: float
    nrc3: float
    tag_average: float


@by_variant
@np.errstate(all="ignore")
def target_metrics(problem: Problem, params: Params) -> TargetMetrics:
    """Measure collapse onto the targets of a problem at a point.

    Args:
        problem: The problem, with targets.
        params: The point: W (K, d), H (d, N), samples ordered by group, b (K,) or None.

    Returns:
        The four numbers of the module. NRC1 and NRC2 leave out samples with h̃_i = 0. NRC1–NRC3 are
        NaN where all features or W are 0, NRC3 also for a decayed bias, one-hot targets and losses
        other than MSE, and `tag_average` unless some targets are indicators of several labels that
        have groups of their own.

    Raises:
        ValueError: The shapes do not fit the problem, or it has no targets.
    """
    check_shapes(problem, params)
    targets = problem.targets
    if targets is None:
        raise ValueError("the problem has class labels, not targets: use nc_metrics")
    h, W = np.asarray(features(problem, params), float), np.asarray(params.W, float)
    share = np.asarray(problem.samples(float), float)
    share = share / share.sum()
    least = NEGLIGIBLE * np.linalg.norm(h, axis=0).max()
    if problem.has_bias:
        h = h - (h @ share)[:, None]
    lengths = np.linalg.norm(h, axis=0)
    # What a solver leaves of a feature that is 0 has a direction of its own.
    share = np.where(lengths > least, share, 0.0)
    unit = np.where(share > 0, h / lengths, 0.0)
    principal = np.linalg.eigh((h * share) @ h.T)[1][:, ::-1][:, : len(W)]
    _, sizes, rows = np.linalg.svd(W, full_matrices=False)
    found = class_means(problem, params)
    return TargetMetrics(
        nrc1=_outside(unit, share, principal),
        nrc2=_outside(unit, share, rows[: numerical_rank(sizes)].T),
        nrc3=_distance(W @ W.T, _predicted_gram(problem, targets)),
        tag_average=_tag_average(np.asarray(found, float), targets),
    )


def _outside(
    unit: Float[np.ndarray, "d N"], share: Float[np.ndarray, " N"], basis: Float[np.ndarray, "d r"]
) -> float:
    rest = unit - basis @ (basis.T @ unit)
    mean = np.sum(rest**2, axis=0) @ share / share.sum()
    return float(mean) if basis.shape[1] else float("nan")


def _predicted_gram(
    problem: Problem, targets: Float[np.ndarray, "m K"]
) -> Float[np.ndarray, "K K"]:
    """M, up to a factor the WWᵀ of the minimiser of ½‖z − y‖²; NaN for another loss or bias."""
    if not isinstance(problem.loss, SquaredTargets) or problem.lam_b:
        return np.full((problem.num_outputs,) * 2, np.nan)
    sizes = np.asarray(class_sizes(problem), float)
    if problem.has_bias:
        targets = targets - sizes @ targets / sizes.sum()
    squares, axes = np.linalg.eigh((targets.T * sizes) @ targets / sizes.sum())
    roots = np.sqrt(np.maximum(squares, 0.0)) - float(problem.mu()) * sizes.sum() ** 0.5
    return (axes * np.maximum(roots, 0.0)) @ axes.T


def _distance(gram: Float[np.ndarray, "K K"], other: Float[np.ndarray, "K K"]) -> float:
    difference = gram / np.linalg.norm(gram) - other / np.linalg.norm(other)
    return float(np.sum(difference**2))


def _tag_average(means: Float[np.ndarray, "d m"], targets: Float[np.ndarray, "m K"]) -> float:
    sets = [tuple(np.flatnonzero(row)) if set(row) <= {0.0, 1.0} else () for row in targets]
    own = {labels[0]: i for i, labels in enumerate(sets) if len(labels) == 1}
    distances = []
    for i, labels in enumerate(sets):
        if len(labels) > 1 and set(labels) <= set(own):
            pair = means[:, i], sum(means[:, own[k]] for k in labels)
            one, other = (x / np.linalg.norm(x) for x in pair)
            distances.append(np.linalg.norm(one - other))
    return float(np.mean(distances)) if distances else float("nan")
