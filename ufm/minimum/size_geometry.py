"""Norms and angles of large and small classes, of a point, or of logits in their least factors.

The two groups are the classes of the largest size and of the smallest.

    >>> measured(problem, solution.params).cosine_w.round(4)     # of a simplex ETF
    array([-0.3333, -0.3333, -0.3333])
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.collapse.metrics import class_means
from ufm.minimum.minimiser import least_factors
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.model.problem import Problem

#: A vector below this norm, relative to the longest, has no direction.
_NO_DIRECTION = 1e-6
#: Groups of classes, and of pairs of them.
SIZES = ("large", "small")
PAIRS = ("large, large", "large, small", "small, small")


class SizeGeometry(NamedTuple):
    """Norms by `SIZES` and cosines by `PAIRS`, averaged, of the rows w_k of W and of h̄_k.

    NaN for a cosine without a pair, or of a zero vector.
    """

    norm_w: Float[np.ndarray, " 2"]
    cosine_w: Float[np.ndarray, " 3"]
    norm_h: Float[np.ndarray, " 2"]
    cosine_h: Float[np.ndarray, " 3"]

    @property
    def ratio_w(self) -> float:
        """Norm of w_k of a large class over that of a small one."""
        return float(self.norm_w[0] / self.norm_w[1])

    @property
    def ratio_h(self) -> float:
        """The same of h̄_k."""
        return float(self.norm_h[0] / self.norm_h[1])


def measured(problem: Problem, params: Params) -> SizeGeometry:
    """The geometry of a point."""
    return _grouped(problem, np.asarray(params.W), np.asarray(class_means(problem, params)).T)


def geometry_of(problem: Problem, logits: Float[np.ndarray, "K m"]) -> SizeGeometry:
    """The geometry of class logits Z̄ in their factors of least decay."""
    W, H = least_factors(problem, logits)
    return _grouped(problem, W, H.T / np.sqrt(np.asarray(class_sizes(problem)))[:, None])


def _grouped(
    problem: Problem, W: Float[np.ndarray, "K d"], means: Float[np.ndarray, "m d"]
) -> SizeGeometry:
    if problem.has_targets:
        raise ValueError("norms and angles by class size are those of class labels, not of targets")
    sizes = np.asarray(class_sizes(problem))
    groups = [sizes == sizes.max(), sizes == sizes.min()]
    return SizeGeometry(*_norms(W, groups), *_norms(means, groups))


def _norms(vectors: Float[np.ndarray, "K d"], groups: list[Any]) -> tuple[Any, Any]:
    sizes = np.linalg.norm(vectors, axis=1)
    norms = np.array([np.mean(sizes[group]) for group in groups])
    known = sizes > _NO_DIRECTION * max(float(sizes.max()), np.finfo(float).tiny)
    unit = vectors / np.where(known, sizes, np.nan)[:, None]
    cosines, other = unit @ unit.T, ~np.eye(len(sizes), dtype=bool)
    large, small = groups
    pairs = [
        cosines[np.outer(a, b) & other] for a, b in ((large, large), (large, small), (small, small))
    ]
    return norms, np.array([np.mean(x) if x.size else np.nan for x in pairs])
