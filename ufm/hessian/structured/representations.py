r"""The Hessian of the class means at a symmetric point, split by the symmetric group.

At W = CM, √n H̄ = MᵀD with C = sP + s₁J, D = tP + t₁J, J = 11ᵀ/K, MMᵀ = I (so that d = K, for
now), relabelling the classes maps (A, B, c) to (ΠAΠᵀ, ΠBΠᵀ, Πc) and leaves

    Q = Σ_k q_kᵀS_kq_k + 2⟨G, AB⟩ + λ_W‖A‖² + λ_H‖B‖² + λ_b‖c‖²,   q = (AD + CB)/√n + c1ᵀ

unchanged, with S_k = (1/K)(αI + βe_ke_kᵀ + γ(e_k1ᵀ + 1e_kᵀ) + δ11ᵀ) and G = gP + g₁J. By Schur's
lemma Q is one small block for each irreducible representation, repeated by its dimension. With
unit vectors v ⟂ 1, the representations on K×K matrices have the orthonormal bases

    trivial              P/√(K−1), J
    standard             1vᵀ/√K, v1ᵀ/√K, P diag(v) P/ν        ν = √((K−2)/K); K−1 times
    (K−2, 2)             E symmetric, E1 = 0, diag E = 0      K(K−3)/2 times, K ≥ 4
    (K−2, 1, 1)          E skew, E1 = 0                       (K−1)(K−2)/2 times, K ≥ 3

and in coordinates x of q = AD/√n + … each sum over k is an inner product: with m the coordinates
of diag(q) and l those of 1ᵀq,

    Σ_k q_kᵀS_kq_k = (1/K) xᵀ(αI + βmmᵀ + γ(mlᵀ + lmᵀ) + δllᵀ) x
    trivial:   m = (√(K−1), 1)/√K,   l = (0, √K)
    standard:  m = (1/√K, 1/√K, ν),  l = (√K, 0, 0)           else m = l = 0.

⟨G, AB⟩ couples P–P by g, J–J by g₁; 1vᵀ–v1ᵀ by g₁, v1ᵀ–1vᵀ by g, the third pair by g; the
symmetric pair by g, the skew pair by −g. Directions of the feature space in which the point is zero
(J if s₁ = 0, P if s = 0) belong to `ufm.hessian.structured.complement` and are omitted. (The blocks
of a simplex ETF, s₁ = 0, with shift-invariant losses are an explicit form of those of Zhou et al.,
2022.)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class LossHessian(NamedTuple):
    """α, β, γ, δ of ∇²L = αI + βe_ke_kᵀ + γ(e_k1ᵀ + 1e_kᵀ) + δ11ᵀ at symmetric logits."""

    alpha: float
    beta: float
    gamma: float
    delta: float


class SymmetricPoint(NamedTuple):
    """The scalars of the blocks (see the module); s, t, s₁, t₁ have the scaling √n H̄ = MᵀD."""

    num_classes: int
    per_class: int
    s: float
    t: float
    s1: float
    t1: float
    g: float
    g1: float
    loss: LossHessian
    lam_w: float
    lam_h: float
    lam_b: float | None

    @property
    def rank(self) -> int:
        return (self.num_classes - 1) * (self.s > 0) + (self.s1 > 0)


class Block(NamedTuple):
    """The form on one copy of a representation, and the number of copies."""

    label: str
    form: Float[np.ndarray, "m m"]
    multiplicity: int


def class_mean_blocks(at: SymmetricPoint) -> list[Block]:
    """One small symmetric matrix for each irreducible representation."""
    K = at.num_classes
    blocks = [
        Block("class means: trivial", _trivial(at), 1),
        Block("class means: standard", _standard(at), K - 1),
    ]
    if at.s > 0:
        pair = np.array([[at.s, at.t]]) / at.per_class**0.5
        data = at.loss.alpha / K * pair[:, ::-1].T @ pair[:, ::-1] + np.diag([at.lam_w, at.lam_h])
        coupling = np.array([[0.0, at.g], [at.g, 0.0]])
        blocks += [
            Block("class means: (K−2, 2)", data + coupling, K * (K - 3) // 2 if K > 3 else 0),
            Block("class means: (K−2, 1, 1)", data - coupling, (K - 1) * (K - 2) // 2),
        ]
    return [block for block in blocks if block.multiplicity and block.form.size]


def _trivial(at: SymmetricPoint) -> Float[np.ndarray, "m m"]:
    K = at.num_classes
    # Coordinates (P, J) of A, of B, and 1/√K of c; rows of `maps` give the coordinates of q.
    maps = np.zeros((2, 5))
    maps[0, [0, 2]] = at.t, at.s
    maps[1, [1, 3]] = at.t1, at.s1
    maps /= at.per_class**0.5
    maps[1, 4] = K**0.5
    diagonal = np.array([(K - 1) ** 0.5, 1.0]) / K**0.5
    sums = np.array([0.0, K**0.5])
    couplings = {(0, 2): at.g, (1, 3): at.g1}
    present = [at.s > 0, at.s1 > 0] * 2
    return _form(at, maps, diagonal, sums, couplings, (0, 1), (2, 3), present)


def _standard(at: SymmetricPoint) -> Float[np.ndarray, "m m"]:
    K = at.num_classes
    nu = max(K - 2, 0) ** 0.5 / K**0.5
    # Coordinates (1vᵀ, v1ᵀ, P diag(v) P) of A, of B, and v of c.
    maps = np.zeros((3, 7))
    maps[0, [0, 3]] = at.t, at.s1
    maps[1, [1, 4]] = at.t1, at.s
    maps[2, [2, 5]] = at.t, at.s
    maps /= at.per_class**0.5
    maps[1, 6] = K**0.5
    diagonal = np.array([K**-0.5, K**-0.5, nu])
    sums = np.array([K**0.5, 0.0, 0.0])
    couplings = {(0, 4): at.g1, (1, 3): at.g, (2, 5): at.g}
    # The direction of the feature space: columns of A, rows of B. P diag(v) P is 0 for K = 2.
    frame, level, third = at.s > 0, at.s1 > 0, at.s > 0 and K > 2
    present = [frame, level, third, level, frame, third]
    return _form(at, maps, diagonal, sums, couplings, (0, 1, 2), (3, 4, 5), present)


def _form(at, maps, diagonal, sums, couplings, of_w, of_h, present) -> Float[np.ndarray, "m m"]:
    alpha, beta, gamma, delta = at.loss
    inner = alpha * np.eye(len(diagonal)) + beta * np.outer(diagonal, diagonal)
    inner += gamma * (np.outer(diagonal, sums) + np.outer(sums, diagonal))
    inner += delta * np.outer(sums, sums)
    form = maps.T @ inner @ maps / at.num_classes
    for (i, j), value in couplings.items():
        form[i, j] += value
        form[j, i] += value
    form[of_w, of_w] += at.lam_w
    form[of_h, of_h] += at.lam_h
    kept = [*present, at.lam_b is not None]
    form[-1, -1] += at.lam_b or 0.0
    return form[np.ix_(kept, kept)]


def deviation_blocks(at: SymmetricPoint) -> list[Block]:
    """λ_H I + CᵀS_kC/n on span{P e_k, 1} and on its complement; each for K(n−1) deviations."""
    K, n = at.num_classes, at.per_class
    alpha, beta, gamma, delta = at.loss
    share = 1.0 - 1.0 / K
    frame = alpha + beta * share
    mixed = (beta / K + gamma) * (K - 1) ** 0.5
    level = alpha + beta / K + 2 * gamma + delta * K
    form = np.array(
        [
            [at.s**2 * frame, at.s * at.s1 * mixed],
            [at.s * at.s1 * mixed, at.s1**2 * level],
        ]
    ) / (K * n) + at.lam_h * np.eye(2)
    kept = [at.s > 0, at.s1 > 0]
    rest = np.array([[at.lam_h + at.s**2 * alpha / (K * n)]])
    origin = "deviations from class means: λ_H + s²χ"
    first = f"{origin}₁" if kept == [True, False] else origin
    blocks = [Block(first, form[np.ix_(kept, kept)], K * (n - 1))]
    if at.s > 0:
        blocks.append(Block(f"{origin}₂", rest, K * (n - 1) * (K - 2)))
    return [block for block in blocks if block.multiplicity and block.form.size]
