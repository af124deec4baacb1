r"""Lower bounds on f over norm sets from any point: one matrix for all of them.

Let g be convex, V any logits, Γ = ∇g(V), G the gradient in Z. For every feasible (W, H, b)

    f ≥ g(V) − ⟨Γ, V⟩ − S(G) − ‖Γ1‖²/(2λ_b),    −S(G) = min ⟨G, WH⟩ + λ_W/2 ‖W‖² + λ_H/2 ‖H‖²

over the sets. Multipliers a_k ≥ 0 of ‖w_k‖² ≤ r_k², β_i ≥ 0 of ‖h_i‖² ≤ R_i² bound S:

    [[diag a, G], [Gᵀ, diag β]] ⪰ 0   ⇒   S(G) ≤ ½ Σ a_k r_k² + ½ Σ β_i R_i²,

where λ_W or λ_H, without the sum, replaces the multipliers of a decayed factor, and one number
those of a budget. It is the dual of the hull {Z : [[A, Z], [Zᵀ, B]] ⪰ 0, A_kk ≤ r_k², B_ii ≤ R_i²},
the γ₂ ball for unit vectors (Linial & Shraibman, 2009). In units of the radii, G̃ = r G R:

- each vector bounded in both factors: the multipliers of the point, raised by −λ_min where the
  matrix is not positive; or σ₁(G̃) for all. Scaling one block by t and the other by 1/t leaves the
  matrix positive, so that S ≤ √(Σa Σβ) for the sums of scaled multipliers.
- otherwise S is a function of B = max_H ‖GHᵀ‖²: B/(2λ_W) for a decayed W, √(E B) for a budget E of
  ‖W‖² (or with the factors exchanged). For a budget E of ‖H‖², B = E σ₁(G)². For vectors,
  B ≤ Σβ for diag β ⪰ G̃ᵀG̃, with the multipliers of the point, β_k = ⟨h_k, HGᵀg_k⟩, raised where
  necessary; or B ≤ m σ₁(G̃)².
- W given: S(G) = Σ R_i ‖Wᵀg_i‖, R ‖WᵀG‖ for a budget, ‖WᵀG‖²/(2λ_H) for decayed H.

Every bound is exact at a critical point whose matrix is positive semidefinite. Eigenvalues are
charged 16 times their number eps, as in `ufm.model.rounding`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm.model.objective import matmul
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.rounding import machine_epsilon
from ufm.variants.norms.sets import Bounded, Given, sets

Scalar = Float[Array, ""]


class Upper(NamedTuple):
    """An upper bound, and the part of it that is an allowance for rounding."""

    value: Scalar
    rounding: Scalar


def support(problem: Problem, params: Params, G: Float[Array, "K m"]) -> Upper:
    """S(G) from above, with the multipliers of a point of the problem or of its hull."""
    of_w, of_h = sets(problem, G.dtype)
    lam_w, lam_h, _ = problem.decays(G.dtype)
    if isinstance(of_w, Given):
        found = _linear(of_h, matmul(of_w.matrix.T, G), lam_h)
    elif isinstance(of_w, Bounded) and isinstance(of_h, Bounded) and _each(of_w) and _each(of_h):
        found = _of_vectors(of_w, of_h, params, G)
    elif isinstance(of_h, Bounded) and (_each(of_h) or not isinstance(of_w, Bounded)):
        found = _with_one_multiplier(of_w, lam_w, _image(of_h, params.H, G))
    else:
        assert isinstance(of_w, Bounded)
        turned = of_w._replace(radius=of_w.radius.T)
        found = _with_one_multiplier(of_h, lam_h, _image(turned, params.W.T, G.T))
    rounded = (sum(G.shape) + 64) * machine_epsilon(G) * found.value
    return Upper(found.value + rounded, found.rounding + rounded)


def _each(set_: Bounded) -> bool:
    """Whether the bound is for each vector, rather than for the whole factor."""
    return len(set_.over) == 1


def _linear(of_h: Any, C: Float[Array, "d m"], lam_h: Scalar) -> Upper:
    """max −⟨C, H⟩ − λ_H/2 ‖H‖² over the set of H."""
    none = jnp.zeros((), C.dtype)
    if isinstance(of_h, Bounded):
        return Upper(jnp.sum(of_h.radius * jnp.sqrt(of_h.inner(C, C))), none)
    return Upper(0.5 * jnp.sum(C**2) / lam_h, none)


def _of_vectors(of_w: Bounded, of_h: Bounded, params: Params, G: Float[Array, "K m"]) -> Upper:
    eps, size = machine_epsilon(G), sum(G.shape)
    scaled = of_w.radius * G * of_h.radius
    a = -jnp.sum(params.W * matmul(G, params.H.T), axis=1)
    beta = -jnp.sum(params.H * matmul(params.W.T, G), axis=0)
    M = bordered(a, scaled, beta)
    error = 16 * size * eps * jnp.linalg.norm(M)
    lift = jnp.maximum(error - jnp.linalg.eigvalsh(M)[0], 0.0)
    # All are positive once raised: they are the diagonal of a positive matrix.
    sums = (jnp.maximum(jnp.sum(x + lift), 0.0) for x in (a, beta))
    by_point = jnp.sqrt(jnp.prod(jnp.stack(list(sums))))
    gram = matmul(scaled, scaled.T)
    total, top = jnp.trace(gram), jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0.0)
    uniform = jnp.sqrt(G.shape[0] * G.shape[1] * (top + 16 * size * eps * total))
    charged = jnp.minimum(0.5 * size * error, by_point)
    slack = jnp.where(uniform < by_point, 16 * size * eps * uniform, charged)
    return Upper(jnp.minimum(by_point, uniform), slack)


def bordered(
    a: Float[Array, " K"], G: Float[Array, "K m"], beta: Float[Array, " m"]
) -> Float[Array, "n n"]:
    """[[diag a, G], [Gᵀ, diag β]]."""
    top = jnp.concatenate([jnp.diag(a), G], axis=1)
    return jnp.concatenate([top, jnp.concatenate([G.T, jnp.diag(beta)], axis=1)])


def _with_one_multiplier(set_: Any, decay: Scalar, image: Upper) -> Upper:
    """S for a factor with one multiplier, from B of the other."""
    if not isinstance(set_, Bounded):
        return Upper(0.5 * image.value / decay, 0.5 * image.rounding / decay)
    found = set_.radius[0, 0] * jnp.sqrt(image.value)
    share = image.rounding / jnp.where(image.value > 0, image.value, 1.0)
    return Upper(found, share * found)  # at most, since √ is concave


def _image(set_: Bounded, X: Float[Array, "d m"], G: Float[Array, "K m"]) -> Upper:
    """B = max ‖GXᵀ‖² over a bounded set, from above."""
    eps, (rows, size) = machine_epsilon(G), G.shape
    gram = matmul(G.T, G)
    if not _each(set_):
        error = eps * (rows + 16 * size) * jnp.trace(gram)
        top = jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0.0)
        total = set_.radius[0, 0] ** 2
        return Upper(total * (top + error), total * error)
    scaled = set_.radius.T * gram * set_.radius
    beta = jnp.sum(X * matmul(X, gram), axis=0)
    error = eps * (rows + 16 * size) * (jnp.trace(scaled) + jnp.linalg.norm(beta))
    highest = (jnp.linalg.eigvalsh(x)[-1] for x in (scaled - jnp.diag(beta), scaled))
    lift, uniform = (jnp.maximum(x + error, 0.0) for x in highest)
    return Upper(jnp.minimum(jnp.sum(beta) + size * lift, size * uniform), size * error)
