r"""The complete spectrum at a collapsed point invariant under permutations of classes, for any K.

Let a point of the K-column problem be unchanged, up to a rotation of the feature space, by every
permutation within each of p blocks of classes: the origin and the simplex ETF (p = 1), an ETF of
some classes with the others at zero or merged into one (p = 2). In d = K dimensions and the basis

    W = β (ZZᵀ)^{1/4},   Ĥ = W^† Z,   β = (λ_H/λ_W)^{1/4},

both commute with those permutations Π, which act on the Hessian's directions as

    (A, B, c) ↦ (ΠAΠᵀ, ΠBΠᵀ, Πc).

By Schur's lemma the Hessian is one small matrix for each irreducible representation, repeated by
its dimension (`ufm.hessian.structured.class_representations`). It takes one Hessian product for
each vector of one copy: O(p² K³) operations. Directions outside the row space are in
`ufm.hessian.structured.complement`, deviations of single features in
`ufm.hessian.structured.collapsed`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm._support.rank import numerical_rank
from ufm.hessian.products.columns import host_point, loss_derivatives
from ufm.hessian.products.dense import rounding
from ufm.hessian.products.lipschitz import hessian_lipschitz
from ufm.hessian.spectrum_result import Part, Spectrum, assemble
from ufm.hessian.structured.class_representations import (
    Block,
    Matrix,
    Representation,
    Stack,
    Vectors,
    averaged,
    averaged_vector,
    representations,
)
from ufm.hessian.structured.complement import complement_parts
from ufm.hessian.symmetry_zeros import gauge
from ufm.model.class_means import reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem

#: A symmetry may fail by this fraction of a point's norm.
_ALIKE = 1e-6
#: With more blocks than this, too little symmetry remains.
_MOST_BLOCKS = 4


class BlockPoint(NamedTuple):
    """A point of the K-column problem, with d = K, invariant under permutations within blocks.

    W and H commute with the permutations, b is constant on blocks, and `rows` is the projection on
    the row space. `losses`, `gradient` and `hessian` are those of L at the first class of each
    block. `moved` is the distance from the given point.
    """

    problem: Problem
    W: Matrix
    H: Matrix
    b: Float[np.ndarray, " K"] | None
    rows: Matrix
    rank: int
    blocks: list[Block]
    losses: Float[np.ndarray, " p"]
    gradient: Float[np.ndarray, "p K"]
    hessian: Float[np.ndarray, "p K K"]
    moved: float


class Directions(NamedTuple):
    """Orthonormal directions of one copy of a representation, in W, H and b."""

    W: Stack
    H: Stack
    b: Vectors


def class_symmetric_spectrum(problem: Problem, means: Params) -> Spectrum | None:
    """All eigenvalues from W, b and √n_k h̄_k (d×K), or None if the point has no such symmetry.

    The result is None also for a custom loss, which may treat labels differently.

    The eigenvalues are those of the nearest point with exact symmetry; `residuals` include a bound
    on the change of the Hessian between the two points.
    """
    small = reduced_problem(problem, problem.dim)
    blocks = alike_classes(small, means) if problem.loss.equivariant else []
    point = block_point(small, means, blocks) if 0 < len(blocks) <= _MOST_BLOCKS else None
    if point is None:
        return None
    orbit = gauge(problem, means, host_point(small, means).gradient())
    shift = point.moved * float(hessian_lipschitz(small, means))
    G = feature_gradient_of(point)
    sizes = np.linalg.svd(G, compute_uv=False)
    groups = []
    for each in representations(point.blocks):
        form = hessian_form(point, G, directions(point, each))
        label = f"class means: {each.label}"
        groups.append(Part(label, np.linalg.eigvalsh(form), each.multiplicity, 0.0))
    groups += [
        Part("deviations from class means", values, count, 0.0)
        for values, count in deviation_eigenvalues(problem, point)
    ]
    noise = rounding(np.concatenate([sizes, *(part.values for part in groups)])) + shift
    return assemble(
        [
            *complement_parts(problem, sizes, point.rank, noise),
            *(part._replace(residual=noise) for part in groups),
        ],
        problem=problem,
        gauge=orbit,
        method="class symmetry",
        note=f"invariant under permutations within {len(point.blocks)} blocks of classes",
    )


# The point ---------------------------------------------------------------------------------------


def block_point(problem: Problem, means: Params, blocks: list[Block]) -> BlockPoint | None:
    """The nearest such point of the K-column problem; None if it is too far."""
    W, H = np.asarray(means.W), np.asarray(means.H)
    logits = averaged(W @ H, blocks)
    balance = float(problem.lam_h / problem.lam_w) ** 0.25
    left, sizes, right = np.linalg.svd(logits)
    lengths = np.hypot(balance, 1 / balance) * np.sqrt(sizes)
    rank = numerical_rank(lengths)
    if rank > problem.dim:
        return None
    left, roots, right = left[:, :rank], np.sqrt(sizes[:rank]), right[:rank]
    near_w, near_h = balance * (left * roots) @ left.T, (left * roots) @ right / balance
    moved = _distance(np.vstack([W, H.T]), np.vstack([near_w, near_h.T]))
    bias = None
    if means.b is not None:
        bias = averaged_vector(np.asarray(means.b), blocks)
        moved = float(np.hypot(moved, np.linalg.norm(bias - np.asarray(means.b))))
    if moved > _ALIKE * max(float(np.linalg.norm(near_w)), 1.0):
        return None
    rows = left @ left.T
    return at_parameters(problem, near_w, near_h, bias, rows, rank, blocks)._replace(moved=moved)


def at_parameters(
    problem: Problem,
    W: Matrix,
    H: Matrix,
    b: Float[np.ndarray, " K"] | None,
    rows: Matrix,
    rank: int,
    blocks: list[Block],
) -> BlockPoint:
    """Make the point with these parameters and the derivatives of its losses."""
    shown = np.array([block[0] for block in blocks])
    columns = W @ H[:, shown] / np.sqrt(np.asarray(problem.column_weights)[shown])
    columns = columns if b is None else columns + b[:, None]
    found = loss_derivatives(problem.loss, columns.T, shown)
    return BlockPoint(problem, W, H, b, rows, rank, blocks, *found, moved=0.0)


def alike_classes(problem: Problem, means: Params) -> list[Block]:
    """Blocks of classes with equal inner products, bias and size."""
    W, H = np.asarray(means.W), np.asarray(means.H)
    samples = np.asarray(problem.column_weights)
    columns = [np.sum(W**2, axis=1), np.sum(H**2, axis=0), np.sum(W.T * H, axis=0)]
    if means.b is not None:
        columns.append(np.asarray(means.b))
    scale = max(*(float(np.max(np.abs(column))) for column in columns), 1.0)
    tags = np.stack([*(column / scale for column in columns), samples / np.max(samples)], axis=1)
    blocks: list[Block] = []
    left = np.arange(len(tags))
    while left.size:
        alike = np.max(np.abs(tags[left] - tags[left[0]]), axis=1) <= _ALIKE
        blocks.append(left[alike])
        left = left[~alike]
    return blocks


def _distance(X: np.ndarray, Y: np.ndarray) -> float:
    """The minimiser of ‖XQ − Y‖ over Q with orthonormal rows, for rank Y ≤ columns of X."""
    left, _, right = np.linalg.svd(X.T @ Y, full_matrices=False)
    return float(np.linalg.norm(X @ (left @ right) - Y))


# The forms ---------------------------------------------------------------------------------------


def samples_of(point: BlockPoint) -> Float[np.ndarray, " K"]:
    return np.asarray(point.problem.column_weights)


def feature_gradient_of(point: BlockPoint) -> Matrix:
    """G, the derivative of the loss term with respect to the logits W Ĥ."""
    G = _over_classes(point, lambda i: np.tile(point.gradient[i][:, None], len(point.blocks[i])))
    return G * np.sqrt(samples_of(point)) / np.sum(samples_of(point))


def _over_classes(point: BlockPoint, columns, operator=None) -> np.ndarray:
    """Σ_k (operator of class k)(column k), with the operator of the first class in each block.

    `columns(i)` are (…, K, n_i). For class k, its own row and that of the first class are
    exchanged.
    """
    K = len(point.W)
    parts = []
    for i, block in enumerate(point.blocks):
        x = columns(i)
        order = np.tile(np.arange(K)[:, None], len(block))
        order[block[0]], order[block, np.arange(len(block))] = block, block[0]
        order = np.broadcast_to(order, x.shape)
        if operator is not None:
            x = operator(i) @ np.take_along_axis(x, order, -2)
        parts.append(np.take_along_axis(x, order, -2))
    out = np.empty((*parts[0].shape[:-1], K))
    for block, part in zip(point.blocks, parts, strict=True):
        out[..., block] = part
    return out


def _product(point: BlockPoint, G: Matrix, A: Stack, B: Stack, c: Vectors) -> tuple:
    """Apply ∇²f to each direction of a stack."""
    problem, samples = point.problem, samples_of(point)
    roots, total = np.sqrt(samples), np.sum(samples)
    q = (A @ point.H + point.W @ B) / roots + c[:, :, None]
    dV = _over_classes(point, lambda i: q[..., point.blocks[i]], lambda i: point.hessian[i])
    dV = dV * (samples / total)
    dG = dV / roots
    lam_b = float(problem.lam_b or 0.0)
    return (
        dG @ point.H.T + G @ B.transpose(0, 2, 1) + float(problem.lam_w) * A,
        point.W.T @ dG + A.transpose(0, 2, 1) @ G + float(problem.lam_h) * B,
        np.sum(dV, axis=2) + lam_b * c,
    )


def directions(point: BlockPoint, of: Representation) -> Directions:
    """An orthonormal basis of one copy within the row space."""
    return Directions(
        orthonormal(of.matrices @ point.rows),
        orthonormal(point.rows @ of.matrices),
        of.vectors if point.problem.has_bias else of.vectors[:0],
    )


def hessian_form(point: BlockPoint, G: Matrix, along: Directions) -> Float[np.ndarray, "m m"]:
    """The Hessian on the span of the directions."""
    a, b = len(along.W), len(along.W) + len(along.H)
    K, m = len(point.W), b + len(along.b)
    stack_a, stack_b, stack_c = np.zeros((m, K, K)), np.zeros((m, K, K)), np.zeros((m, K))
    stack_a[:a], stack_b[a:b], stack_c[b:] = along
    images = _product(point, G, stack_a, stack_b, stack_c)
    pairs = zip((stack_a, stack_b, stack_c), images, strict=True)
    inner = [np.tensordot(x, y, (range(1, x.ndim), range(1, x.ndim))) for x, y in pairs]
    form = np.sum(inner, axis=0)
    return 0.5 * (form + form.T)


def orthonormal(matrices: Stack) -> Float[np.ndarray, "r K K"]:
    """An orthonormal basis of projected orthonormal vectors, whose singular values are 0 or 1."""
    flat = matrices.reshape(len(matrices), int(np.prod(matrices.shape[1:])))
    sizes, vectors = np.linalg.eigh(flat @ flat.T)
    kept = vectors[:, sizes > 0.5] / np.sqrt(sizes[sizes > 0.5])
    return (kept.T @ flat).reshape(-1, *matrices.shape[1:])


def deviation_eigenvalues(problem: Problem, point: BlockPoint) -> Iterator[tuple[np.ndarray, int]]:
    """λ_H I + WᵀS_kW in the row space for each block, and its number of deviations."""
    sizes, vectors = np.linalg.eigh(point.rows)
    basis = point.W @ vectors[:, sizes > 0.5]
    for hessian, block in zip(point.hessian, point.blocks, strict=True):
        inner = basis.T @ hessian @ basis / np.sum(samples_of(point))
        values = float(problem.lam_h) + np.linalg.eigvalsh(0.5 * (inner + inner.T))
        # Classes of the same size may have different numbers of weighted columns.
        yield values, sum(problem.class_counts[k] - 1 for k in block)
