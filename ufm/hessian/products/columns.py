r"""A point on the host, and the contributions of its columns to ∇²f, by one small program.

The Hessian as a matrix, and its blocks, are built in NumPy from

    S_i = ω_i ∇²L(v_i, y_i),   g_i = ω_i ∇L(v_i, y_i)/√c_i,   ĥ_i/√c_i.

The program that evaluates the derivatives of the losses depends neither on d nor on the number of
columns, so that one compilation suffices.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ufm._support.quick_jit import quick_jit
from ufm.losses import Loss
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes

#: Most columns returned at once, most columns that the program evaluates at once, and most numbers
#: in the Hessians of each.
_CHUNK, _EVALUATED, _NUMBERS = 256, 64, 1 << 22


class Derivatives(NamedTuple):
    """L, ∇L and ∇²L at m columns."""

    values: Float[np.ndarray, " m"]
    gradients: Float[np.ndarray, "m K"]
    hessians: Float[np.ndarray, "m K K"]


class Columns(NamedTuple):
    """Consecutive columns: S_i, g_i, ĥ_i/√c_i and 1/√c_i; 1/(τ√c_i) with a temperature τ."""

    hessians: Float[np.ndarray, "m K K"]
    gradients: Float[np.ndarray, "m K"]
    features: Float[np.ndarray, "m d"]
    roots: Float[np.ndarray, " m"]


class HostPoint(NamedTuple):
    """A point of the problem as NumPy arrays, with the number of samples of each column."""

    problem: Problem
    W: Float[np.ndarray, "K d"]
    H: Float[np.ndarray, "d N"]
    b: Float[np.ndarray, " K"] | None
    samples: Float[np.ndarray, " N"]

    @property
    def decays(self) -> tuple[Any, Any, Any]:
        """λ_W, λ_H and λ_b (0 without a bias), in the precision of the point."""
        problem, number = self.problem, self.W.dtype.type
        return tuple(number(x or 0.0) for x in (problem.lam_w, problem.lam_h, problem.lam_b))

    def columns(self) -> Iterator[Columns]:
        """Iterate over all columns in order, a few hundred at a time."""
        labels, roots = self.problem.labels, 1.0 / np.sqrt(self.samples)
        if self.problem.temperature is not None:
            roots /= roots.dtype.type(self.problem.temperature)
        weights = self.samples / np.sum(self.samples)
        size = _at_most(_CHUNK, len(self.W))
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            features = self.H[:, part].T * roots[part, None]
            logits = features @ self.W.T + (0.0 if self.b is None else self.b)
            found = loss_derivatives(self.problem.loss, logits, labels[part])
            yield Columns(
                found.hessians * weights[part, None, None],
                found.gradients * (weights * roots)[part, None],
                features,
                roots[part],
            )

    @np.errstate(over="ignore", invalid="ignore")
    def feature_gradient(self) -> Float[np.ndarray, "K N"]:
        """G."""
        return np.concatenate([part.gradients for part in self.columns()]).T

    @np.errstate(over="ignore", invalid="ignore")
    def gradient(self) -> Params:
        """The gradients of f with respect to W and H, without b."""
        G, (lam_w, lam_h, _) = self.feature_gradient(), self.decays
        by_w, by_h = G @ self.H.T + lam_w * self.W, self.W.T @ G + lam_h * self.H
        return Params(jax.device_put(by_w), jax.device_put(by_h), None)


def host_point(problem: Problem, params: Params) -> HostPoint:
    """Convert a point. Raises `ValueError` if its shapes do not fit or it is not finite."""
    check_point(problem, params)
    W, H, b = np.asarray(params.W), np.asarray(params.H), params.b
    weights = problem.column_weights
    samples = np.ones(problem.num_columns) if weights is None else np.asarray(weights)
    bias = None if b is None else np.asarray(b)
    return HostPoint(problem, W, H, bias, samples.astype(W.dtype))


def check_point(problem: Problem, params: Params) -> None:
    """Raise `ValueError` if the shapes of a point do not fit, or it is not finite."""
    check_shapes(problem, params)
    if not all(np.all(np.isfinite(np.asarray(x))) for x in jax.tree.leaves(params)):
        raise ValueError("the point is not finite: it has no Hessian")


def loss_derivatives(
    loss: Loss, logits: Float[np.ndarray, "m K"], labels: Int[np.ndarray, " m"]
) -> Derivatives:
    """L, ∇L and ∇²L at any number of columns."""
    size = _at_most(_EVALUATED, logits.shape[1])
    count, labels, parts = len(labels), labels.astype(np.int32), []
    if missing := -count % size:  # one program for all
        logits, labels = np.pad(logits, ((0, missing), (0, 0))), np.pad(labels, (0, missing))
    for start in range(0, count, size):
        part = slice(start, start + size)
        found = _derivatives(loss, logits[part], labels[part])
        parts.append([np.asarray(x)[: count - start] for x in found])
    return Derivatives(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def _at_most(columns: int, classes: int) -> int:
    return min(columns, max(1, _NUMBERS // classes**2))


@quick_jit
def _derivatives(
    loss: Loss, logits: Float[Array | np.ndarray, "m K"], labels: Int[Array | np.ndarray, " m"]
) -> tuple[Float[Array, " m"], Float[Array, "m K"], Float[Array, "m K K"]]:
    methods = (loss.value, loss.gradient, loss.hessian)
    value, gradient, hessian = (
        jax.vmap(x)(jnp.asarray(logits), jnp.asarray(labels)) for x in methods
    )
    return value, gradient, hessian
