"""Batches of problems: a leading axis on every hyperparameter that differs."""

from typing import Any

import jax
import jax.numpy as jnp

from ufm.losses import Loss
from ufm.model.constraints import Constraint
from ufm.model.problem import Problem


def problem_batch(problem: Problem) -> int | None:
    """Length of the leading axis of a batched problem; None for a single problem."""
    sizes = {leaf.shape[0] for leaf in _batched_leaves(problem)}
    if len(sizes) > 1:
        raise ValueError(f"the problem's hyperparameters have different lengths: {sorted(sizes)}")
    return sizes.pop() if sizes else None


def _is_batched(problem: Problem, path: Any, leaf: Any) -> bool:
    # Column weights have one axis in a single problem, and a loss may have arrays; other
    # hyperparameters are scalars.
    names = [getattr(key, "name", "") for key in path]
    by_nature, part = int(names[0] == "column_weights"), problem
    for name in names:  # a loss may contain another one
        if isinstance(part, Loss | Constraint):
            by_nature = part.ranks.get(name, 0)
        part = getattr(part, name, None)
    return jnp.ndim(leaf) > by_nature


def _batched_leaves(problem: Problem) -> list[Any]:
    leaves = jax.tree_util.tree_leaves_with_path(problem)
    return [leaf for path, leaf in leaves if _is_batched(problem, path, leaf)]


def batch_axes(problem: Problem, batch: int | None) -> Any:
    if batch is None:
        return None
    return jax.tree_util.tree_map_with_path(
        lambda path, x: 0 if _is_batched(problem, path, x) else None, problem
    )


def problem_entry(problem: Problem, i: int, batch: int | None) -> Problem:
    if batch is None:
        return problem
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x[i] if _is_batched(problem, path, x) else x, problem
    )
