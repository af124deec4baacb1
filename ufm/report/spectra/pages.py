"""The pages of `ufm spectrum`: spectra below each other, and eigenvalues along runs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ufm.report._figure import Page, page_files
from ufm.report._style import COLUMN, THIN, looks
from ufm.report._table import Table
from ufm.report.runs.captions import objective_in_tex
from ufm.report.runs.latex import described_in_tex
from ufm.report.spectra.spectrum import (
    common_limits,
    legend_handles,
    plot_spectrum,
    spectrum_table,
    theory_lines,
)
from ufm.spectra.along_run import SpectrumPath
from ufm.spectra.at_points import SpectrumRecord

#: The name of a loss, and its run.
LabelledPath = tuple[str, SpectrumPath]


def spectrum_files(records: Sequence[SpectrumRecord]) -> list[tuple[str, bytes]]:
    """Make the files of spectrum, with one row of the figure for each record."""
    return page_files("spectrum", spectrum_page, records, _caption(records))


def _caption(records: Sequence[SpectrumRecord]) -> str:
    said = [
        r"Eigenvalues of $\nabla^2 f$: a stick at each, as high as its multiplicity, and, where "
        r"all are known, the same smoothed over $0.06$ decades (shaded hills). The abscissa is "
        r"logarithmic on either side of its shaded part. Dotted: eigenvalues that theory names; "
        r"$\chi_1,\chi_2$ are those of the loss's Hessian in the logits at the minimum, "
        r"$s^2$ the squared length of a row of $W$."
    ]
    if any(record.escape is not None for record in records):
        said.append(
            r"escape: $-2(\|G\|_2-\mu)\mu/(\lambda_W+\lambda_H)$, the curvature along the escape "
            r"direction, $G=\nabla g(WH)$, $\mu=\sqrt{\lambda_W\lambda_H}$."
        )
    problem = records[0].problem
    return " ".join([*said, f"{objective_in_tex(problem)} with {described_in_tex(problem)}."])


def spectrum_path_files(paths: Sequence[LabelledPath]) -> list[tuple[str, bytes]]:
    """Make the files of spectrum-along."""
    caption = (
        r"Eigenvalues of $\nabla^2 f$ along a run, modulo the rotations of $(W,H)$, which leave "
        r"$f$ unchanged: the largest, the smallest, and how many are negative, against the step."
    )
    return page_files("spectrum-along", path_page, paths, caption)


def spectrum_page(records: Sequence[SpectrumRecord]) -> Page:
    """One column wide; the spectra share their abscissa."""
    figure = Figure(figsize=(COLUMN, 0.7 + 1.4 * len(records)))
    rows = figure.subplots(len(records), 1, sharex=True, squeeze=False)[:, 0]
    spectra = [record.spectrum for record in records]
    limits = common_limits(spectra)
    for axes, record in zip(rows, records, strict=True):
        lines = theory_lines(record.problem, record.spectrum, record.escape)
        plot_spectrum(record.spectrum, axes, lines, limits)
        axes.set_ylabel(f"{record.problem.loss.label()}\nmultiplicity")
    for axes in rows[:-1]:
        axes.set_xlabel("")
    handles = legend_handles(spectra)
    crowded = {"columnspacing": 0.8, "handletextpad": 0.2} if len(handles) > 3 else {}
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 4), **crowded
    )
    return figure, [spectrum_table(r.problem.loss.label(), r.spectrum) for r in records]


def path_table(label: str, path: SpectrumPath) -> Table:
    """Tabulate a run, one row for each recorded step."""
    return {
        "loss": label,
        "step": path.step,
        "gradient_evaluations": path.products,
        "value": path.value,
        "smallest": path.smallest,
        "largest": path.largest,
        "error": path.error,
        "negative": path.negative,
        "zero": path.zero,
        "positive": path.positive,
        "rotations": path.rotations,
    }


def path_page(paths: Sequence[LabelledPath]) -> Page:
    """The largest eigenvalue, the smallest, and how many are negative, against the step."""
    figure = Figure(figsize=(COLUMN, 4.4))
    largest, smallest, index = figure.subplots(3, 1, sharex=True)
    for i, (label, path) in enumerate(paths):
        look = {"markersize": 2.5, **looks(i)._asdict()}
        largest.plot(path.step, path.largest, label=label, **look)
        smallest.plot(path.step, path.smallest, **look)
        index.plot(path.step, path.negative, **look)
    largest.set_yscale("log")
    largest.set_ylabel(r"$\lambda_{\max}$")
    _signed(smallest, [path for _, path in paths])
    smallest.set_ylabel(r"$\lambda_{\min}$")
    index.set_yscale("symlog", linthresh=1.0)
    most = max(int(np.max(path.negative)) for _, path in paths)
    index.set_ylim(-0.3, 2.0 * max(most, 1))
    index.set_ylabel("negative\neigenvalues")
    index.set_xlabel("step")
    index.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = largest.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))
    return figure, [path_table(*each) for each in paths]


def _signed(axes: Axes, paths: Sequence[SpectrumPath]) -> None:
    """Set an axis that is logarithmic on both sides of 0, and linear where eigenvalues are 0."""
    largest = max(float(np.max(np.abs(path.smallest))) for path in paths)
    # A finer scale would show nothing more.
    linear = max(max(path.zero_tol for path in paths), 1e-4 * largest)
    linear = 10.0 ** np.ceil(np.log10(linear))
    axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
    axes.axhline(0.0, color="0.6", linewidth=THIN, zorder=0.5)
    low = min(float(np.min(path.smallest)) for path in paths)
    high = max(float(np.max(path.smallest)) for path in paths)
    # Room for whole markers at either end.
    axes.set_ylim(2.0 * min(low, -0.75 * linear), 2.0 * max(high, 0.75 * linear))
