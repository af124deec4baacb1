r"""Remove the rotations from a count: eigenvalues of ∇²f on the orbit's orthogonal complement.

f(WQ, QᵀH, b) = f(W, H, b), so f is a function on orbits. Its Hessian there is P∇²fP, with P the
projector onto the complement of the orbit's tangents (Absil, Mahony & Sepulchre, 2008, section
5.3). At critical points this removes the zeros of rotations, and elsewhere eigenvalues that reflect
only ∇f: tᵀ∇²f t is at most √2 ‖∇f‖/σ_r along a unit tangent t.

With an orthonormal basis O of the tangents (`ufm.hessian.symmetry_zeros`) and A = ∇²f − σI the
inertia of [[A, O], [Oᵀ, 0]] is, by Haynsworth in either order,

    below(P∇²fP, σ) = below(∇²f, σ) − #{eigenvalues of Oᵀ A⁻¹ O that are ≤ 0},

and in the arrow of `ufm.hessian.counts.arrow`, with O_h the part of the features and O_w the rest,

    Oᵀ A⁻¹ O = O_hᵀ D⁻¹ O_h + Rᵀ T_σ⁻¹ R,      R = O_w − C D⁻¹ O_h.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ufm._support.threads import one_blas_thread
from ufm.hessian.products.columns import Columns, HostPoint
from ufm.hessian.symmetry_zeros import frame, shift_is_free
from ufm.model.params import Params

#: Largest number of entries in the tangents of samples that are processed at once.
_NUMBERS = 1 << 22

#: Consecutive columns, the eigenvalues of WᵀS_iW/c_i and their vectors.
Diagonalised = tuple[Columns, Float[np.ndarray, "m k"], Float[np.ndarray, "m k k"]]


class Orbit(NamedTuple):
    """Tangents t_ab = (σ_a u_a q_bᵀ − σ_b u_b q_aᵀ)/√(σ_a² + σ_b²) of [W; Hᵀ] = U diag(σ) Qᵀ.

    If `shift`, the translation b + c1 is another.
    """

    left: Float[np.ndarray, "rows d"]
    right: Float[np.ndarray, "d d"]
    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    weights: Float[np.ndarray, "2 p"]
    shift: bool

    @property
    def dimension(self) -> int:
        return len(self.first) + self.shift

    def rows(self, part: slice) -> Float[np.ndarray, "n d t"]:
        """The tangents at some rows of [W; Hᵀ]."""
        left, (to_second, to_first) = self.left[part], self.weights
        found = (left[:, self.first] * to_second)[:, None, :] * self.right[:, self.second]
        found -= (left[:, self.second] * to_first)[:, None, :] * self.right[:, self.first]
        return np.pad(found, ((0, 0), (0, 0), (0, int(self.shift))))

    def border(self, classes: int, has_bias: bool) -> Float[np.ndarray, "border t"]:
        """The tangents at W, row by row, and at b."""
        of_w = self.rows(slice(0, classes)).reshape(-1, self.dimension)
        of_b = np.zeros((classes if has_bias else 0, self.dimension))
        if self.shift:
            of_b[:, -1] = classes**-0.5
        return np.concatenate([of_w, of_b])


def orbit(point: HostPoint) -> Orbit:
    """The tangents at a point."""
    found = frame(Params(jnp.asarray(point.W), jnp.asarray(point.H), None))
    dim, rank = point.problem.dim, found.rank
    right = np.linalg.qr(found.right, mode="complete")[0] if rank else np.eye(dim)
    right[:, :rank] = found.right
    sizes, left = np.zeros(dim), np.zeros((len(found.left), dim))
    sizes[:rank], left[:, :rank] = found.sizes, found.left
    first, second = np.triu_indices(dim, 1)
    first, second = first[first < rank], second[first < rank]
    pairs = np.stack([sizes[first], sizes[second]])
    weights = pairs / np.linalg.norm(pairs, axis=0)
    return Orbit(left, right, first, second, weights, shift_is_free(point.problem))


class Form(NamedTuple):
    """O_hᵀ D⁻¹ O_h and R for one shift."""

    features: Float[np.ndarray, "t t"]
    border: Float[np.ndarray, "border t"]

    def removed(self, complement: Float[np.ndarray, "border border"]) -> tuple[int, bool]:
        """The number of eigenvalues below the shift that rotations remove, and its certainty."""
        whole = self.features + self.border.T @ np.linalg.solve(complement, self.border)
        eigenvalues = np.linalg.eigvalsh(0.5 * (whole + whole.T))
        noise = len(whole) * float(np.finfo(whole.dtype).eps) * np.max(np.abs(eigenvalues))
        return int(np.sum(eigenvalues <= 0)), bool(np.min(np.abs(eigenvalues)) > 16 * noise)


@one_blas_thread()
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def forms(
    point: HostPoint,
    W: Float[np.ndarray, "K k"],
    parts: Iterable[Diagonalised],
    shifts: Float[np.ndarray, " s"],
    tangents: Orbit,
) -> list[Form]:
    """Make a form for every shift, in one pass over the samples; W is [W̃ 0] without its zeros."""
    classes, lam_h = len(W), point.decays[1]
    border = tangents.border(classes, point.b is not None)
    found = [Form(np.zeros((tangents.dimension,) * 2), border.copy()) for _ in shifts]
    for part, sizes, Q, rows in _portions(parts, classes, tangents):
        flat, across = rows.reshape(-1, tangents.dimension), slice(0, W.shape[1])
        turned = Q.transpose(0, 2, 1) @ rows[:, across]
        for form, shift in zip(found, shifts, strict=True):
            Y = rows / (lam_h - shift)
            Y[:, across] = Q @ (turned / (lam_h - shift + sizes)[:, :, None])
            form.features[...] += flat.T @ Y.reshape(flat.shape)
            G = part.hessians @ (W @ Y[:, across]) * part.roots[:, None, None]
            by_w = np.tensordot(part.features, G, (0, 0)).transpose(1, 0, 2)
            by_w += np.tensordot(part.gradients, Y, (0, 0))
            size = by_w.shape[0] * by_w.shape[1]
            form.border[:size] -= by_w.reshape(size, -1)
            if point.b is not None:
                form.border[size:] -= G.sum(axis=0)
    return found


def _portions(
    parts: Iterable[Diagonalised], classes: int, tangents: Orbit
) -> Iterator[tuple[Columns, np.ndarray, np.ndarray, Float[np.ndarray, "n d t"]]]:
    """Split into smaller parts, with the tangents at their samples."""
    step = max(1, _NUMBERS // max(1, len(tangents.right) * tangents.dimension))
    begin = classes
    for part, sizes, Q in parts:
        for start in range(0, len(sizes), step):
            few = slice(start, start + step)
            count = len(sizes[few])
            rows = tangents.rows(slice(begin, begin + count))
            begin += count
            yield Columns(*(x[few] for x in part)), sizes[few], Q[few], rows
