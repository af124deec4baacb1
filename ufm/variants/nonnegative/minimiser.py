r"""A minimiser with H ≥ 0, as rays: the k-th column of `left` times the k-th row of `right`.

Z = Σ_r w_r ĥ_rᵀ with columns √n_k h̄_k of Ĥ. A coordinate may be split into several of the same
direction, w_r c_j and c_j h_r with Σ_j c_j² = 1, c ≥ 0, and coordinates may change places: that is
how f determines a minimiser, in place of the rotations of the plain model.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import pytree
from ufm._support.random_numbers import generator
from ufm.minimum.minimiser import GlobalMinimum, point_of
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Entries below this fraction of the largest are zero.
_ZERO = 1e-7
#: Rays have equal directions to this angle.
_PARALLEL = 1e-5


@pytree()
class NonNegativeMinimum(GlobalMinimum):
    """The minimum with H ≥ 0. `left` (K, r) and `right` (r, m) ≥ 0 are W and √n_k h̄_k of its rays.

    `rank` is that of the logits; d ≥ r coordinates are needed.
    """

    left: Float[np.ndarray, "K r"] | None = None
    right: Float[np.ndarray, "r m"] | None = None

    @property
    def kind(self) -> str:
        """Name the geometry: "orthogonal frame", how many classes are alive, "origin", …"""
        if not self.is_exact or self.right is None:
            return "unknown"
        served = self.right > _ZERO * np.max(self.right, initial=0.0)
        alive, classes = int(np.sum(np.any(served, axis=0))), served.shape[1]
        if not alive:
            return "origin"
        if np.any(np.sum(served, axis=1) > 1):
            return "equal features" if self.rank == 1 == len(served) else "shared coordinates"
        return "orthogonal frame" + ("" if alive == classes else f", {alive} of {classes} classes")

    def params(self, key: Key[Array, ""] | None, dtype: Any = None) -> Params:
        """Build W, H ≥ 0, b with f = `value`: rays split over random coordinates.

        Without a key they lie along the first coordinates. Raises `ValueError` if there is none.
        """
        if not np.isfinite(self.value) or self.left is None or self.right is None:
            raise ValueError(f"no minimiser is known: {self.reason}")
        problem, rays = self.problem, len(self.right)
        turn = np.eye(problem.dim, rays)
        if key is not None and rays:
            turn = _split(key, problem.dim, rays)
        return point_of(problem, self.left @ turn.T, turn @ self.right, self.bias, dtype)


def _split(key: Key[Array, ""], dim: int, rays: int) -> Float[np.ndarray, "d r"]:
    """Non-negative orthonormal columns with disjoint supports, which are random."""
    random, key = generator(key, 3 * dim)
    draws = np.abs(np.asarray(random.normal(key, (3, dim), jnp.result_type(float))))
    order = np.argsort(draws[0])
    # Every ray has a coordinate, and the others go to random ones.
    owner = np.concatenate([np.arange(rays), (draws[1, rays:] * 1e6).astype(int) % rays])
    turn = np.zeros((dim, rays))
    turn[order, owner] = draws[2]
    return turn / np.linalg.norm(turn, axis=0)


def factors(
    problem: Problem, logits: Float[np.ndarray, "K m"]
) -> tuple[Float[np.ndarray, "K r"], Float[np.ndarray, "r m"]]:
    """A ray for every class with logits: balanced w_k ∝ z̄_k, on a coordinate of its own."""
    table = logits * np.sqrt(np.asarray(class_sizes(problem), float))
    sizes = np.linalg.norm(table, axis=0)
    alive = np.flatnonzero(sizes > 0)
    roots, balance = np.sqrt(sizes[alive]), (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    right = np.zeros((len(alive), len(sizes)))
    right[np.arange(len(alive)), alive] = roots / balance
    return balance * table[:, alive] / roots, right


def merged(
    left: Float[np.ndarray, "K r"], right: Float[np.ndarray, "r m"]
) -> tuple[Float[np.ndarray, "K s"], Float[np.ndarray, "s m"]]:
    """The same product with rays of equal direction merged into one."""
    sizes = np.linalg.norm(right, axis=1)
    order = np.argsort(-sizes)
    rays: list[tuple[np.ndarray, np.ndarray]] = []
    for i in order:
        w, h = left[:, i], right[i]
        for place, (u, v) in enumerate(rays):
            long, short = np.linalg.norm(v), np.linalg.norm(h)
            if h @ v >= (1.0 - _PARALLEL**2) * short * long:
                length = np.hypot(long, short)
                rays[place] = (long * u + short * w) / length, (long * v + short * h) / length
                break
        else:
            rays.append((w, h))
    if not rays:
        return left[:, :0], right[:0]
    return np.stack([w for w, _ in rays], axis=1), np.stack([h for _, h in rays])
