r"""Norms and angles of large and small classes, of any point or of logits in balanced factors.

The two groups are the classes of the largest size and of the smallest. Logits Z̄ (K×K, a column
z̄_k = W h̄_k for each class) with Z̄ diag(√n_k) = U S Vᵀ have the factors of least decay

    W = (λ_H/λ_W)^¼ U S^½,    Ĥ = (λ_W/λ_H)^¼ S^½ Vᵀ,    ĥ_k = √n_k h̄_k,

so that WWᵀ ∝ (Z̄DZ̄ᵀ)^½ and H̄ᵀH̄ ∝ D^{−½}(D^½Z̄ᵀZ̄D^½)^½D^{−½}, D = diag(n_k).

    >>> measured(problem, solution.params).cosine_w        # large–large, large–small, small–small
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.collapse.metrics import class_means
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.model.problem import Problem

#: A vector below this norm, relative to the longest, has no direction.
_NO_DIRECTION = 1e-6
#: Singular values of logits below this fraction of the largest are rounding.
_ROUNDING = 1e-13
#: Groups of classes, and of pairs of them.
SIZES = ("large", "small")
PAIRS = ("large, large", "large, small", "small, small")


class SizeGeometry(NamedTuple):
    """Norms by `SIZES` and cosines by `PAIRS`, averaged, of the rows w_k of W and of h̄_k.

    NaN for a cosine without a pair, or of a zero vector, and for W with targets, where its rows do
    not belong to groups of samples.
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


def least_factors(
    problem: Problem, logits: Float[np.ndarray, "K m"]
) -> tuple[Float[np.ndarray, "K r"], Float[np.ndarray, "r m"]]:
    """W and Ĥ of the module, r = min(K, m)."""
    U, S, Vt = np.linalg.svd(
        logits * np.sqrt(np.asarray(class_sizes(problem))), full_matrices=False
    )
    root = np.sqrt(np.where(_ROUNDING * max(float(S[0]), 1e-300) < S, S, 0.0))
    balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    return balance * U * root, root[:, None] * Vt / balance


def _grouped(
    problem: Problem, W: Float[np.ndarray, "K d"], means: Float[np.ndarray, "m d"]
) -> SizeGeometry:
    sizes = np.asarray(class_sizes(problem))
    groups = [sizes == sizes.max(), sizes == sizes.min()]
    rows = np.full((len(sizes), 1), np.nan) if problem.has_targets else W
    return SizeGeometry(*_norms(rows, groups), *_norms(means, groups))


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
