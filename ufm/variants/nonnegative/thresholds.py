r"""The decays at which classes, and the whole point, vanish with H ≥ 0.

Convex losses, any class counts: the origin with its best bias is the minimum iff γ°(Ḡ) ≤ μ there.
Contrastive losses without a bias: classes decouple, none merge, and class k is dead iff

    c_k = N μ √((K−1)/(K n_k)) ≥ c*,   c* = sup_{s>0} (φ(0) − φ(s))/s,

so that it vanishes at μ_k = c* √(K n_k/(K−1))/N; for CE and LS, it is alive iff
n_k > N² μ² K/((K−1)(1−α)²). For balanced classes μ* is √((K−1)/K) times that of the plain model.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ufm.collapse.origin import origin_bias
from ufm.collapse.symmetric_solution import CollapseThreshold
from ufm.collapse.symmetric_solution import collapse_threshold as plain_threshold
from ufm.losses import MSE
from ufm.minimum.minority_thresholds import MinorityThreshold, MinorityThresholds
from ufm.minimum.minority_thresholds import minority_thresholds as plain_minority
from ufm.model.class_means import class_sizes, reduced_problem
from ufm.model.objective import feature_gradient, logit_gradient
from ufm.model.problem import Problem
from ufm.variants.nonnegative.bounds import has_margin_bound
from ufm.variants.nonnegative.polar import polar

_HOW = "exact: without bias classes decouple"


def cone_threshold(problem: Problem) -> CollapseThreshold:
    """`ufm.collapse_threshold` with H ≥ 0, for any class counts if the loss is convex."""
    if np.ndim(problem.mu()):
        raise ValueError("the problem is a batch: call it once for each of its entries")
    if problem.loss.is_convex():
        small = reduced_problem(problem)
        b = origin_bias(small) if small.has_bias else jnp.zeros(small.num_outputs)
        V = jnp.repeat(b[:, None], small.num_columns, axis=1)
        found = polar(feature_gradient(small, logit_gradient(small, V)))
        return CollapseThreshold(np.asarray(found.value), np.asarray(False))
    if has_margin_bound(problem):
        rate, jumps = _largest_rate(problem)
        sizes, K = np.asarray(class_sizes(problem), float), problem.num_classes
        mu = rate * np.sqrt(K * sizes.max() / (K - 1)) / sizes.sum()
        return CollapseThreshold(np.asarray(mu), np.asarray(jumps))
    raise ValueError(
        f"the threshold of {problem.loss.label()} is not known with a bias and class counts "
        f"{problem.class_counts}: use balanced classes or lam_b=None"
    )


def _largest_rate(problem: Problem) -> tuple[float, bool]:
    """c*, from the plain model with one sample a class: K√n μ* = K c*/(K−1) there."""
    K = problem.num_classes
    single = dataclasses.replace(
        problem, features=None, class_counts=(1,) * K, column_weights=None, lam_b=None
    )
    found = plain_threshold(single)
    return float(found.mu) * (K - 1), bool(found.jumps)


def cone_minority(problem: Problem, exact_only: bool = False) -> MinorityThresholds:
    """`ufm.minority_thresholds` with H ≥ 0."""
    if np.ndim(problem.mu()):
        raise ValueError("the problem is a batch: call it once for each of its entries")
    if isinstance(problem.loss, MSE) and not problem.has_bias:  # the same minimum
        return plain_minority(dataclasses.replace(problem, features=None), exact_only)
    sizes, mu = np.asarray(class_sizes(problem), float), float(problem.mu())
    total, K = float(sizes.sum()), problem.num_classes
    if problem.has_bias or not has_margin_bound(problem):
        why = "nothing is decided: with H ≥ 0 classes are known to decouple for contrastive losses"
        return MinorityThresholds(mu, total, (), f"{why} without a bias")
    rate, _ = _largest_rate(problem)
    rows = []
    for size in sorted(set(sizes.tolist())):
        classes = tuple(np.flatnonzero(sizes == size).tolist())
        at = rate * float(np.sqrt(K * size / (K - 1))) / total
        rows.append(MinorityThreshold(size, classes, "vanish", at, at, _HOW, mu >= at))
    return MinorityThresholds(mu, total, tuple(rows))
