r"""Matrices and vectors over classes under permutations within blocks of them.

Permutations Π within each of p blocks act on K×K matrices by X ↦ ΠXΠᵀ and on vectors by x ↦ Πx.
With 1_i the ones on block i, n_i its size and v_i ⟂ 1_i a vector on it, the representations on
matrices are

    trivial            1_i 1_jᵀ, P_i                                   once, p² + p of them
    standard of i      1_j v_iᵀ, v_i 1_jᵀ (all j), P_i diag(v_i) P_i   n_i − 1 times
    standard of i, j   v_i v_jᵀ, v_j v_iᵀ                              (n_i−1)(n_j−1) times, i < j
    (n_i−2, 2)         symmetric on block i, zero rows and diagonal    n_i(n_i−3)/2 times
    (n_i−2, 1, 1)      skew on block i, zero rows                      (n_i−1)(n_i−2)/2 times

all of size 1, and vectors are the 1_i (trivial) and the v_i (standard).

    >>> sum(m * len(matrices) for _, matrices, _, m in representations([np.arange(3)]))
    9
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Matrix = Float[np.ndarray, "K K"]
Stack = Float[np.ndarray, "m K K"]
Vectors = Float[np.ndarray, "m K"]
Block = Int[np.ndarray, " _"]


class Representation(NamedTuple):
    """One copy of an irreducible representation: its matrices, vectors, and number of copies."""

    label: str
    matrices: Stack
    vectors: Vectors
    multiplicity: int


def representations(blocks: list[Block]) -> Iterator[Representation]:
    """One representative of every irreducible representation on matrices and vectors."""
    K = sum(map(len, blocks))
    ones = [_vector(K, {int(k): 1.0 for k in block}) for block in blocks]
    planes = {
        i: _vector(K, {int(block[0]): 1.0, int(block[1]): -1.0})
        for i, block in enumerate(blocks)
        if len(block) > 1
    }
    within = {i: np.diag(ones[i] != 0) - np.outer(ones[i], ones[i]) for i in planes}
    trivial = [np.outer(x, y) for x in ones for y in ones]
    trivial += [P / np.linalg.norm(P) for P in within.values()]
    yield Representation("trivial", np.stack(trivial), np.stack(ones), 1)
    for i, v in planes.items():
        n, P = len(blocks[i]), within[i]
        standard = [np.outer(x, v) for x in ones] + [np.outer(v, x) for x in ones]
        if n > 2:
            third = P @ np.diag(v) @ P
            standard.append(third / np.linalg.norm(third))
        yield Representation("standard", np.stack(standard), v[None, :], n - 1)
        if n > 2:
            skew = _matrix(K, blocks[i], {(0, 1): 1, (1, 2): 1, (2, 0): 1}, -1)
            yield Representation("(n−2, 1, 1)", skew, np.zeros((0, K)), (n - 1) * (n - 2) // 2)
        if n > 3:
            entries = {(0, 2): 1, (0, 3): -1, (1, 2): -1, (1, 3): 1}
            symmetric = _matrix(K, blocks[i], entries, 1)
            yield Representation("(n−2, 2)", symmetric, np.zeros((0, K)), n * (n - 3) // 2)
        for j, w in planes.items():
            if i < j:
                pair = np.stack([np.outer(v, w), np.outer(w, v)])
                count = (n - 1) * (len(blocks[j]) - 1)
                yield Representation("standard × standard", pair, np.zeros((0, K)), count)


def _vector(K: int, entries: dict[int, float]) -> Float[np.ndarray, " K"]:
    out = np.zeros(K)
    out[list(entries)] = list(entries.values())
    return out / np.linalg.norm(out)


def _matrix(K: int, block: Block, entries: dict, sign: int) -> Stack:
    """X ± Xᵀ, normalised, with the entries of X within the block."""
    out = np.zeros((K, K))
    for (i, j), value in entries.items():
        out[block[i], block[j]] += value
        out[block[j], block[i]] += sign * value
    return out[None] / np.linalg.norm(out)


def averaged(X: Matrix, blocks: list[Block]) -> Matrix:
    """The mean of a matrix over all permutations within the blocks."""
    out = np.empty_like(X)
    for block in blocks:
        for other in blocks:
            out[np.ix_(block, other)] = np.mean(X[np.ix_(block, other)])
        within, n = X[np.ix_(block, block)], len(block)
        mean = np.mean(np.diag(within))
        if n > 1:
            out[np.ix_(block, block)] = (np.sum(within) - n * mean) / (n * (n - 1))
        out[block, block] = mean
    return out


def averaged_vector(x: Float[np.ndarray, " K"], blocks: list[Block]) -> Float[np.ndarray, " K"]:
    out = np.empty_like(x)
    for block in blocks:
        out[block] = np.mean(x[block])
    return out
