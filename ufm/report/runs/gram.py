"""Angles between classes: Gram matrices of classifier and class means, and the minimiser's.

All are scaled to mean diagonal 1, so that a simplex ETF has 1 on the diagonal and −1/(K−1) off it.
"""

from collections.abc import Iterable

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from ufm.collapse.metrics import class_means
from ufm.minimum.global_minimum import GlobalMinimum
from ufm.model.objective import features
from ufm.model.problem import Params, Problem
from ufm.report._table import Table

Matrix = Float[np.ndarray, "K K"]

#: Names of the matrices, as columns of a table and as titles of Axes.
NAMES = {"classifier": r"$WW^\top$", "class means": r"$\tilde H^\top\!\tilde H$"}
#: Range of the colours of |G − G*|: rounding of products of unit vectors, and the largest error.
_LOW, _HIGH = 64 * float(np.finfo(float).eps), 1.0
SCALE = LogNorm(_LOW, _HIGH)


def gram_matrices(problem: Problem, params: Params) -> dict[str, Matrix]:
    """WWᵀ, and H̃ᵀH̃ of the centred class means; NaN for vectors without a direction."""
    W, centred = np.asarray(params.whole_classifier), centred_means(problem, params)
    return {
        name: _normalised(_gram(vectors))
        for name, vectors in zip(NAMES, (W.T, centred), strict=True)
    }


def predicted_grams(minimum: GlobalMinimum) -> dict[str, Matrix]:
    """The Gram matrices of the minimiser, NaN if it is the origin or unknown."""
    if not minimum.is_exact or not minimum.rank:
        sizes = (minimum.problem.num_outputs, minimum.problem.num_classes)
        return {
            name: np.full((size, size), np.nan) for name, size in zip(NAMES, sizes, strict=True)
        }
    return gram_matrices(minimum.problem, minimum.params(jax.random.key(0)))


def centred_means(problem: Problem, params: Params) -> Float[np.ndarray, "d K"]:
    """H̃, the class means minus the mean of all samples."""
    h = np.asarray(features(problem, params))
    samples = np.asarray(problem.samples(params.H.dtype))
    with np.errstate(over="ignore", invalid="ignore"):  # NaN for a run that overflowed
        return np.asarray(class_means(problem, params)) - (h @ samples / samples.sum())[:, None]


def _gram(vectors: Float[np.ndarray, "d K"]) -> Matrix:
    largest = np.max(np.abs(vectors), initial=0.0)
    # Rescale first, because squares of large entries overflow.
    scaled = vectors / largest if 0 < largest < np.inf else np.full_like(vectors, np.nan)
    return scaled.T @ scaled


def _normalised(gram: Matrix) -> Matrix:
    return gram * (len(gram) / np.trace(gram)) if gram.size else gram


def gram_table(problem: Problem, minimum: GlobalMinimum, params: Params | None) -> Table:
    """Tabulate all entries of the matrices and of the minimiser's; classes are numbered from 0.

    With targets the matrices may differ in size; entries that one does not have are NaN.

    If `params` is None, the point has collapsed to the origin, and its angles are NaN.
    """
    predicted = predicted_grams(minimum)
    blank = {name: np.full_like(gram, np.nan) for name, gram in predicted.items()}
    found = blank if params is None else gram_matrices(problem, params)
    size = max(problem.num_classes, problem.num_outputs)
    rows, columns = np.indices((size, size))
    return {
        "loss": problem.loss.label(),
        "row": rows.ravel(),
        "column": columns.ravel(),
        **{name: _padded(found[name], size) for name in NAMES},
        **{f"{name} of the minimiser": _padded(predicted[name], size) for name in NAMES},
    }


def _padded(gram: Matrix, size: int) -> Float[np.ndarray, " _"]:
    missing = size - len(gram)
    return np.pad(gram, (0, missing), constant_values=np.nan).ravel()


def plot_grams(
    problem: Problem, minimum: GlobalMinimum, params: Params | None, axes: Iterable[Axes]
) -> None:
    """Draw |G − G*| on two Axes, logarithmic, with the minimiser's G*; explain it if undefined.

    If `params` is None, the point has collapsed to the origin.
    """
    found = None if params is None else gram_matrices(problem, params)
    for ax, (name, predicted) in zip(axes, predicted_grams(minimum).items(), strict=True):
        ax.set_title(NAMES[name])
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        words = _undefined(minimum, found, name)
        if words or found is None:
            ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes)
            continue
        # Values below rounding have the colour of its bound.
        distance = np.maximum(np.abs(found[name] - predicted), _LOW)
        ax.imshow(distance, cmap="viridis_r", norm=SCALE)


def _undefined(minimum: GlobalMinimum, found: dict[str, Matrix] | None, name: str) -> str:
    """The reason why a comparison is undefined; empty if it is defined."""
    if found is None:
        return "collapsed\nto the origin"
    if not found[name].size:
        return "no classifier"
    if not minimum.is_exact:
        return "no minimiser\nis known"
    if not minimum.rank:
        return "the minimum\nis the origin"
    return "" if np.isfinite(found[name]).all() else "no direction"


def plot_cosines(params: Params, axes: Axes) -> Axes:
    """Draw cosines between the classifier's rows: 1 and −1/(K−1) at a simplex ETF."""
    W = np.asarray(params.whole_classifier)
    lengths = np.linalg.norm(W, axis=1, keepdims=True)
    unit = np.divide(W, lengths, out=np.full_like(W, np.nan), where=lengths > 0)
    image = axes.imshow(unit @ unit.T, vmin=-1, vmax=1)
    axes.set_xlabel("class")
    axes.set_ylabel("class")
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, label=r"$\cos\angle(w_j, w_k)$", shrink=0.8)
    return axes
