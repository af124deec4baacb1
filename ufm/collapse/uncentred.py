r"""Angles between class means as they are, which tell an orthogonal frame from a simplex ETF.

NC1–NC3 compare centred means h̄_k − h̄_G. The centred means of K orthogonal vectors of one length are
a simplex ETF, so that all three are 0 for both frames. The cosines of h̄_k themselves are 0 for the
one, as with features after a ReLU, and −1/(K−1) for the other.

    >>> frame_metrics(problem, solution.params).cosine_mean.round(6).item()     # −1/3
    -0.333333
"""

import numpy as np
from jaxtyping import Bool, Float

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.collapse.mean_geometry import cosines, norm_spread, pairs
from ufm.collapse.metrics import class_means
from ufm.model.problem import Params, Problem, check_shapes
from ufm.model.variant import by_variant

#: A vector below this fraction of the longest has no direction.
_NO_DIRECTION = 1e-6


def directed(rows: Float[np.ndarray, "m d"]) -> Bool[np.ndarray, " m"]:
    """Which rows have a direction."""
    sizes = np.linalg.norm(rows, axis=1)
    return sizes > _NO_DIRECTION * np.max(sizes, initial=0.0)


@pytree()
class FrameMetrics(Shown):
    """Cosines of uncentred class means over all pairs that have a direction; NaN without a pair.

    `norm_spread` is the standard deviation of their norms over the mean, and `num_zero` the number
    of class means that are zero relative to the longest.
    """

    cosine_mean: np.floating
    cosine_min: np.floating
    cosine_max: np.floating
    norm_spread: np.floating
    num_zero: int


@by_variant
def frame_metrics(problem: Problem, params: Params) -> FrameMetrics:
    """Measure the angles between class means, without subtracting the global mean.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.

    Returns:
        The mean, least and largest cosine over pairs of classes: −1/(K−1) at a simplex ETF, 0 at an
        orthogonal frame; and the spread of norms.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    means = np.asarray(class_means(problem, params), float).T
    known = directed(means)
    angles = pairs(cosines(means[known]))
    nan = np.float64(np.nan)
    mean, least, most = (f(angles) if len(angles) else nan for f in (np.mean, np.min, np.max))
    spread = norm_spread(means) if np.any(known) else nan
    return FrameMetrics(mean, least, most, spread, int(np.sum(~known)))
