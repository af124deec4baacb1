"""Hessian spectra of four losses, at their minima and at a strict saddle.

The global minima of cross-entropy, label smoothing, focal loss and MSE are valleys: as many zero
eigenvalues as rotations force, all others positive. The origin is a strict saddle whose negative
curvature the theory of Zhou et al. (NeurIPS 2022) predicts. Everything is exact: no eigenvalue is
estimated, and the multiplicities add up to the number of parameters.

    python examples/03_spectra.py --figure spectra.png
    python examples/03_spectra.py --quick    # seconds, and against a dense matrix
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import ufm
from ufm.report import plot_spectrum, style, theory_lines
from ufm.report.spectra.spectrum import common_limits, legend_handles
from ufm.spectra.at_points import record_at

LOSSES = (ufm.CrossEntropy(), ufm.LabelSmoothing(0.1), ufm.Focal(3.0), ufm.MSE())


def main() -> None:
    parser = argparse.ArgumentParser(description="Spectra at minima and at a saddle.")
    parser.add_argument("--quick", action="store_true", help="a small problem, checked densely")
    parser.add_argument("--figure", type=Path, help="where to save the picture (png, pdf, svg)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # eigenvalues span ten orders of magnitude

    size = {"num_classes": 4, "per_class": 5, "dim": 6} if options.quick else {
        "num_classes": 10, "per_class": 100, "dim": 16
    }  # fmt: skip
    problems = [
        ufm.Problem.balanced(loss=loss, **size, lam_w=5e-4, lam_h=5e-4, lam_b=1e-2)
        for loss in LOSSES
    ]
    minima = [record_at(problem, "minimum") for problem in problems]
    saddles = [record_at(problem, "origin") for problem in problems]

    # 1. Minima: positive definite, but for the rotations.
    for record in minima:
        found = record.spectrum
        assert found.definite_modulo_gauge
        print(
            f"{record.problem.loss.label():10} minimum: {found.dimension:,} eigenvalues, "
            f"{len(found.eigenvalues)} distinct; rotations explain {found.gauge_dimension} of "
            f"{found.zero} zeros, the others lie in [{found.eigenvalues[1]:.3e}, "
            f"{found.eigenvalues[-1]:.3e}]"
        )

    # 2. The origin: in each dimension as many directions down as G has singular values above mu,
    # K−1 (or K, for MSE with a decayed bias). The steepest is as predicted, because the decays are
    # equal here; where they differ, the smallest eigenvalue is below the prediction.
    for record in saddles:
        found, problem = record.spectrum, record.problem
        assert record.escape is not None
        down, classes = found.negative, problem.num_classes
        assert down in ((classes - 1) * problem.dim, classes * problem.dim)
        print(
            f"{problem.loss.label():10} origin: {down} negative, smallest "
            f"{found.eigenvalues[0]:.6e}, predicted {record.escape:.6e}"
        )

    # 3. No closed form has to be believed: LAPACK on the whole matrix of the small problem.
    if options.quick:
        for record in minima:
            point = ufm.global_minimum(record.problem).params(jax.random.key(0))
            dense = np.linalg.eigvalsh(ufm.dense_hessian(record.problem, point))
            error = np.max(np.abs(dense - record.spectrum.expand()))
            print(f"{record.problem.loss.label():10} against LAPACK: {error:.0e}")

    if options.figure:
        draw([minima, saddles], options.figure)


def draw(rows: list[list[ufm.SpectrumRecord]], path: Path) -> None:
    """Minima above, saddles below, the losses side by side."""
    with style():
        figure, grid = plt.subplots(2, len(rows[0]), figsize=(7.4, 3.9), sharex=True, sharey=True)
        spectra = [record.spectrum for row in rows for record in row]
        limits = common_limits(spectra)
        for panels, records, place in zip(grid, rows, ("minimum", "origin"), strict=True):
            for axes, record in zip(panels, records, strict=True):
                lines = theory_lines(record.problem, record.spectrum, record.escape)
                plot_spectrum(record.spectrum, axes, lines, limits)
                if place == "minimum":
                    axes.set_xlabel("")
                axes.set_ylabel(f"{place}\nmultiplicity" if axes is panels[0] else "")
        for axes, record in zip(grid[0], rows[0], strict=True):
            axes.set_title(record.problem.loss.label(), pad=46)
        grid[0, 0].set_ylim(0.5, 3 * max(np.max(x.multiplicities) for x in spectra))
        handles = legend_handles(spectra)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        figure.savefig(path)
        plt.close(figure)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
