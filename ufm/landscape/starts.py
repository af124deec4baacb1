"""Starts of searches, which determine the points that are found.

From small noise every root finder converges to the origin. Starts are therefore as large as the
global minimum, or close to known points:

- "noise": Gaussian entries, ¼ to 4 times as large as the minimum's;
- "truncation": the minimum restricted to its r first singular directions, r random, with noise of
  1 % to 30 % of its size;
- "perturbation": a critical point found before, with the same noise.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm._support.pytree import stacked
from ufm.hessian.symmetry_zeros import frame
from ufm.landscape.point_space import PointSpace
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.objective import matmul
from ufm.model.params import Params, along
from ufm.model.problem import Problem
from ufm.model.start import init_params

KINDS = ("noise", "truncation", "perturbation")
_SCALES, _NOISE = (0.25, 4.0), (0.01, 0.3)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Root mean square entries of W and of H, and of b, at a typical point of a problem."""

    W: float
    H: float
    b: float


def minimum_in(space: PointSpace, minimum: GlobalMinimum, key: Key[Array, ""]) -> Params:
    """The global minimum, or the best point known, as class means."""
    return dataclasses.replace(minimum, problem=space.means).params(key)


def typical_sizes(problem: Problem, point: Params) -> Sizes:
    """The sizes at the point, or, if it is the origin, at a point with logits of order 1."""
    W, H = (_root_mean_square(x) for x in (point.W, point.H))
    if W < 1e-3:
        # Entries of Z are sums of d products; balanced factors have λ_W ‖W‖² = λ_H ‖H‖².
        balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
        ratio = (problem.num_columns / problem.num_classes) ** 0.25
        W = balance * ratio / problem.dim**0.25
        H = 1.0 / (balance * ratio * problem.dim**0.25)
    b = 0.3 if point.b is None else max(0.3, _root_mean_square(point.b))
    return Sizes(W, H, b)


def _root_mean_square(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x)))))


def random_points(problem: Problem, sizes: Sizes, key: Key[Array, ""], count: int) -> Params:
    """Draw a batch of Gaussian points of these sizes."""
    unit = init_params(without_weights(problem), key, 1.0, count)
    b = None if unit.b is None else sizes.b * unit.b
    return Params(sizes.W * unit.W, sizes.H * unit.H, b)


def without_weights(problem: Problem) -> Problem:
    """The problem without column weights: `Sizes` has their scaling already."""
    return dataclasses.replace(problem, column_weights=None)


def search_starts(
    space: PointSpace,
    typical: Params,
    known: list[Params],
    key: Key[Array, ""],
    count: int,
) -> tuple[Params, list[str]]:
    """Draw a batch of starts with their kinds; start i depends on the key, `known` and i."""
    sizes = typical_sizes(space.small, typical)
    noise = random_points(space.small, sizes, key, count)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    starts, kinds = [], []
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        part = jax.tree.map(lambda x, i=i: np.asarray(x)[i], noise)
        low, high = _SCALES if kind == "noise" else _NOISE
        scale = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        if kind == "noise":
            centre = jax.tree.map(np.zeros_like, part)
        elif kind == "truncation":
            centre = truncated(typical, int(rng.integers(1, space.max_rank + 1)))
        else:
            centre = known[int(rng.integers(len(known)))]
        starts.append(along(scale, part, jax.tree.map(np.asarray, centre)))
        kinds.append(kind)
    return stacked(starts), kinds


def truncated(point: Params, rank: int) -> Params:
    """Keep only the `rank` largest singular directions of [W; Hᵀ]."""
    right = frame(point).right[:, :rank]
    kept = jax.device_put(right @ right.T)
    return Params(matmul(point.W, kept), matmul(kept, point.H), point.b)
