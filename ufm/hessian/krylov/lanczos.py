r"""Lanczos tridiagonalisation with full reorthogonalisation, and the resulting Gauss rule.

From a unit vector v, m products with a symmetric A give orthonormal rows Q (m×n) and

    A Qᵀ = Qᵀ T + β_m q_{m+1} e_mᵀ,     T = tridiag(β; α; β),   q_1 = v.

With T = S diag(θ) Sᵀ, the nodes θ_k and the weights S_{1k}² are the Gauss rule of v's spectral
measure Σ_i (u_iᵀv)² δ(λ_i) over A's eigenpairs: Σ_k S_{1k}² θ_kᵖ = vᵀ Aᵖ v for p ≤ 2m − 1 (Golub
and Meurant, Matrices, Moments and Quadrature with Applications, 2010, chapters 4 and 6).

**The end.** If A has few distinct eigenvalues, the Krylov space is invariant after that number of
steps, and the rule equals the measure. Rounding hides this: further steps produce copies of known
eigenvalues or, once β consists of rounding errors, directions that are not orthogonal to the
previous ones, whose nodes are not eigenvalues. Nodes within δ of each other are therefore merged.
With C the clusters of nodes,

    W₁(rule, measure) ≤ δ (1 + √#C) + Σ_C r_C,     r_C = β_m |Σ_{k∈C} S_{1k} S_{mk}|.

For a 1-Lipschitz f and y_C = Σ_{k∈C} S_{1k} Qᵀs_k, so that v = Σ_C y_C, the difference of the
integrals of f is at most δ for moving the nodes to θ_C, plus Σ_C vᵀ(f(A) − f(θ_C)) y_C. In A's
eigenbasis |f(λ_i) − f(θ_C)| ≤ |λ_i − θ_C|, so that a term is at most ‖(A − θ_C) y_C‖. The
iteration ends when Σ r_C ≤ δ and the nodes that are not within δ of an eigenvalue (r_C > δ‖y_C‖)
have at most δ/‖A‖ of the weight; these nodes are dropped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from scipy.linalg import eigh_tridiagonal

from ufm._support.random_numbers import gaussian
from ufm.hessian.products.trees import NOT_FINITE
from ufm.model.objective import matmul

#: An off-diagonal element below this many ε‖A‖ is a rounding error of the product and the
#: projections. Setting it to zero moves a node by at most as much (Weyl).
_ROUNDING = 100
#: δ/‖A‖ in float64. Runs end with gradients of 1e-10 (`ufm.solve`), so that eigenvalues that are
#: equal by symmetry at the minimum agree to about 1e-8 of the largest. In float32 δ is larger.
_RESOLUTION = 1e-8
#: Number of basis rows that one step of the reorthogonalisation reads.
_ROWS = 16
#: Smallest number of steps between two evaluations of the rule.
_LOOK = 8


class Lanczos(NamedTuple):
    """An unfinished run: Q, α and β up to `step`, the next row q, and the largest ‖A q‖ so far."""

    step: Int[Array, ""]
    basis: Float[Array, "rows n"]
    alpha: Float[Array, " m"]
    beta: Float[Array, " m"]
    q: Float[Array, " n"]
    scale: Float[Array, ""]
    going: Bool[Array, ""]


class GaussRule(NamedTuple):
    """Nodes, ascending, and weights. If `resolved`, the rule is v's measure to within a few δ.

    `alpha` and `beta` are the entries of T, the exact T of a matrix within `rounding` of A, since
    the run is backward stable. Nodes closer than `delta` are merged.
    """

    nodes: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " k"]
    resolved: bool
    alpha: Float[np.ndarray, " m"]
    beta: Float[np.ndarray, " m"]
    rounding: float
    delta: float


def probe(key: Key[Array, ""], size: int, dtype: Any) -> Float[Array, " n"]:
    """Draw a vector uniformly on the unit sphere.

    Its distribution is rotation invariant, so that errors depend only on the eigenvalues. Random
    signs (Rademacher) miss sparse eigenvectors: (e_1 − e_2)/√2 with probability ½.
    """
    x = np.asarray(gaussian(key, (size,), dtype))
    return jax.device_put(x / np.linalg.norm(x))


def begin(start: Float[Array, " n"], num_matvecs: int) -> Lanczos:
    """Start from a unit vector, with memory for `num_matvecs` ≤ n steps of n numbers each."""
    dtype = start.dtype
    # Whole blocks of rows: unused rows are zero, so that projecting onto them does nothing.
    rows = -(-num_matvecs // _ROWS) * _ROWS if num_matvecs > _ROWS else num_matvecs
    # Two arrays, because a buffer cannot be donated twice.
    alpha, beta = (jnp.zeros(num_matvecs, dtype) for _ in range(2))
    basis = jnp.zeros((rows, start.size), dtype)
    return Lanczos(jnp.int32(0), basis, alpha, beta, start, jnp.zeros((), dtype), jnp.asarray(True))


def advance(
    product: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    run: Lanczos,
    until: Int[Array, ""],
) -> Lanczos:
    """Make steps up to number `until`, or to the first β that is a rounding error, set to 0."""
    rows = min(_ROWS, len(run.basis))
    threshold = jnp.asarray(_ROUNDING * jnp.finfo(run.q.dtype).eps, run.q.dtype)

    def project_out(basis: Array, x: Array, step: Array) -> Array:
        def block(i: Array, x: Array) -> Array:
            part = jax.lax.dynamic_slice_in_dim(basis, i * rows, rows)
            return x - matmul(matmul(part, x), part)

        return jax.lax.fori_loop(0, step // rows + 1, block, x)

    def body(run: Lanczos) -> Lanczos:
        step, basis, alpha, beta, q, scale, _ = run
        basis = basis.at[step].set(q)
        image = product(q)
        diagonal = matmul(q, image)
        scale = jnp.maximum(scale, _length(image))
        # Twice is enough (Giraud, Langou and Rozložník 2005). In the first round all rows but the
        # last two contribute only rounding errors, so only the second reads the whole basis.
        before = jnp.maximum(step - 1, 0)
        rest = image - diagonal * q - beta[before] * basis[before]
        rest = project_out(basis, rest, step)
        off = _length(rest)
        going = off > threshold * scale
        return Lanczos(
            step + 1,
            basis,
            alpha.at[step].set(diagonal),
            beta.at[step].set(jnp.where(going, off, jnp.zeros_like(off))),
            rest / jnp.where(going, off, jnp.ones_like(off)),
            scale,
            going,
        )

    return jax.lax.while_loop(lambda run: (run.step < until) & run.going, body, run)


def _length(x: Float[Array, " n"]) -> Float[Array, ""]:
    """‖x‖, computed without underflow of squares."""
    largest = jnp.max(jnp.abs(x))
    unit = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    return unit * jnp.sqrt(jnp.sum((x / unit) ** 2))


def quadrature(
    step: Callable[[Lanczos, Int[Array, ""]], Lanczos],
    start: Float[Array, " n"],
    num_matvecs: int,
) -> GaussRule:
    """The rule of v = `start` with at most `num_matvecs` nodes; `step` is a compiled `advance`.

    Raises `ValueError` if a product is not finite.
    """
    run, until = begin(start, num_matvecs), 0
    while True:
        # Evaluating the rule costs the eigenvalues of T, negligible if intervals grow with T.
        until = min(num_matvecs, max(until + _LOOK, until + until // 4))
        run = step(run, jnp.int32(until))
        size = int(run.step)
        alpha, beta = (np.asarray(x, np.float64)[:size] for x in (run.alpha, run.beta))
        if not (np.all(np.isfinite(alpha)) and np.all(np.isfinite(beta))):
            raise ValueError(NOT_FINITE)
        rule = gauss_rule(alpha, beta, float(jnp.finfo(start.dtype).eps))
        if size == start.size:  # as many rows as dimensions: the space has no more
            rule = rule._replace(resolved=True, beta=np.append(beta[:-1], 0.0))
        if rule.resolved or size == num_matvecs:
            return rule


def gauss_rule(
    alpha: Float[np.ndarray, " m"], beta: Float[np.ndarray, " m"], eps: float
) -> GaussRule:
    """Nodes and weights of T; the last β couples T to the rest. `eps`: of the products' dtype."""
    # The threads of numpy.linalg.eigh compete with XLA's: 13 ms for 100 rows instead of 0.6.
    theta, S = eigh_tridiagonal(alpha, beta[:-1])
    relative = max(_RESOLUTION, _ROUNDING * eps)
    largest = float(np.max(np.abs(theta)))
    delta = relative * largest
    starts, first = [0], theta[0]
    for k, node in enumerate(theta):
        if node - first > delta:
            starts.append(k)
            first = node
    origin = np.repeat(theta[starts], np.diff([*starts, len(theta)]))
    weights = np.add.reduceat(S[0] ** 2, starts)
    shifts = np.add.reduceat(S[0] ** 2 * (theta - origin), starts)
    nodes = theta[starts] + shifts / np.maximum(weights, np.finfo(float).tiny)
    residuals = beta[-1] * np.abs(np.add.reduceat(S[0] * S[-1], starts))
    # A node whose residual, for a unit vector, exceeds δ is not an eigenvalue yet.
    early = residuals > delta * np.sqrt(weights)
    resolved = np.sum(residuals) <= delta and np.sum(weights[early]) <= relative
    # Components of eigenvectors are accurate to ε; a smaller one means v has no part in the node.
    kept = weights > eps**2
    if resolved:
        kept &= ~early
    weights = weights[kept] / np.sum(weights[kept])
    rounding = _ROUNDING * eps * largest
    return GaussRule(nodes[kept], weights, bool(resolved), alpha, beta, rounding, delta)
