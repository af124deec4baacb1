r"""Count the eigenvalues below given shifts by the arrow structure, in time linear in N.

Given (W, b), the features of different samples do not interact, so the Hessian is N blocks of
size d bordered by (W, b) of size m = Kd + K:

    D_i = λ_H I + Wᵀ S_i W / c_i,          S_i = ω_i ∇²L(v_i, y_i)
    C_i = ∂²f / ∂(W,b) ∂ĥ_i,               M = ∂²f / ∂(W,b)²

and by Haynsworth, inertia(∇²f − σI) = Σ_i inertia(D_i − σI) + inertia(T_σ) with the Schur
complement T_σ = M − σI − Σ_i C_i (D_i − σI)^{-1} C_iᵀ. In a basis of the feature space whose first
k = min(K, d) directions span the rows of W, W = [W̃ 0], and the blocks equal λ_H outside them. With
W̃ᵀS_iW̃/c_i = Q_iΛ_iQ_iᵀ, computed once for all shifts, P_i = S_iW̃Q_i/√c_i, h_i the feature, g_i
the column of G and E_i = (λ_H − σ + Λ_i)^{-1}, the border's entries are sums of outer products

    T[(k,a),(l,b)] = Σ_i (S_i − P_iE_iP_iᵀ)_kl h_a h_b − h_a (P_iE_iQ_iᵀ)_kb g_l
                       − g_k (P_iE_iQ_iᵀ)_la h_b − g_k g_l (Q_iE_iQ_iᵀ)_ab + …

that is, three matrix products over the samples of 2K²d² operations each. The direct way, m² d
operations per sample, takes d/3 times as many.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ufm._support.threads import one_blas_thread
from ufm.hessian.counts.orbit import Diagonalised, Form, Orbit, forms, orbit
from ufm.hessian.products.columns import Columns, HostPoint, host_point
from ufm.hessian.products.dense import LARGEST, check_entries
from ufm.model.params import Params
from ufm.model.problem import Problem

#: Most shifts in one pass over the samples, and most numbers in their Schur complements.
_SHIFTS, _NUMBERS = 16, 1 << 27
#: Largest border for which threads do not speed up LAPACK, but only spin while they wait.
_ONE_THREAD = 500


class Counts(NamedTuple):
    """Number of eigenvalues below each shift, the shifts used, and whether rounding decided."""

    shifts: Float[np.ndarray, " s"]
    below: Int[np.ndarray, " s"]
    reliable: Bool[np.ndarray, " s"]


class Arrow(NamedTuple):
    """A point prepared for counting: rotated, with the eigenvalues of all blocks, ascending.

    The directions of an `orbit` are left out (`ufm.hessian.counts.orbit`).
    """

    point: HostPoint
    blocks: Float[np.ndarray, " Nk"]
    orbit: Orbit | None = None

    @property
    def dimension(self) -> int:
        """How many eigenvalues there are to count."""
        return self.point.problem.num_parameters - (self.orbit.dimension if self.orbit else 0)

    def counts(
        self, shifts: Float[np.ndarray, " s"], away: Float[np.ndarray, " s"] | float = 1.0
    ) -> Counts:
        """Count the eigenvalues of ∇²f below each shift, by one factorisation of size Kd + K each.

        A shift within rounding of an eigenvalue of a block is moved away, in the direction of
        `away`. A count is not `reliable` if an eigenvalue of the Schur complement lies within
        rounding of 0.
        """
        problem, blocks = self.point.problem, self.blocks
        border = border_size(problem)
        lone, lam_h = problem.dim - min(problem.num_outputs, problem.dim), float(problem.lam_h)
        forbidden = np.insert(blocks, np.searchsorted(blocks, lam_h), lam_h) if lone else blocks
        eps = float(np.finfo(blocks.dtype).eps)
        ways = np.broadcast_to(away, shifts.shape)
        scale = float(np.max(np.abs(forbidden[[0, -1]])))
        scale = scale or float(np.max(np.abs(shifts), initial=0.0)) or 1.0  # no decay, W = 0
        pairs = zip(shifts, ways, strict=True)
        used = np.array([_moved(float(x), float(way), forbidden, eps, scale) for x, way in pairs])
        border_below = np.zeros(len(used), np.int64)
        reliable = np.zeros(len(used), bool)
        at_once = max(1, min(_SHIFTS, _NUMBERS // border**2))
        for i in range(0, len(used), at_once):
            part = used[i : i + at_once].astype(blocks.dtype)
            left_out = self._left_out(part)
            for j, T in enumerate(schur_complements(self.point, part), i):
                check_entries(T)
                with one_blas_thread() if border <= _ONE_THREAD else contextlib.nullcontext():
                    eigenvalues = np.linalg.eigvalsh(0.5 * (T + T.T))
                    removed, sure = left_out[j - i].removed(T) if left_out else (0, True)
                noise = 16 * eps * border * float(np.max(np.abs(eigenvalues)))
                border_below[j] = np.sum(eigenvalues < 0) - removed
                reliable[j] = sure and np.min(np.abs(eigenvalues)) > noise
        in_blocks = np.searchsorted(blocks, used) + lone * problem.num_columns * (lam_h < used)
        return Counts(used, in_blocks.astype(np.int64) + border_below, reliable)

    def _left_out(self, shifts: Float[np.ndarray, " s"]) -> list[Form]:
        """What the orbit takes, for every shift; nothing without one."""
        if self.orbit is None or not self.orbit.dimension:
            return []
        W = _spanning(self.point)
        return forms(self.point, W, _diagonalised(self.point, W), shifts, self.orbit)


def arrow(problem: Problem, params: Params, modulo_rotations: bool = False) -> Arrow:
    """Prepare a point. Raises `ValueError` if it is not finite, if Kd + K > 10,000, or if the
    blocks overflow.
    """
    point = host_point(problem, params)
    border = border_size(problem)
    if border > LARGEST:
        raise ValueError(
            f"counting needs a matrix of Kd + K = {border:,} rows, more than {LARGEST:,}: take a "
            "point of lower rank in fewer dimensions, or method='collapsed' at collapsed points"
        )
    point = _rotated(point)
    blocks = np.sort(
        np.concatenate([x.ravel() for x in block_eigenvalues(point, _spanning(point))])
    )
    return Arrow(point, blocks, orbit(point) if modulo_rotations else None)


def border_size(problem: Problem) -> int:
    """Size of the border: Kd, plus K with a bias."""
    return problem.num_outputs * (problem.dim + problem.has_bias)


def _moved(shift: float, way: float, forbidden: np.ndarray, eps: float, scale: float) -> float:
    """Move the shift away from eigenvalues of blocks, which ruin the Schur complement."""
    room = step = 1e3 * eps**0.75 * max(scale, abs(shift))
    while np.searchsorted(forbidden, shift - room) < np.searchsorted(forbidden, shift + room):
        shift += way * step
        step *= 2.0
    return shift


def _rotated(point: HostPoint) -> HostPoint:
    """Rotate the point to a basis whose first min(K, d) directions span the rows of W."""
    classes, dim = point.W.shape
    if dim <= classes:
        return point
    basis, triangle = np.linalg.qr(point.W.T, mode="complete")
    return point._replace(W=triangle.T, H=basis.T @ point.H)


def _spanning(point: HostPoint) -> Float[np.ndarray, "K k"]:
    """W̃."""
    return point.W[:, : min(point.W.shape)]


def _blocks(W: Float[np.ndarray, "K k"], columns: Columns) -> Float[np.ndarray, "m k k"]:
    """W̃ᵀS_iW̃/c_i."""
    blocks = W.T @ (columns.hessians @ W) * columns.roots[:, None, None] ** 2
    check_entries(blocks)
    return 0.5 * (blocks + blocks.transpose(0, 2, 1))


@one_blas_thread()
@np.errstate(over="ignore", invalid="ignore")
def block_eigenvalues(
    point: HostPoint, W: Float[np.ndarray, "K k"]
) -> list[Float[np.ndarray, "m k"]]:
    """λ_H + the eigenvalues of WᵀS_iW/c_i for all columns, computed a few hundred at a time."""
    lam_h = point.decays[1]
    return [lam_h + np.linalg.eigvalsh(_blocks(W, part)) for part in point.columns()]


def _diagonalised(point: HostPoint, W: Float[np.ndarray, "K k"]) -> Iterator[Diagonalised]:
    """All columns, with W̃ᵀS_iW̃/c_i = Q_iΛ_iQ_iᵀ."""
    for part in point.columns():
        sizes, Q = np.linalg.eigh(_blocks(W, part))
        yield part, sizes, Q


class _Sums(NamedTuple):
    """The sums over the samples for one shift, in the order of the module's formula.

    The block (W, W) has sums with h_a h_b, g_l h_b and g_k g_l, the block (b, W) with h_a and g_k,
    and the block (b, b) one sum.
    """

    hh: Float[np.ndarray, "KK dd"]
    gh: Float[np.ndarray, "Kk Kd"]
    gg: Float[np.ndarray, "KK kk"]
    h: Float[np.ndarray, "KK d"]
    g: Float[np.ndarray, "Kk K"]
    one: Float[np.ndarray, " KK"]


@one_blas_thread()
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def schur_complements(
    point: HostPoint, shifts: Float[np.ndarray, " s"]
) -> Iterator[Float[np.ndarray, "m m"]]:
    """T_σ for every σ, in the order W row by row, then b."""
    W, lam_h, totals = _spanning(point), point.decays[1], {}
    GG = np.zeros((len(W), len(W)), W.dtype)
    for part, sizes, Q in _diagonalised(point, W):
        P = part.hessians @ (W @ Q) * part.roots[:, None, None]
        GG += part.gradients.T @ part.gradients
        h, g = part.features, part.gradients
        outer = [_flat(x[:, :, None] * y[:, None, :]) for x, y in ((h, h), (g, h), (g, g))]
        for i, shift in enumerate(shifts):
            inverse = 1.0 / (lam_h - shift + sizes)[:, None, :]
            found = _sums(part, outer, P, Q, inverse)
            totals[i] = _Sums(*map(np.add, totals[i], found)) if i in totals else found
    return (_complement(point, GG, totals[i], shift) for i, shift in enumerate(shifts))


def _flat(x: Float[np.ndarray, "m p q"]) -> Float[np.ndarray, "m pq"]:
    return x.reshape(len(x), -1)


def _sums(
    columns: Columns,
    outer: list[Float[np.ndarray, "m _"]],
    P: Float[np.ndarray, "m K k"],
    Q: Float[np.ndarray, "m k k"],
    inverse: Float[np.ndarray, "m 1 k"],
) -> _Sums:
    """The contribution of some of the samples."""
    hh, gh, gg = outer
    PE, QT = P * inverse, Q.transpose(0, 2, 1)
    left = _flat(columns.hessians - PE @ P.transpose(0, 2, 1)).T
    mixed, right = _flat(PE @ QT).T, _flat(Q * inverse @ QT)
    return _Sums(
        left @ hh,
        mixed @ gh,
        gg.T @ right,
        left @ columns.features,
        mixed @ columns.gradients,
        np.sum(left, axis=1),
    )


def _complement(
    point: HostPoint,
    GG: Float[np.ndarray, "K K"],
    sums: _Sums,
    shift: float | np.floating,
) -> Float[np.ndarray, "m m"]:
    """The border's block from its sums, which have the indices (k, l, a, b)."""
    (K, d), k, (lam_w, lam_h, lam_b) = point.W.shape, min(point.W.shape), point.decays
    T = sums.hh.reshape(K, K, d, d).transpose(0, 2, 1, 3).copy()
    cross = sums.gh.reshape(K, k, K, d).transpose(0, 3, 2, 1)
    T[:, :, :, :k] -= cross
    T[:, :k] -= cross.transpose(2, 3, 0, 1)
    T[:, :k, :, :k] -= sums.gg.reshape(K, K, k, k).transpose(0, 2, 1, 3)
    if d > k:
        beyond = np.arange(k, d)
        T[:, beyond, :, beyond] -= GG / (lam_h - shift)
    T = T.reshape(K * d, K * d) + (lam_w - shift) * np.eye(K * d, dtype=T.dtype)
    if point.b is None:
        return T
    # Rows of b (l), columns of W (k, a).
    of_b = sums.h.reshape(K, K, d).copy()
    of_b[:, :, :k] -= sums.g.reshape(K, k, K).transpose(0, 2, 1)
    of_b = of_b.reshape(K, K * d)
    corner = sums.one.reshape(K, K) + (lam_b - shift) * np.eye(K, dtype=T.dtype)
    return np.block([[T, of_b.T], [of_b, corner]])
