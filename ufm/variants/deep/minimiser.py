"""What is known of the global minimum of a deep linear model, and its balanced factors."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.pytree import pytree, static
from ufm.collapse.metrics import orthonormal_columns
from ufm.minimum.minimiser import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.variants.deep.factors import decays_of, inner_widths, mean_decay, with_factors


@pytree()
class DeepMinimum(GlobalMinimum):
    """The minimum, or if `is_exact` is False the best known point and a proven lower bound.

    `logits` are W F_1 ⋯ F_L h̄_k, and `structure` names their geometry.
    """

    structure: str = static(default="")

    @property
    def kind(self) -> str:
        """Name the structure and its rank, also of a best known point; "unknown" if none is."""
        if not np.isfinite(self.value):
            return "unknown"
        if self.rank == 0:
            return "origin"
        return self.structure or f"rank {self.rank}"

    def params(self, key: Key[Array, ""] | None, dtype: Any = None) -> Params:
        """Build balanced factors with f = `value`, in a uniformly random orientation."""
        if not np.isfinite(self.value):
            raise ValueError(f"no minimiser is known: {self.reason}")
        return balanced_factors(self.problem, self.logits, self.bias, key, self.rank, dtype)


def deep_minimum(found: GlobalMinimum, structure: str = "", **changes: Any) -> DeepMinimum:
    """A `GlobalMinimum` with the name of its structure."""
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(GlobalMinimum)}
    return DeepMinimum(**{**fields, "structure": structure, **changes})


def balanced_factors(
    problem: Problem,
    table: Float[np.ndarray, "K m"],
    bias: Float[np.ndarray, " K"] | None,
    key: Key[Array, ""] | None,
    rank: int,
    dtype: Any = None,
) -> Params:
    """Factor the logits `table` of the classes with least decay: λ a_i² = Λ s_i^p for every factor.

    Without a key the inner spaces are oriented along their first axes.
    """
    sizes = np.asarray(class_sizes(problem), float)
    U, s, Vt = np.linalg.svd(table * np.sqrt(sizes), full_matrices=False)
    U, s, Vt = U[:, :rank], s[:rank], Vt[:rank]
    decays = [float(x) for x in decays_of(problem)]
    level = float(mean_decay(problem)) * s ** (2 / len(decays))
    widths = inner_widths(problem)
    frames = [np.eye(d, rank) for d in widths]
    if key is not None:
        keys = [jax.random.fold_in(key, i) for i in range(len(widths))]
        frames = [orthonormal_columns(k, d, rank) for k, d in zip(keys, widths, strict=True)]
    samples = np.ones(problem.num_columns)
    if problem.column_weights is not None:
        samples = np.asarray(problem.column_weights, float)
    share = np.sqrt(samples / sizes[problem.labels])
    left, right = [U, *frames], [*frames, Vt.T]
    factors = [
        (x * np.sqrt(level / decay)) @ np.asarray(y).T
        for x, y, decay in zip(left, right, decays, strict=True)
    ]
    factors[-1] = factors[-1][:, problem.labels] * share
    kind = dtype or jnp.result_type(float)
    b = None if bias is None else np.asarray(bias).astype(kind)
    return with_factors([F.astype(kind) for F in factors], b)
