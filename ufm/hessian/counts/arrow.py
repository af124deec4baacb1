r"""How many eigenvalues lie below given shifts, through the arrow structure, linear in N.

Given (W, b), the features of different samples do not interact, so the Hessian is N blocks of
size d bordered by (W, b) of size m = Kd + K:

    D_i = λ_H I + Wᵀ S_i W / c_i,          S_i = ω_i ∇²L(v_i, y_i)
    C_i = ∂²f / ∂(W,b) ∂ĥ_i,               M = ∂²f / ∂(W,b)²

and by Haynsworth, inertia(∇²f − σI) = Σ_i inertia(D_i − σI) + inertia(T_σ) with the Schur
complement T_σ = M − σI − Σ_i C_i (D_i − σI)^{-1} C_iᵀ. In a basis of the feature space whose first
k = min(K, d) directions span the rows of W, W = [W̃ 0] and the blocks are λ_H beyond them; with
W̃ᵀS_iW̃/c_i = Q_iΛ_iQ_iᵀ, taken once for all shifts, P_i = S_iW̃Q_i/√c_i, h_i the feature, g_i the
column of G and E_i = (λ_H − σ + Λ_i)^{-1}, the border's entries are sums of outer products

    T[(k,a),(l,b)] = Σ_i (S_i − P_iE_iP_iᵀ)_kl h_a h_b − h_a (P_iE_iQ_iᵀ)_kb g_l
                       − g_k (P_iE_iQ_iᵀ)_la h_b − g_k g_l (Q_iE_iQ_iᵀ)_ab + …

that is, three matrix products over the samples of 2K²d² operations each: m² d operations per
sample would be d/3 times as many.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ufm.hessian.products.dense import LARGEST, check_entries, check_point
from ufm.model.params import Params
from ufm.model.problem import Problem, feature_gradient, logit_gradient, logits, matmul

#: Samples whose outer products are formed at once: bounds memory by _CHUNK · (K² + d²) numbers.
_CHUNK = 256
#: Shifts counted in one pass over the samples, at most, and numbers in their Schur complements.
_SHIFTS, _NUMBERS = 16, 1 << 27


class Counts(NamedTuple):
    """Eigenvalues below each shift: the shifts that were used, and whether rounding decided."""

    shifts: Float[np.ndarray, " s"]
    below: Int[np.ndarray, " s"]
    reliable: Bool[np.ndarray, " s"]


class Arrow(NamedTuple):
    """A point ready for counting: rotated, with the eigenvalues of all blocks, ascending."""

    problem: Problem
    point: Params
    blocks: Float[np.ndarray, " Nk"]

    def counts(
        self, shifts: Float[np.ndarray, " s"], away: Float[np.ndarray, " s"] | float = 1.0
    ) -> Counts:
        """As `eigenvalue_counts`."""
        problem, blocks, dtype = self.problem, self.blocks, self.point.W.dtype
        border = border_size(problem)
        lone, lam_h = problem.dim - min(problem.num_classes, problem.dim), float(problem.lam_h)
        forbidden = np.insert(blocks, np.searchsorted(blocks, lam_h), lam_h) if lone else blocks
        eps = float(jnp.finfo(dtype).eps)
        ways = np.broadcast_to(away, shifts.shape)
        scale = float(np.max(np.abs(forbidden[[0, -1]])))
        scale = scale or float(np.max(np.abs(shifts), initial=0.0)) or 1.0  # no decay, W = 0
        pairs = zip(shifts, ways, strict=True)
        used = np.array([_moved(float(x), float(way), forbidden, eps, scale) for x, way in pairs])
        border_below = np.zeros(len(used), np.int64)
        reliable = np.zeros(len(used), bool)
        at_once = max(1, min(_SHIFTS, _NUMBERS // border**2))
        for i in range(0, len(used), at_once):
            part = jnp.asarray(used[i : i + at_once], dtype)
            for j, T in enumerate(np.asarray(_schur_complements(problem, self.point, part)), i):
                check_entries(T)
                eigenvalues = np.linalg.eigvalsh(0.5 * (T + T.T))
                noise = 16 * eps * border * float(np.max(np.abs(eigenvalues)))
                border_below[j] = np.sum(eigenvalues < 0)
                reliable[j] = np.min(np.abs(eigenvalues)) > noise
        in_blocks = np.searchsorted(blocks, used) + lone * problem.num_columns * (lam_h < used)
        return Counts(used, in_blocks.astype(np.int64) + border_below, reliable)


def arrow(problem: Problem, params: Params) -> Arrow:
    """Raises `ValueError` for a point that is not finite, where Kd + K > 10,000, and where the
    blocks overflow.
    """
    check_point(problem, params)
    border = border_size(problem)
    if border > LARGEST:
        raise ValueError(
            f"counting needs a matrix of Kd + K = {border:,} rows, more than {LARGEST:,}: take a "
            "point of lower rank in fewer dimensions, or method='collapsed' at collapsed points"
        )
    point = _rotated(params)
    blocks = np.sort(np.asarray(_block_eigenvalues(problem, point)).ravel())
    check_entries(blocks)
    return Arrow(problem, point, blocks)


def border_size(problem: Problem) -> int:
    """Kd, plus K with a bias."""
    return problem.num_classes * (problem.dim + problem.has_bias)


def eigenvalue_counts(
    problem: Problem,
    params: Params,
    shifts: Float[np.ndarray, " s"],
    away: Float[np.ndarray, " s"] | float = 1.0,
) -> Counts:
    """Eigenvalues of ∇²f below every shift, exactly; one factorisation of size Kd + K for each.

    A shift within rounding of an eigenvalue of a block is moved until it is not, in the direction
    of `away`. A count is not `reliable` where an eigenvalue of the Schur complement lies within
    rounding of 0. Raises `ValueError` for a point that is not finite and where Kd + K > 10,000.
    """
    return arrow(problem, params).counts(shifts, away)


def _moved(shift: float, way: float, forbidden: np.ndarray, eps: float, scale: float) -> float:
    """The shift, moved to where no eigenvalue of a block makes the Schur complement meaningless."""
    room = step = 1e3 * eps**0.75 * max(scale, abs(shift))
    while np.searchsorted(forbidden, shift - room) < np.searchsorted(forbidden, shift + room):
        shift += way * step
        step *= 2.0
    return shift


class _Columns(NamedTuple):
    """What the samples contribute, stacked along them."""

    labels: Int[Array, " N"]
    logits: Float[Array, "N K"]
    weights: Float[Array, " N"]
    roots: Float[Array, " N"]
    gradients: Float[Array, "N K"]
    features: Float[Array, "N d"]


@jax.jit
def _rotated(params: Params) -> Params:
    """The same point in a basis whose first min(K, d) directions span the rows of W."""
    classes, dim = params.W.shape
    if dim <= classes:
        return params
    basis, triangle = jnp.linalg.qr(params.W.T, mode="complete")
    return Params(triangle.T, matmul(basis.T, params.H), params.b)


def _columns(problem: Problem, params: Params) -> _Columns:
    samples = problem.samples(params.W.dtype)
    V = logits(problem, params)
    G = feature_gradient(problem, logit_gradient(problem, V))
    return _Columns(
        jnp.asarray(problem.labels),
        V.T,
        samples / jnp.sum(samples),
        jax.lax.rsqrt(samples),
        G.T,
        params.H.T,
    )


def _block(problem: Problem, W: Array, column: _Columns) -> tuple[Array, Array]:
    """S_i, and W̃ᵀS_iW̃/c_i."""
    S = column.weights * problem.loss.hessian(column.logits, column.labels)
    block = column.roots**2 * matmul(W.T, matmul(S, W))
    return S, 0.5 * (block + block.T)


@jax.jit
def _block_eigenvalues(problem: Problem, params: Params) -> Float[Array, "N k"]:
    W = params.W[:, : min(params.W.shape)]
    lam_h = jnp.asarray(problem.lam_h, W.dtype)
    return jax.lax.map(
        lambda column: lam_h + jnp.linalg.eigvalsh(_block(problem, W, column)[1]),
        _columns(problem, params),
        batch_size=_CHUNK,
    )


@jax.jit
def _schur_complements(
    problem: Problem, params: Params, shifts: Float[Array, " s"]
) -> Float[Array, "s m m"]:
    """T_σ for every σ, with (W row by row, then b) as its order."""
    dtype = params.W.dtype
    (K, d), k = params.W.shape, min(params.W.shape)
    W = params.W[:, :k]
    lam_w, lam_h = (jnp.asarray(x, dtype) for x in (problem.lam_w, problem.lam_h))

    def terms(column: _Columns) -> Any:
        S, block = _block(problem, W, column)
        sizes, Q = jnp.linalg.eigh(block)
        P = column.roots * matmul(S, matmul(W, Q))
        h, g = column.roots * column.features, column.gradients
        return S, sizes, Q, P, h, g

    def at_shift(shift: Array, stacked: Any) -> tuple[Array, ...]:
        S, sizes, Q, P, h, g = stacked
        inverse = 1.0 / (lam_h - shift + sizes)
        PE, QE = P * inverse[:, None, :], Q * inverse[:, None, :]
        left = S - matmul(PE, P.transpose(0, 2, 1))
        mixed = matmul(PE, Q.transpose(0, 2, 1))
        right = matmul(QE, Q.transpose(0, 2, 1))
        flat = (left, mixed, right)
        left, mixed, right = (x.reshape(len(x), -1) for x in flat)
        hh = (h[:, :, None] * h[:, None, :]).reshape(len(h), -1)
        gh = (g[:, :, None] * h[:, None, :]).reshape(len(h), -1)
        gg = (g[:, :, None] * g[:, None, :]).reshape(len(h), -1)
        return (
            matmul(left.T, hh),
            matmul(mixed.T, gh),
            matmul(gg.T, right),
            matmul(left.T, h),
            matmul(mixed.T, g),
            jnp.sum(left, axis=0),
        )

    def of_chunk(columns: _Columns) -> Any:
        stacked = jax.vmap(terms)(columns)
        return jax.lax.map(lambda shift: at_shift(shift, stacked), shifts)

    columns = _columns(problem, params)
    hh, gh, gg, lh, mg, left = _sum_over_chunks(of_chunk, columns, problem.num_columns)
    GG = matmul(columns.gradients.T, columns.gradients)

    def whole(shift: Array, hh, gh, gg, lh, mg, left) -> Array:
        # Indices: (k, l, a, b) → rows (k, a), columns (l, b).
        T = hh.reshape(K, K, d, d).transpose(0, 2, 1, 3)
        cross = jnp.zeros((K, d, K, d), dtype)
        cross = cross.at[:, :, :, :k].set(gh.reshape(K, k, K, d).transpose(0, 3, 2, 1))
        T = T - cross - cross.transpose(2, 3, 0, 1)
        T = T.at[:, :k, :, :k].add(-gg.reshape(K, K, k, k).transpose(0, 2, 1, 3))
        if d > k:
            beyond = jnp.diag((jnp.arange(d) >= k).astype(dtype)) / (lam_h - shift)
            T = T - GG[:, None, :, None] * beyond[None, :, None, :]
        T = T.reshape(K * d, K * d) + (lam_w - shift) * jnp.eye(K * d, dtype=dtype)
        if params.b is None:
            return T
        lam_b = jnp.asarray(problem.lam_b, dtype)
        # Rows of b (l), columns of W (k, a).
        of_b = lh.reshape(K, K, d)
        of_b = of_b.at[:, :, :k].add(-mg.reshape(K, k, K).transpose(0, 2, 1))
        of_b = of_b.reshape(K, K * d)
        corner = left.reshape(K, K) + (lam_b - shift) * jnp.eye(K, dtype=dtype)
        return jnp.block([[T, of_b.T], [of_b, corner]])

    return jax.lax.map(lambda args: whole(*args), (shifts, hh, gh, gg, lh, mg, left))


def _sum_over_chunks(function: Any, columns: _Columns, count: int) -> Any:
    """Σ over chunks of samples: everything at once would need N (K² + d²) numbers."""
    chunk = min(_CHUNK, count)
    whole = count // chunk
    head = jax.tree.map(lambda x: x[: whole * chunk].reshape(whole, chunk, *x.shape[1:]), columns)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], head))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def body(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    total, _ = jax.lax.scan(body, zero, head)
    if whole * chunk < count:
        rest = function(jax.tree.map(lambda x: x[whole * chunk :], columns))
        total = jax.tree.map(jnp.add, total, rest)
    return total
