"""Angles between classes: the classifier's rows and the class means beside a simplex ETF."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ufm.collapse.metrics import centering, class_means
from ufm.model.problem import Params, Problem, features
from ufm.report._table import Table

Matrix = Float[np.ndarray, "K K"]

#: The matrices, as columns of a table and titles of Axes.
NAMES = ("classifier", "class means", "simplex ETF")


def gram_matrices(problem: Problem, params: Params) -> dict[str, Matrix]:
    """WWᵀ, H̃ᵀH̃ of the centred class means, and that of a simplex ETF, each of mean diagonal 1.

    So a simplex ETF has 1 on the diagonal and −1/(K−1) elsewhere. NaN where there is no direction.
    """
    W, centred = np.asarray(params.W), centred_means(problem, params)
    grams = (_gram(W.T), _gram(centred), centering(problem.num_classes))
    return dict(zip(NAMES, map(_normalised, grams), strict=True))


def centred_means(problem: Problem, params: Params) -> Float[np.ndarray, "d K"]:
    """H̃: class means less the mean of all samples."""
    h = np.asarray(features(problem, params))
    samples = np.asarray(problem.samples(params.H.dtype))
    with np.errstate(over="ignore", invalid="ignore"):  # a run that overflowed: NaN
        return np.asarray(class_means(problem, params)) - (h @ samples / samples.sum())[:, None]


def _gram(vectors: Float[np.ndarray, "d K"]) -> Matrix:
    largest = np.max(np.abs(vectors))
    # Without a scale, squares of large entries overflow.
    scaled = vectors / largest if 0 < largest < np.inf else np.full_like(vectors, np.nan)
    return scaled.T @ scaled


def _normalised(gram: Matrix) -> Matrix:
    return gram * (len(gram) / np.trace(gram))


def gram_table(problem: Problem, params: Params) -> Table:
    """Every entry of the matrices; classes are numbered from 0."""
    grams = gram_matrices(problem, params)
    rows, columns = np.indices((problem.num_classes,) * 2)
    return {
        "loss": problem.loss.label(),
        "row": rows.ravel(),
        "column": columns.ravel(),
        **{name: gram.ravel() for name, gram in grams.items()},
    }


def plot_grams(problem: Problem, params: Params, axes: Iterable[Axes], limit: float = 1.0) -> None:
    """The three matrices on three Axes; colours run from −`limit` to `limit`."""
    for ax, (name, gram) in zip(axes, gram_matrices(problem, params).items(), strict=True):
        ax.imshow(gram, vmin=-limit, vmax=limit)
        ax.set_axis_off()
        ax.set_title(name)


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
