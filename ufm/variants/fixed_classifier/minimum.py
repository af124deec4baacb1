r"""The global minimum for a given classifier: closed form for a simplex ETF, else a run, certified.

If g is convex, f is convex in (H, b), and strictly in decayed H: features are equal within classes
for any W and any class counts, and without a bias those of a class do not depend on the counts.

For W a simplex ETF, WWᵀ = w²P, and a contrastive loss with φ(s) its value at margin s

    H decayed     f* = min_s φ(s) + κ s²/2,   κ = N λ_H τ² (K−1)/(K w²),   h_k = (sτ/w²) Wᵀe_k
    H bounded     f* = min φ(s) over s ≤ w ρ_H √(K/(K−1))/τ,   h_k along Wᵀe_k

for any class counts without a bias, and for balanced ones with it: the mean margin of sample i is
at most √(K/(K−1)) w |h_i|/τ, and the tangent of φ at the minimiser lies below φ
(`ufm.variants.norms.closed_form`). No decay makes s = 0 the minimum.
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Key

from ufm._support.namespace import settled
from ufm._support.pytree import pytree
from ufm._support.rank import matrix_rank
from ufm.collapse.margin_loss import LARGEST_MARGIN, MarginLoss
from ufm.collapse.metrics import centering
from ufm.minimum.minimiser import point_of
from ufm.model.class_means import class_sizes
from ufm.model.constraints import Sphere
from ufm.model.problem import Params, Problem
from ufm.model.problem_batch import problem_batch
from ufm.variants.norms.closed_form import (
    Balanced,
    bound_of,
    radius_of,
    reach_of,
    stationary,
    tangent_below,
)
from ufm.variants.norms.minimum import NormMinimum, best_run

#: W is a simplex ETF if WWᵀ is w²P to this fraction of w².
_IS_FRAME = 1e-12


@pytree()
class FixedMinimum(NormMinimum):
    """The minimum for a given classifier: `W` is that, (K, d), and `means` are (d, m)."""

    def params(self, key: Key[Array, ""] | None, dtype: Any = None) -> Params:
        """W, H and b with f = `value`; the key is not used, because W fixes the orientation."""
        if not np.isfinite(self.value):
            raise ValueError(f"no minimiser is known: {self.reason}")
        columns = self.means * np.sqrt(np.asarray(class_sizes(self.problem)))
        return point_of(self.problem, self.W, columns, self.bias, dtype)


def global_minimum(problem: Problem) -> FixedMinimum:
    """`ufm.global_minimum` for a given classifier."""
    if problem_batch(problem) is not None:
        raise ValueError("the problem is a batch: call global_minimum once for each of its entries")
    closed = frame_minimum(problem)
    found = None if closed is None else _along_rows(problem, closed)
    if found is not None:
        return found
    run = best_run(problem, problem.dim)
    rank = matrix_rank(np.vstack([run.W, run.means.T]))
    return FixedMinimum(
        **run.fields(problem, bound_of(problem, closed)), rank=rank, W=run.W, means=run.means
    )


def frame_minimum(problem: Problem) -> Balanced | None:
    """The minimum for a simplex ETF and a contrastive loss, up to its dimension; None otherwise."""
    assert problem.classifier is not None
    loss, W = problem.loss, np.asarray(problem.classifier.matrix, float)  # pyright: ignore[reportAttributeAccessIssue]  # Fixed
    K, square = len(W), np.sum(W**2) / (len(W) - 1)
    if problem.has_targets or not loss.contrastive:
        return None
    if np.max(np.abs(W @ W.T - square * centering(K))) > _IS_FRAME * square:
        return None
    if problem.has_bias and problem.per_class is None:
        return None
    tau = 1.0 if problem.temperature is None else float(problem.temperature)
    phi, slope = MarginLoss(settled(loss), K), (square * K / (K - 1)) ** 0.5 / tau  # of s in |h|
    if not phi.slope(np.zeros(())) < 0:
        return None
    radius = radius_of(problem.features)
    if radius is None:
        assert problem.lam_h is not None
        rate = float(np.sum(np.asarray(problem.samples(float)))) * float(problem.lam_h) / slope**2
        if not rate > 0:
            return None
        s, is_tight, reach = stationary(phi, rate), True, np.nan
        penalty = 0.5 * rate * float(s) ** 2
    else:
        lowest = stationary(phi, 0.0)
        s, penalty = np.minimum(radius * slope, lowest), 0.0
        is_tight, reach = bool(radius * slope < lowest), reach_of(radius * slope, lowest)
    if not 0 < s < LARGEST_MARGIN or not tangent_below(problem, phi, s):
        return None
    size_h = float(s) / slope if radius is None else radius
    value = float(phi.value(s)) + penalty
    return Balanced(value, float(s), square**0.5, size_h, is_tight, reach)


def _along_rows(problem: Problem, found: Balanced) -> FixedMinimum | None:
    """Features along the rows of W with the margin; None if d or the set excludes it."""
    W = np.asarray(problem.classifier.matrix, float)  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]  # Fixed
    K = len(W)
    tau = 1.0 if problem.temperature is None else float(problem.temperature)
    means = W.T * (found.margin * tau / found.size_w**2)
    why = "closed form for a simplex ETF, proven by its tangent"
    if not found.is_tight:
        why += "; the norms allow more than the best margin: minimisers are not unique"
        if isinstance(problem.features, Sphere):  # the rest of h_k is orthogonal to W
            rest = found.size_h**2 - np.sum(means[:, 0] ** 2)
            axes = np.linalg.svd(W)[2]
            if problem.dim < K:
                return None
            means = means + rest**0.5 * axes[K - 1][:, None]
    return FixedMinimum(
        value=found.value,
        lower_bound=bound_of(problem, found),
        is_exact=True,
        logits=W @ means,
        bias=np.zeros(K) if problem.has_bias else None,
        rank=matrix_rank(np.vstack([W, means.T])),
        problem=problem,
        rho=found.margin * tau,
        tau=0.0,
        bias_level=0.0 if problem.has_bias else np.nan,
        reason=why,
        tied=not found.is_tight,
        W=W,
        means=means,
    )
