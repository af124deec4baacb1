r"""Merge classes into blocks: critical points with a symmetry, in few variables.

Permuting classes of equal size n_k only relabels f. A stationary point among the points that share
w, h̄ and b within blocks of such classes is therefore a critical point of f (symmetric criticality:
Palais, 1979). With blocks β of k_β classes, E_jβ = 1/√k_β for j ∈ β, these points are

    W = Eω,   H̄ = ηEᵀ,   b = Eβ̃       (ω: m×r, η: r×m),

an isometry, and f on them is the model with m "classes" of k_β n_β samples each and the loss

    L̃(z̃, β) = L(E z̃, any class of β).

The solvers therefore apply. With fewer than K blocks the model is padded: the columns of E and the
losses of the padding are zero, and variables that start at zero there stay zero. All partitions use
one compiled program.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ufm._support.pytree import pytree
from ufm.losses import Loss
from ufm.model.class_means import class_sizes
from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem

Blocks = tuple[tuple[int, ...], ...]
Logits = Float[Array, " K"]
Label = Any


@pytree()
class MergedLoss(Loss):
    """L̃(z̃, β) of the module, times `scale`, which is 0 for padded blocks."""

    loss: Loss
    spread: Float[Array, "*batch K K"]
    classes: Int[Array, "*batch K"]
    scale: Float[Array, "*batch K"]
    name: ClassVar[str] = "merged"
    ranks: ClassVar[Mapping[str, int]] = {"spread": 2, "classes": 1, "scale": 1}

    def is_convex(self) -> bool | None:
        return self.loss.is_convex()

    def value(self, z: Logits, label: Label) -> Float[Array, ""]:
        inner = self.loss.value(matmul(self.spread, z), self.classes[label])
        return self.scale[label] * inner

    def gradient(self, z: Logits, label: Label) -> Logits:
        inner = self.loss.gradient(matmul(self.spread, z), self.classes[label])
        return self.scale[label] * matmul(self.spread.T, inner)

    def curvature(self, z: Logits, label: Label) -> Any:
        inner = self.loss.curvature(matmul(self.spread, z), self.classes[label])
        return inner, self.scale[label]

    def curvature_product(self, curvature: Any, x: Logits) -> Logits:
        inner, scale = curvature
        product = self.loss.curvature_product(inner, matmul(self.spread, x))
        return scale * matmul(self.spread.T, product)


def merged_problem(problem: Problem, blocks: Blocks) -> Problem:
    """The model of the blocks: K columns, blocks first, in the dimensions of `problem`.

    Raises `ValueError` if the blocks are not a partition of the classes, or merge classes of
    different sizes.
    """
    K, sizes = problem.num_classes, np.asarray(class_sizes(problem))
    _check(blocks, sizes)
    spread, scale = np.zeros((K, K)), np.zeros(K)
    first, weights = np.zeros(K, np.int32), np.ones(K)
    for j, block in enumerate(blocks):
        spread[list(block), j] = len(block) ** -0.5
        first[j] = block[0]
        weights[j] = len(block) * sizes[block[0]]
    # Padded columns need positive weights, but contribute nothing.
    scale[: len(blocks)] = np.sum(weights) / np.sum(sizes)
    loss = MergedLoss(problem.loss, *(jnp.asarray(x) for x in (spread, first, scale)))
    return Problem(
        loss=loss,
        class_counts=(1,) * K,
        dim=problem.dim,
        lam_w=problem.lam_w,
        lam_h=problem.lam_h,
        lam_b=problem.lam_b,
        column_weights=jnp.asarray(weights),
    )


def expand(merged: Problem, point: Params) -> Params:
    """The point of the K-column problem, whose columns are √n_k h̄_k."""
    assert isinstance(merged.loss, MergedLoss)
    E = merged.loss.spread
    b = None if point.b is None else matmul(E, point.b)
    return Params(matmul(E, point.W), matmul(point.H, E.T), b)


def _check(blocks: Blocks, sizes: np.ndarray) -> None:
    if sorted(j for block in blocks for j in block) != list(range(len(sizes))):
        raise ValueError(
            f"blocks must be a partition of the classes 0 to {len(sizes) - 1}: {blocks}"
        )
    for block in blocks:
        if len(set(sizes[list(block)].tolist())) != 1:
            raise ValueError(f"classes of different sizes cannot be merged: {block}")
