r"""The K-column problem of the class means, and the maps between classes and samples.

With sizes n_k = Σ_{i∈k} c_i and the unit vectors u_k, u_ki = √(c_i/n_k) on the columns of class k,
a matrix with a column per sample splits into X = Y Uᵀ + X_⊥, Y = XU: class means, times √n_k, and
deviations from them, orthogonal to each other. At points without deviations f is the objective of
`reduced_problem`, whose columns have the weights n_k. For a convex loss every critical point is of
this kind, because each feature minimises the same strictly convex function as its class.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.objective import matmul
from ufm.model.problem import Problem


def class_sizes(problem: Problem, dtype: Any = None) -> Float[Array, " K"]:
    """n_k: the number of samples in each class, counting column weights."""
    dtype = dtype or jnp.result_type(float)
    if problem.column_weights is None:
        return jax.device_put(np.asarray(problem.class_counts, dtype))
    labels = jax.device_put(problem.labels)
    return jax.ops.segment_sum(problem.samples(dtype), labels, problem.num_classes)


def reduced_problem(problem: Problem, dim: int | None = None) -> Problem:
    """The K-column problem with the class sizes as weights, in `dim` dimensions.

    None is the largest rank of the logits.
    """
    return Problem(
        loss=problem.loss,
        class_counts=(1,) * problem.num_classes,
        dim=dim or min(problem.num_classes, problem.num_outputs),
        lam_w=problem.lam_w,
        lam_h=problem.lam_h,
        lam_b=problem.lam_b,
        column_weights=class_sizes(problem),
    )


@quick_jit
def to_class_means(problem: Problem, X: Float[Array, "m N"]) -> Float[Array, "m K"]:
    """XU: for features, √n_k times the mean of each class."""
    classes, rows = problem.num_classes, X.shape[0]
    weighted = X * _shares(problem, X)[None, :]
    if _equal_counts(problem):
        return jnp.sum(weighted.reshape(rows, classes, -1), axis=2)
    # A product with class indicators, since scatter-adds are far slower on every backend.
    indicators = jax.nn.one_hot(jax.device_put(problem.labels), classes, dtype=X.dtype)
    return matmul(weighted, indicators)


@quick_jit
def from_class_means(problem: Problem, Y: Float[Array, "m K"]) -> Float[Array, "m N"]:
    """YUᵀ, the transpose of `to_class_means`, and its inverse on points without deviations."""
    shares = _shares(problem, Y)
    if _equal_counts(problem):
        per_class = shares.reshape(1, problem.num_classes, -1)
        return (Y[:, :, None] * per_class).reshape(Y.shape[0], problem.num_columns)
    return Y[:, jax.device_put(problem.labels)] * shares[None, :]


@quick_jit
def deviations(problem: Problem, X: Float[Array, "m N"]) -> Float[Array, "m N"]:
    """X(I − UUᵀ)."""
    return X - from_class_means(problem, to_class_means(problem, X))


def _equal_counts(problem: Problem) -> bool:
    return len(set(problem.class_counts)) == 1


def _shares(problem: Problem, like: Array) -> Float[Array, " N"]:
    """√(c_i/n_k)."""
    if problem.column_weights is None:
        counts = np.repeat(problem.class_counts, problem.class_counts)
        return jax.device_put((1.0 / np.sqrt(counts)).astype(like.dtype))
    sizes = class_sizes(problem, like.dtype)
    return jnp.sqrt(problem.samples(like.dtype) / sizes[jax.device_put(problem.labels)])
