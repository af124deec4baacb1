"""Figures: a result in, Axes out.

Every function draws on the Axes it is given and returns them; figures, sizes and files are the
caller's. `style()` is the look of the library.

    with style():
        figure, axes = plt.subplots(1, 2)
        plot_gap(verifications, axes[0])
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ufm.problem import Params
from ufm.verification import Verification


def style() -> AbstractContextManager[None]:
    """The library's Matplotlib style, for one `with` block."""
    return plt.style.context(Path(__file__).with_name("ufm.mplstyle"))


def _histories(verification: Verification, field: str) -> list[Float[np.ndarray, "T 2"]]:
    """Per start: products and the field, as far as the run went."""
    history = verification.solutions.history
    products, values = np.asarray(history.products), np.asarray(getattr(history, field))
    used = np.asarray(history.step) >= 0
    return [np.column_stack([p[u], v[u]]) for p, v, u in zip(products, values, used, strict=True)]


def _plot_runs(
    axes: Axes, verifications: Sequence[Verification], field: str, subtract_minimum: bool
) -> Axes:
    for i, verification in enumerate(verifications):
        base = verification.minimum.value if subtract_minimum else 0.0
        for j, run in enumerate(_histories(verification, field)):
            label = verification.problem.loss.label() if j == 0 else None
            above = run[:, 1] - base
            shown = above > 0  # rounding can put f below f*: nothing to show on a log scale
            axes.plot(
                run[shown, 0], above[shown], color=f"C{i}", alpha=0.5, linewidth=0.6, label=label
            )
    axes.set_yscale("log")
    axes.set_xlabel("gradient evaluations")
    return axes


def plot_gap(verifications: Sequence[Verification], axes: Axes) -> Axes:
    """f − f* along every run, one colour per loss."""
    _plot_runs(axes, verifications, "value", subtract_minimum=True)
    axes.set_ylabel(r"$f - f^\star$")
    return axes


def plot_gradient_norm(verifications: Sequence[Verification], axes: Axes) -> Axes:
    """‖∇f‖ along every run, one colour per loss."""
    _plot_runs(axes, verifications, "grad_norm", subtract_minimum=False)
    axes.set_ylabel(r"$\|\nabla f\|$")
    return axes


def plot_cosines(params: Params, axes: Axes) -> Axes:
    """Cosines between the classifier's rows: 1 and −1/(K−1) at a simplex ETF."""
    W = np.asarray(params.W)
    lengths = np.linalg.norm(W, axis=1, keepdims=True)
    unit = np.divide(W, lengths, out=np.full_like(W, np.nan), where=lengths > 0)
    image = axes.imshow(unit @ unit.T, vmin=-1, vmax=1)
    axes.set_xlabel("class")
    axes.set_ylabel("class")
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, label=r"$\cos\angle(w_j, w_k)$", shrink=0.8)
    return axes
