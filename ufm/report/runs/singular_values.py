"""Singular values of Z = WH beside those of the minimiser, and of G = ∇g(Z) beside μ.

At a simplex ETF Z has K−1 of them, all ρ√n. At every critical point except the origin μ is one of
those of G. For a convex loss a critical point is a global minimum if none is above μ.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.class_means import class_sizes
from ufm.model.evaluation import evaluated
from ufm.model.objective import matmul
from ufm.model.problem import Params, Problem
from ufm.report._style import THIN, looks
from ufm.report._table import Table

Values = Float[np.ndarray, " _"]


def logit_singular_values(params: Params) -> Values:
    """σ_j(WH), descending; zeros beyond min(K, N) are omitted."""
    return _singular_values(matmul(params.W, params.H))


def gradient_singular_values(problem: Problem, params: Params) -> Values:
    """σ_j(G), descending."""
    return _singular_values(evaluated(problem, params).G)


def predicted_singular_values(minimum: GlobalMinimum) -> Values:
    """σ_j(Z*) of the minimiser, NaN if unknown."""
    count = min(minimum.problem.num_outputs, minimum.problem.num_columns)
    if not minimum.is_exact:
        return np.full(count, np.nan)
    sizes = np.asarray(class_sizes(minimum.problem))
    found = _singular_values(np.asarray(minimum.logits) * np.sqrt(sizes)[None, :])
    return np.pad(found, (0, count - len(found)))


def _singular_values(matrix: object) -> Values:
    values = np.asarray(matrix)
    if not np.isfinite(values).all():  # LAPACK may never return
        return np.full(min(values.shape), np.nan)
    return np.linalg.svd(values, compute_uv=False)


def singular_value_table(problem: Problem, minimum: GlobalMinimum, params: Params) -> Table:
    """Tabulate σ_j of Z, Z* and G, and μ, with j from 1."""
    values = logit_singular_values(params)
    return {
        "loss": problem.loss.label(),
        "index": np.arange(1, len(values) + 1),
        "logits": values,
        "predicted_logits": predicted_singular_values(minimum),
        "gradient": gradient_singular_values(problem, params),
        "mu": float(problem.mu()),
    }


def plot_logit_singular_values(tables: Sequence[Table], axes: Axes) -> Axes:
    """Draw σ_j(Z), one mark per loss, on rings at those of the minimiser."""
    for i, table in enumerate(tables):
        x = _beside(table, i, len(tables))
        axes.plot(x, table["logits"], label=table["loss"], **_mark(i))
        axes.plot(
            x,
            table["predicted_logits"],
            "o",
            mfc="none",
            mec="0.45",
            ms=5,
            mew=0.6,
            label="minimiser" if i == len(tables) - 1 else None,
        )
    axes.set_ylabel(r"$\sigma_j(Z)$")
    return _index_axis(axes)


def plot_gradient_singular_values(tables: Sequence[Table], axes: Axes) -> Axes:
    """Draw σ_j(G)/μ, one mark per loss, and the line at 1, which no global minimum exceeds."""
    axes.axhline(1.0, color="0.45", linewidth=THIN)
    for i, table in enumerate(tables):
        mu = table["mu"]
        ratio = table["gradient"] / mu if mu > 0 else np.full_like(table["gradient"], np.nan)
        axes.plot(_beside(table, i, len(tables)), ratio, **_mark(i))
    axes.set_ylabel(r"$\sigma_j(G)\,/\,\mu$")
    return _index_axis(axes)


def _mark(place: int) -> dict[str, Any]:
    return looks(place)._asdict() | {"linestyle": "", "markersize": 2.5, "markeredgewidth": 0}


def _beside(table: Table, position: int, count: int) -> Float[np.ndarray, " _"]:
    """Abscissae that put losses with equal values side by side."""
    return table["index"] + (position - (count - 1) / 2) * 0.6 / max(count, 1)


def _index_axis(axes: Axes) -> Axes:
    axes.set_xlabel("$j$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes
