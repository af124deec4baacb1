"""Shared problems and points: a handful of shapes, so that the tests share compiled programs.

Points are made in NumPy: in JAX each operation on each shape would be a program to compile.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ufm import MSE, Certificate, CrossEntropy, LabelSmoothing, Params, Problem
from ufm._support.quick_jit import quick_jit
from ufm.certificates.certificate import _certify

BALANCED, SKEWED, DIM = (2, 2, 2), (4, 2, 1), 4
#: No bias, a free one, a decayed one.
BIASES = (None, 0.0, 1e-2)
CONVEX = (CrossEntropy(), LabelSmoothing(0.1), MSE(), MSE(5.0, 3.0))
#: Label smoothing with one shape only: it differs from CE in its formulas, not in its structure.
CONVEX_PROBLEMS = [
    (loss, counts)
    for loss in CONVEX
    for counts in (BALANCED, SKEWED)
    if counts == SKEWED or not isinstance(loss, LabelSmoothing)
]


def softmax_entropy(z, label):
    """Cross-entropy for custom losses: programs are kept for each function."""
    return jax.nn.logsumexp(z) - z[label]


def make(loss, counts=BALANCED, lam_b=None, mu=1e-2, dim=DIM, ratio=2.0) -> Problem:
    """A problem with √(λ_W λ_H) = mu and λ_W/λ_H = ratio²."""
    return Problem(
        loss=loss, class_counts=counts, dim=dim, lam_w=mu * ratio, lam_h=mu / ratio, lam_b=lam_b
    )


def origin(problem: Problem, b=None) -> Params:
    """W = H = 0, and b where the problem has one."""
    bias = np.zeros(problem.num_classes) if b is None else np.asarray(b)
    return Params(
        jax.device_put(np.zeros((problem.num_classes, problem.dim))),
        jax.device_put(np.zeros((problem.dim, problem.num_columns))),
        jax.device_put(bias) if problem.has_bias else None,
    )


def gaussian(problem: Problem, seed: int, scale: float) -> Params:
    """Normal entries of standard deviation `scale`."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(scale * rng.standard_normal(x.shape)), origin(problem)
    )


def perturbed(params: Params, seed: int, relative: float) -> Params:
    """Normal noise, relative to the largest entry of each array."""
    rng = np.random.default_rng(seed)

    def noisy(x):
        x = np.asarray(x)
        return jnp.asarray(x + relative * rng.standard_normal(x.shape) * np.max(np.abs(x)))

    return jax.tree.map(noisy, params)


def padded(params: Params, dim: int) -> Params:
    """The same point in more dimensions, the new ones empty."""
    extra = dim - params.W.shape[1]
    W, H = np.pad(params.W, ((0, 0), (0, extra))), np.pad(params.H, ((0, extra), (0, 0)))
    return Params(jnp.asarray(W), jnp.asarray(H), params.b)


def rescaled(params: Params, factor: float) -> Params:
    """(cW, H/c, b): the same logits, an unbalanced penalty."""
    W, H = np.asarray(params.W), np.asarray(params.H)
    return Params(jnp.asarray(factor * W), jnp.asarray(H / factor), params.b)


def cast(params: Params, dtype) -> Params:
    return jax.tree.map(lambda x: x.astype(dtype), params)


def aligned(array) -> np.ndarray:
    """The array at an address from which JAX takes arrays without a copy."""
    values = np.asarray(array)
    memory = np.zeros(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    out[...] = values
    return out


def stacked(points: list[Params]) -> Params:
    """The points along a new first axis."""
    return jax.tree.map(lambda *x: jax.device_put(np.stack(x)), *points)


def certified(problem: Problem, points: list[Params], tol=None) -> list[Certificate]:
    """Certificates of points as in a batch: codes for verdict and reason, no curvatures counted."""
    relative = jnp.asarray(jnp.nan if tol is None else tol, points[0].W.dtype)
    return [_certify(problem, point, relative) for point in points]


@quick_jit
def certified_at_once(problem: Problem, points: Params, relative: Array) -> Certificate:
    """The same for stacked points, each with its tolerance; NaN is the default."""
    return jax.vmap(functools.partial(_certify, problem))(points, relative)
