r"""The contrastive loss as a function of the Gram matrix X = HᵀH, and its derivatives.

Row r is an anchor i_r with a weight ω_r, Σω = 1, the number m_ra of samples that column a stands
for in its denominator, and its targets t_ra, equal on its positives, Σ_a t_ra = 1:

    f(X) = Σ_r ω_r [ log Σ_a m_ra e^{z_ra} − Σ_a t_ra z_ra ],   z_ra = X_{i_r a}/τ,

a log-sum-exp minus a linear function: convex in X. With p the softmax of z weighted by m,

    Γ = ½(D + Dᵀ),   D_ia = Σ_{r : i_r = i} ω_r (p_ra − t_ra)/τ,   ∇_H f = 2HΓ,
    ∇²_H f [B] = 2BΓ + 2HΓ',   D'_ia = Σ_r ω_r p_ra (z'_ra − Σ_c p_rc z'_rc)/τ,

z' the change of z under X' = BᵀH + HᵀB. In the full batch every column is an anchor. Columns may
stand for several samples with the same feature (`reduced`): m_ia = c_a − δ_ia, and targets are
proportional to that among columns of the anchor's class.

Everything is NumPy for arrays of NumPy, and JAX for those of JAX.
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ufm.variants.contrastive.problem import ContrastiveProblem


class Pairs(NamedTuple):
    """The rows of the loss: ω (R,), m (R, N) and t (R, N). Anchors are None if i_r = r."""

    anchors: Any
    weights: Any
    others: Any
    targets: Any


def reduced(problem: ContrastiveProblem) -> ContrastiveProblem:
    """The problem of K columns, in K dimensions, that each stand for a class.

    Its minimum is that of the full batch: averaging X over permutations within classes does not
    raise f, and then f falls in the cosine within a class, which may be 1 without a change of the
    others. It is attained in the features' dimension d if d ≥ rank C of its minimiser.
    """
    weights = jax.device_put(np.asarray(problem.class_counts, jnp.result_type(float)))
    classes = problem.num_classes
    return changed(problem, class_counts=(1,) * classes, dim=classes, column_weights=weights)


def changed(problem: ContrastiveProblem, **fields: Any) -> ContrastiveProblem:
    """The problem with other fields, without the constructor's checks of what users give."""
    found = copy.copy(problem)
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    return found


def pairs_of(problem: ContrastiveProblem, xp: Any, dtype: Any) -> Pairs:
    """The rows of a problem as arrays of NumPy or JAX."""
    if problem.batches is not None:
        anchors, *rows = _batch_rows(problem.class_counts, problem.batches)
        return Pairs(anchors, *(xp.asarray(x, dtype) for x in rows))
    labels = problem.labels
    samples = xp.ones(len(labels), dtype)
    if problem.column_weights is not None:
        samples = xp.asarray(problem.column_weights, dtype)
    same = xp.asarray(labels[:, None] == labels[None, :])
    others = samples[None, :] - xp.eye(len(labels), dtype=dtype)
    positives = xp.where(same, others, 0.0)
    count = xp.sum(positives, axis=1)
    weights = xp.where(count > 0, samples, 0.0)
    targets = positives / xp.where(count > 0, count, 1.0)[:, None]
    return Pairs(None, weights / xp.sum(weights), others, targets)


@functools.lru_cache(maxsize=8)
def _batch_rows(counts: tuple[int, ...], batches: tuple[tuple[int, ...], ...]) -> tuple[Any, ...]:
    """Anchors i_r, weights ω_r, m and t of batches: those anchors that have positives."""
    labels = np.repeat(np.arange(len(counts)), counts)
    anchors, weights, others, targets = [], [], [], []
    for batch in batches:
        present = np.isin(np.arange(len(labels)), batch)
        found = []
        for i in sorted(batch):
            rest = present & (np.arange(len(labels)) != i)
            positives = rest & (labels == labels[i])
            if positives.any():
                found.append((i, rest, positives / positives.sum()))
        anchors += [i for i, _, _ in found]
        weights += [1.0 / (len(batches) * len(found))] * len(found)
        others += [rest.astype(float) for _, rest, _ in found]
        targets += [shares for _, _, shares in found]
    return np.array(anchors, np.int32), np.array(weights), np.array(others), np.array(targets)


def of_anchors(pairs: Pairs, columns: Any) -> Any:
    """The columns of the anchors, or the rows, along the last axis."""
    return columns if pairs.anchors is None else columns[..., pairs.anchors]


def value_of(pairs: Pairs, z: Any) -> tuple[Any, Any]:
    """f and the probabilities p (R, N) at logits z (R, N)."""
    xp = np if isinstance(z, np.ndarray) else jnp
    present = pairs.others > 0
    top = xp.max(xp.where(present, z, -xp.inf), axis=1, keepdims=True)
    powers = pairs.others * xp.exp(xp.where(present, z - top, -xp.inf))
    total = xp.sum(powers, axis=1, keepdims=True)
    labelled = xp.sum(pairs.targets * z, axis=1)
    rows = xp.log(total[:, 0]) + top[:, 0] - labelled
    return xp.sum(pairs.weights * rows), powers / total


def slopes(pairs: Pairs, probabilities: Any, temperature: Any) -> Any:
    """∂f/∂X_{i_r a}, (R, N)."""
    return pairs.weights[:, None] * (probabilities - pairs.targets) / temperature


def slope_change(pairs: Pairs, probabilities: Any, change: Any, temperature: Any) -> Any:
    """The change of `slopes` as logits change by z' (R, N)."""
    mean = (probabilities * change).sum(axis=1, keepdims=True)
    return pairs.weights[:, None] * probabilities * (change - mean) / temperature


def symmetric(pairs: Pairs, rows: Any, columns: int) -> Any:
    """D + Dᵀ (N, N) from the rows (R, N) of D, which are added up over rows of the same anchor."""
    if pairs.anchors is not None and isinstance(rows, np.ndarray):
        total = np.zeros((columns, columns), rows.dtype)
        np.add.at(total, pairs.anchors, rows)
        rows = total
    elif pairs.anchors is not None:
        rows = jnp.zeros((columns, columns), rows.dtype).at[pairs.anchors].add(rows)
    return rows + rows.T
