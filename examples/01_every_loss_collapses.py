"""The claim of Zhou et al. (NeurIPS 2022), tested in Python.

For cross-entropy, label smoothing, focal loss and MSE: solve the unconstrained feature model from
random starts, certify where each run ended, and compare with the closed form. Then two places
where a careless script would be fooled.

    python examples/01_every_loss_collapses.py            # the README's numbers and its picture
    python examples/01_every_loss_collapses.py --quick    # seconds
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt

import ufm
from ufm.report import plot_cosines, plot_gap, plot_gradient_norm, style

LOSSES = (ufm.CrossEntropy(), ufm.LabelSmoothing(0.1), ufm.Focal(3.0), ufm.MSE())


def main() -> None:
    parser = argparse.ArgumentParser(description="Every loss collapses: a proof for each run.")
    parser.add_argument("--quick", action="store_true", help="a small problem, few starts")
    parser.add_argument("--figure", type=Path, help="where to save the picture (png, pdf, svg)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # certificates need double precision

    size = {"num_classes": 4, "per_class": 5, "dim": 6} if options.quick else {
        "num_classes": 10, "per_class": 100, "dim": 16
    }  # fmt: skip
    num_starts = 3 if options.quick else 20

    # 1. Every loss, many starts, a verdict for each.
    verifications = []
    for loss in LOSSES:
        problem = ufm.Problem.balanced(loss=loss, **size, lam_w=5e-4, lam_h=5e-4, lam_b=1e-2)
        verification = ufm.verify(problem, jax.random.key(0), num_starts)
        minimum = verification.minimum
        print(
            f"{loss.label():10} f* = {minimum.value:.12f} ({minimum.kind}, "
            f"rho = {minimum.rho:.6f}): "
            f"{verification.num_global}/{num_starts} proven global minima, "
            f"worst gap {verification.worst_gap:.1e}"
        )
        assert verification.num_global == num_starts
        verifications.append(verification)

    # 2. The right answer is not always a simplex ETF: MSE without a bias has an orthogonal frame.
    problem = ufm.Problem.balanced(loss=ufm.MSE(), **size, lam_w=5e-4, lam_h=5e-4, lam_b=None)
    minimum = ufm.global_minimum(problem)
    point = minimum.params(jax.random.key(1))
    match = ufm.compare_geometry(problem, point, minimum)
    print(
        f"MSE without bias: {minimum.kind}, NC2 = {ufm.nc_metrics(problem, point).nc2:.4f}, ",
        end="",
    )
    print(f"predicted {match.nc2:.4f}")

    # 3. A critical point is not a minimum: the origin is a strict saddle, and its escape direction
    # has the curvature that theory predicts.
    problem = verifications[0].problem
    origin = jax.tree.map(lambda x: 0.0 * x, point_of(verifications[0]))
    print(ufm.certify(problem, origin).explain())

    if options.figure:
        draw(verifications, options.figure)


def point_of(verification: ufm.Verification) -> ufm.Params:
    """The end of the first run."""
    return jax.tree.map(lambda x: x[0], verification.solutions.params)


def draw(verifications: list[ufm.Verification], path: Path) -> None:
    """The README's picture."""
    with style():
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(7.4, 2.3))
        plot_gap(verifications, left)
        plot_gradient_norm(verifications, middle)
        plot_cosines(point_of(verifications[0]), right)
        handles, labels = left.get_legend_handles_labels()
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        for line in legend.get_lines():
            line.set(linewidth=1.5, alpha=1.0)
        figure.savefig(path)
        plt.close(figure)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
