"""Where critical points are sought: class means instead of samples, and no more dimensions than K.

Every critical point has λ_W WᵀW = λ_H HHᵀ, so its rank is at most K, and in its own row space it is
critical with as few dimensions. For a convex loss its features are equal within classes besides
(`ufm.model.class_means`), so that K columns and min(d, K) dimensions hold every critical point up
to rotation, whatever n and d. For other losses the samples are kept where there are few enough.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from ufm.model.class_means import from_class_means, reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Columns times dimensions up to which samples are kept for a loss that is not convex.
_MOST_FEATURES = 1_000
#: Most dimensions of a space: Hessians are taken as matrices there, hundreds of them.
_MOST_DIMENSIONS = 4_000


@dataclasses.dataclass(frozen=True, eq=False)
class PointSpace:
    """The problem that is searched, and the one that it stands for.

    `of_means` says that its columns are class means, times √n_k.
    """

    problem: Problem
    small: Problem
    of_means: bool

    @property
    def is_complete(self) -> bool:
        """Are all critical points of the problem in this space, up to rotation?"""
        return not self.of_means or bool(self.problem.loss.is_convex())

    @property
    def max_rank(self) -> int:
        """The largest rank of critical points: 1ᵀG = 0 takes one from shift-invariant losses."""
        K = self.problem.num_classes
        return min(self.small.dim, K - 1 if self.problem.loss.shift_invariant else K)

    @property
    def means(self) -> Problem:
        """The problem of the class means in the same dimensions."""
        return self.small if self.of_means else reduced_problem(self.small, self.small.dim)

    def from_means(self, means: Params) -> Params:
        """The point of the space that W, b and the columns √n_k h̄_k stand for."""
        if self.of_means:
            return means
        return Params(means.W, from_class_means(self.small, means.H), means.b)

    def embed(self, point: Params) -> Params:
        """The point of the problem, (K×d), (d×N), that a point of the space stands for."""
        extra = self.problem.dim - self.small.dim
        W, H = jnp.pad(point.W, ((0, 0), (0, extra))), jnp.pad(point.H, ((0, extra), (0, 0)))
        return Params(W, from_class_means(self.problem, H) if self.of_means else H, point.b)


def search_space(problem: Problem) -> PointSpace:
    """Class means for convex losses and for large problems, else samples; min(d, K) dimensions.

    Raises `ValueError` for a problem without decays, where critical points need not be balanced,
    and for one with too many classes.
    """
    if not float(problem.mu()) > 0:
        raise ValueError("critical points are sought with lam_w > 0 and lam_h > 0 only")
    dim = min(problem.dim, problem.num_classes)
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
    """The point with zeros beyond its first `rank` dimensions, which runs then never leave."""
    kept: Any = (jnp.arange(point.W.shape[-1]) < rank).astype(point.W.dtype)
    return Params(point.W * kept[None, :], point.H * kept[:, None], point.b)
