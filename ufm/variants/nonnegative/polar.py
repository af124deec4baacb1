r"""The polar of the penalty on Z = WH with H ≥ 0, which takes the place of the spectral norm.

    γ(Z) = inf {Σ_r ‖w_r‖ ‖h_r‖ : Z = Σ_r w_r h_rᵀ, h_r ≥ 0},   f ≥ g + μ γ(Z) + λ_b/2 ‖b‖²,
    γ°(G) = max {‖Gv‖ : v ≥ 0, ‖v‖ = 1},   γ°² = max vᵀAv,   A = GᵀG.

With the columns √n_k ḡ_k of class averages γ° has K arguments for any N: ‖Gv‖ depends on the sums
of v over classes only. Two ways from above:

- γ°² ≤ λ_max(max(A, 0)), by Perron and Frobenius: exact if the entries of A off its diagonal are
  not positive, as at every minimum with orthogonal means;
- for K ≤ 15, the largest λ_max(A_SS) over the sets S of classes for which its eigenvector is ≥ 0. A
  maximiser of least support S is that eigenvector, and its eigenvalue is simple.

If the top of A_SS is simple only to within δ, rounding may hide the sign of its eigenvector. Then a
smaller set has a value within δ, which is added for each class.

    >>> round(float(polar(jnp.eye(3) - 1 / 3).value) ** 2, 9)     # a simplex frame: 1 − 1/K
    0.666666667
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm.model.objective import matmul
from ufm.model.rounding import machine_epsilon

Scalar = Float[Array, ""]

#: Most classes whose 2^K sets are searched, a second.
MOST_CLASSES = 15
#: Entries of eigenvectors count as not negative down to this number. LAPACK finds them to within
#: a tenth of it if the top is simple to within `_SIMPLE` K eps, relative to the largest.
_SIGN, _SIMPLE = 1e-3, 1e4
#: Steps of v ← max(Av, 0)/‖·‖, along which ‖Gv‖ does not fall.
_STEPS = 40


class Polar(NamedTuple):
    """γ° from below and from above."""

    #: ‖Gv‖ of `vector`, which is ≥ 0 and of norm 1.
    value: Scalar
    vector: Float[Array, " n"]
    #: An upper bound as computed, and one that allows for rounding.
    above: Scalar
    bound: Scalar


def polar(G: Float[Array, "K n"], norm_of_entries: Scalar | None = None) -> Polar:
    """γ°(G) from below and above; errors of G are relative to `norm_of_entries`, or ‖G‖_F."""
    (outputs, columns), eps = G.shape, machine_epsilon(G)
    A = matmul(G.T, G)
    total = jnp.trace(A)
    top, perron = jnp.linalg.eigh(jnp.maximum(A, 0.0))
    square, best = top[-1], jnp.abs(perron[:, -1])
    if columns <= MOST_CLASSES:
        # Where the vector attains the bound, no set can be better.
        attained = best @ A @ best >= square * (1.0 - 16 * eps)
        found, vector = jax.lax.cond(
            attained, lambda: (square, best), lambda: _best_face(A, eps * _SIMPLE * columns)
        )
        square = jnp.minimum(square, found)
        best = jnp.where(vector @ A @ vector > best @ A @ best, vector, best)
    start = jnp.concatenate([jnp.eye(columns, dtype=G.dtype), best[:, None]], axis=1)
    vectors = jax.lax.fori_loop(0, _STEPS, lambda _, V: _unit(jnp.maximum(A @ V, 0.0), V), start)
    sizes = jnp.linalg.norm(matmul(G, vectors), axis=0)
    which = jnp.argmax(sizes)
    error = eps * (outputs * total + 16 * columns * square)
    entries = jnp.sqrt(total) if norm_of_entries is None else norm_of_entries
    bound = jnp.sqrt(square + error) * (1.0 + 8 * eps) + (outputs + 64) * eps * entries
    return Polar(sizes[which], vectors[:, which], jnp.sqrt(jnp.maximum(square, 0.0)), bound)


def bounded_polar(
    G: Float[Array, "K n"], norm_of_entries: Scalar
) -> tuple[Scalar, Scalar, Float[Array, " n"]]:
    """γ° as a `DualNorm`."""
    found = polar(G, norm_of_entries)
    return found.above, found.bound, found.vector


def _unit(V: Float[Array, "n m"], otherwise: Float[Array, "n m"]) -> Float[Array, "n m"]:
    sizes = jnp.linalg.norm(V, axis=0, keepdims=True)
    return jnp.where(sizes > 0, V / jnp.where(sizes > 0, sizes, 1.0), otherwise)


def _best_face(A: Float[Array, "n n"], spread: float) -> tuple[Scalar, Float[Array, " n"]]:
    """The largest λ_max(A_SS) with an eigenvector ≥ 0, raised by n times the spread; the vector."""
    n = len(A)
    sets = np.arange(1, 2**n)[:, None] >> np.arange(n)[None, :] & 1
    masks = jnp.asarray(sets, A.dtype)
    # The other eigenvalues of the padded matrices are 0, below the top: A ⪰ 0.
    values, vectors = jnp.linalg.eigh(A[None, :, :] * masks[:, :, None] * masks[:, None, :])
    tops = vectors[:, :, -1] * jnp.where(jnp.sum(vectors[:, :, -1], axis=1) < 0, -1.0, 1.0)[:, None]
    allowed = jnp.where(jnp.min(tops, axis=1) >= -_SIGN, values[:, -1], 0.0)
    which = jnp.argmax(allowed)
    vector = _unit(jnp.maximum(tops[which], 0.0)[:, None], jnp.eye(n, 1, dtype=A.dtype))[:, 0]
    return allowed[which] * (1.0 + n * spread), vector
