r"""The critical point W = H = 0, with its optimal bias.

The logits of every sample are b, so that f is a function of K numbers,

    φ(b) = Σ_k (n_k/N) L(b, k) + λ_b/2 ‖b‖²,      ∇φ(b) = Σ_k (n_k/N) ∇L(b, k) + λ_b b = 0,

minimised by Newton steps. If ∇φ = 0, the point is critical for any class counts, because the
gradients GHᵀ and WᵀG vanish with H and W. For cross-entropy with a free bias, b consists of log
priors, b_k = log(n_k/N) up to a shift; for MSE, b_k = (n_k/N)/(1 + λ_b).

    >>> skewed = Problem(loss=CrossEntropy(), class_counts=(6, 2), dim=2,
    ...                  lam_w=5e-3, lam_h=5e-3, lam_b=0.0)
    >>> b = origin(skewed).b
    >>> round(float(b[0] - b[1]), 6)     # log 3
    1.098612
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

_MOST_STEPS = 100
#: Eigenvalues of ∇²φ below this fraction of the largest belong to a shift that leaves φ unchanged.
_FLAT = 1e-13


@by_variant
def origin(problem: Problem) -> Params:
    """Compute the critical point W = 0, H = 0 with its optimal bias.

    Args:
        problem: The problem.

    Returns:
        The point: W (K, d), H (d, N) and b (K,), or None if the problem has no bias.
    """
    dtype = jnp.result_type(float)
    return Params(
        jnp.zeros((problem.num_outputs, problem.dim), dtype),
        jnp.zeros((problem.dim, problem.num_columns), dtype),
        origin_bias(problem) if problem.has_bias else None,
    )


def origin_bias(problem: Problem) -> Float[Array, " K"]:
    """A stationary b of φ, a minimum if the loss is convex; its sum is 0 if a shift is free.

    Raises `ValueError` if Newton's steps do not converge.
    """
    b = np.zeros(problem.num_outputs)
    value, gradient, curvature = _derivatives(problem, b)
    for _ in range(_MOST_STEPS):
        size = float(np.linalg.norm(gradient))
        if not np.all(np.isfinite(curvature)):
            raise ValueError(
                "the second derivatives of the loss are not finite at equal logits: the origin "
                "has no Hessian, and its bias is not found"
            )
        sizes, vectors = np.linalg.eigh(curvature)
        steep = np.abs(sizes) > _FLAT * np.max(np.abs(sizes))
        # |λ| gives a descent step where the focal loss is not convex.
        inverse = np.where(steep, 1.0 / np.where(steep, np.abs(sizes), 1.0), 0.0)
        step = -vectors @ (inverse * (vectors.T @ gradient))
        slope = float(gradient @ step)
        length = 1.0
        while True:
            trial = b + length * step
            after = _derivatives(problem, trial)
            enough = value + 1e-4 * length * slope
            # Near convergence φ changes by less than its rounding error, so the gradient decides.
            if after[0] <= enough or (after[0] <= enough + 1e-14 and _norm(after[1]) < size):
                break
            length /= 2.0
            if length < 1e-10:
                return _arrived(b, size)
        b, (value, gradient, curvature) = trial, after
        if _norm(gradient) >= 0.5 * size and size <= _small(b):
            break
    return _arrived(b, _norm(gradient))


def _arrived(b: np.ndarray, size: float) -> Float[Array, " K"]:
    if not size <= _small(b):
        raise ValueError(
            f"the bias at the origin was not found: the gradient stays at {size:.1e}. Is the loss "
            "bounded from below, and smooth?"
        )
    return jax.device_put(b)


def _small(b: np.ndarray) -> float:
    """The rounding error of the gradient: sums of K terms of order 1 and λ_b b."""
    return 1e-12 * (1.0 + float(np.max(np.abs(b))))


def _norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))


def _derivatives(problem: Problem, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    value, gradient, curvature = _at(problem, jax.device_put(b))
    return float(value), np.asarray(gradient), np.asarray(curvature)


@quick_jit
def _at(
    problem: Problem, b: Float[Array, " K"]
) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
    """φ, ∇φ and ∇²φ, accumulated class by class, so that K matrices are never stored."""
    sizes = class_sizes(problem, b.dtype)
    shares = sizes / jnp.sum(sizes)
    lam_b = jnp.asarray(problem.lam_b, b.dtype)

    def add(total, item):
        share, label = item
        loss = problem.loss
        terms = (loss.value(b, label), loss.gradient(b, label), loss.hessian(b, label))
        return jax.tree.map(lambda x, y: x + share * y, total, terms), None

    start = (
        0.5 * lam_b * jnp.sum(b**2),
        lam_b * b,
        lam_b * jnp.eye(problem.num_outputs, dtype=b.dtype),
    )
    return jax.lax.scan(add, start, (shares, jnp.arange(problem.num_classes)))[0]
