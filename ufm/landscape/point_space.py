"""The search space of critical points: class means instead of samples, and at most K dimensions.

Every critical point has λ_W WᵀW = λ_H HHᵀ, so that its rank is at most K, and it is critical within
its own row space. For a convex loss its features are also equal within classes
(`ufm.model.class_means`). K columns and min(d, K) dimensions therefore contain every critical point
up to rotation, for any n and d. For other losses the samples are kept if there are few enough.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from ufm._support.namespace import namespace
from ufm.model.class_means import from_class_means, reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.critical_list import choices
from ufm.variants.deep.factors import of_class_means

#: Largest columns times dimensions for which samples are kept, if the loss is not convex.
_MOST_FEATURES = 1_000
#: Largest dimension of a space, in which hundreds of Hessian matrices are computed.
_MOST_DIMENSIONS = 4_000


@dataclasses.dataclass(frozen=True, eq=False)
class PointSpace:
    """The problem to search, and the whole problem that it represents.

    `of_means` says that its columns are class means, times √n_k.
    """

    problem: Problem
    small: Problem
    of_means: bool

    @property
    def is_complete(self) -> bool:
        """Whether all critical points of the problem are in this space, up to rotation."""
        return not self.of_means or bool(self.problem.loss.is_convex())

    @property
    def max_rank(self) -> int:
        """The largest rank of critical points, one less for shift-invariant losses (1ᵀG = 0)."""
        return min(self.small.dim, self.problem.num_outputs - self.problem.loss.shift_invariant)

    @property
    def means(self) -> Problem:
        """The problem of the class means in the same dimensions."""
        return self.small if self.of_means else reduced_problem(self.small, self.small.dim)

    def from_means(self, means: Params) -> Params:
        """The point of the space with W, b and the columns √n_k h̄_k."""
        if self.of_means:
            return means
        return Params(means.W, from_class_means(self.small, means.H), means.b)

    def embed(self, point: Params) -> Params:
        """The point of the whole problem, (K×d), (d×N), that a point of the space represents."""
        extra = self.problem.dim - self.small.dim
        W, H = jnp.pad(point.W, ((0, 0), (0, extra))), jnp.pad(point.H, ((0, extra), (0, 0)))
        H = from_class_means(self.problem, H) if self.of_means else H
        return dataclasses.replace(point, W=W, H=H)


def search_space(problem: Problem) -> PointSpace:
    """Class means for convex losses and for large problems, else samples; min(d, K) dimensions.

    Raises `ValueError` for a problem without decays, where critical points need not be balanced,
    for a problem with too many classes, and with hidden layers for any loss but squared error.
    """
    if problem.lam_hidden:  # nothing is searched: the list of `ufm.landscape.listed`
        choices(problem)
        return PointSpace(problem, of_class_means(problem), True)
    if not float(problem.mu()) > 0:
        raise ValueError("a search for critical points needs lam_w > 0 and lam_h > 0")
    dim = min(problem.dim, problem.num_classes, problem.num_outputs)
    few = problem.num_columns * dim <= _MOST_FEATURES
    if problem.loss.is_convex() or not few:
        space = PointSpace(problem, reduced_problem(problem, dim), True)
    else:
        space = PointSpace(problem, dataclasses.replace(problem, dim=dim), False)
    size = space.small.num_parameters
    if size > _MOST_DIMENSIONS:
        raise ValueError(
            f"the class means have {size:,} dimensions, and a census takes at most "
            f"{_MOST_DIMENSIONS:,}: lower num_classes or dim"
        )
    return space


def in_first_axes(point: Params, rank: int | Int[Array, ""]) -> Params:
    """Set all but the first `rank` dimensions to zero; runs then stay in these dimensions."""
    axes = namespace(rank).arange(point.W.shape[-1])
    kept: Any = (axes < rank).astype(point.W.dtype)
    return Params(point.W * kept[None, :], point.H * kept[:, None], point.b)
