"""The figures of trained networks as files, each with its data and its caption."""

from collections.abc import Callable, Sequence
from typing import Any

from ufm.report._figure import Page, page_files
from ufm.report.networks.curves import MODEL, Run, checked_runs, collapse_page, model_page
from ufm.report.networks.grid import Comparison, forest_page, grid_page
from ufm.report.runs.captions import METRICS

_LINES = (
    "Thin: every run. Thick: the median of a loss, with a mark at each measurement. Dashed: the "
    "learning rate falls. For each width its longest training."
)
CAPTIONS = {
    "collapse": (rf"Collapse of the last layer over all training images. {METRICS}. {_LINES}"),
    "model": (
        r"The last layer as a point of the unconstrained feature model, its feature decay inferred "
        r"from balance. $\|G\|_2/\mu$ is 1 at a minimum, $G=\nabla g(Z)$, "
        r"$\mu=\sqrt{\lambda_W\lambda_H}$; distance: to the nearest minimiser, relative to its "
        rf"size. Centred: the mean of the features moved to a bias without decay. {_LINES}"
    ),
    "accuracy": (
        "Mean test accuracy of each loss less that of cross-entropy, in points, over width and "
        "epochs: below 0 cross-entropy is ahead. Framed: equivalent within the margin (two "
        "one-sided t tests of paired seeds). Star: different from 0."
    ),
    "tests": (
        "Test accuracy less that of cross-entropy with its interval, over paired seeds. Grey: the "
        "margin. Equivalent is what lies in it whole; a hollow mark claims nothing, of too few "
        "seeds or without an interval."
    ),
}


def network_files(
    runs: Sequence[Run], comparisons: Sequence[Comparison] = (), suffix: str = ""
) -> list[tuple[str, bytes]]:
    """Make the files of network-collapse, and of other figures if the data suffice.

    They are network-model if every run has `dual_ratio` and `distance`, and network-accuracy and
    network-tests if there are comparisons. Raises `ValueError` for runs that are not complete.
    `suffix` ends the names, for one of several variants of a network.
    """
    checked_runs(runs)
    files = _files("collapse", suffix, collapse_page, runs)
    if all(each.name in run for run in runs for each in MODEL[:2]):
        files += _files("model", suffix, model_page, runs)
    if comparisons:
        files += _files("accuracy", suffix, lambda r: grid_page(r, comparisons), runs)
        files += _files("tests", suffix, forest_page, comparisons)
    return files


def _files(
    name: str, suffix: str, page: Callable[[Any], Page], data: Sequence[Any]
) -> list[tuple[str, bytes]]:
    return page_files(f"network-{name}{suffix}", page, data, CAPTIONS[name])
