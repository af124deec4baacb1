"""Imbalanced classes, from the collapse of minorities to the limit at zero decay.

Five large and five small classes. At a large decay the small ones share one classifier: above an
exact threshold, whatever the other classes. Below it they part, and as the decay goes to zero the
geometry tends to that of SELI (Thrampoulidis et al., 2022), as slowly as one over the logarithm of
the decay. Training sees neither end, but the path between.

    python examples/10_imbalance.py --figure imbalance.png    # 500 and 100 samples: a minute
    python examples/10_imbalance.py --quick                   # K = 4: seconds
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ufm
from ufm.report import plot_decay, style
from ufm.report.phase.decay import decay_legend


def main() -> None:
    parser = argparse.ArgumentParser(description="Minority collapse and the limit at zero decay.")
    parser.add_argument("--quick", action="store_true", help="four classes, fewer decays")
    parser.add_argument("--figure", type=Path, help="where to save the picture (png, pdf, svg)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # certificates need double precision

    counts = (20, 20, 2, 2) if options.quick else (500,) * 5 + (100,) * 5
    problem = ufm.Problem(
        loss=ufm.CrossEntropy(),
        class_counts=counts,
        dim=len(counts),
        lam_w=1e-3,
        lam_h=1e-3,
        lam_b=None,
    )
    merging(problem, exact_only=options.quick)
    corrections(problem)
    path = follow(problem, 9 if options.quick else 17)
    compare(path)
    if options.figure:
        draw(path, options.figure)


def merging(problem: ufm.Problem, exact_only: bool) -> None:
    """The decays at which classes of each size merge and vanish, and what has happened here."""
    found = ufm.minority_thresholds(problem, exact_only)
    for row in found.rows:
        print(f"classes of {row.size:g} samples {row.event} at {row.mu:.6g} ({row.how})")
    print(found.explain())


def corrections(problem: ufm.Problem) -> None:
    """What weights, margins and shifted logits make of the geometry, beside cross-entropy."""
    counts = problem.class_counts
    scaling, small = ufm.VectorScaling, counts.index(min(counts))
    losses = {
        "plain": ufm.CrossEntropy(),
        "class weights 1/n": ufm.ClassWeighted(
            ufm.CrossEntropy(), jnp.asarray(sum(counts) / len(counts) / np.array(counts))
        ),
        "logit adjustment": scaling.logit_adjustment(counts),
        "LDAM margins": scaling.ldam(counts),
        "CDT scales": scaling.cdt(counts),
    }
    for name, loss in losses.items():
        found = ufm.global_minimum(dataclasses.replace(problem, loss=loss))
        W = np.asarray(found.params(None).W)
        sizes = np.linalg.norm(W, axis=1)
        cosine = W[small] @ W[small + 1] / (sizes[small] * sizes[small + 1])
        print(
            f"{name}: norms of classifiers large/small {sizes[0] / sizes[small]:.3f}, cosine of "
            f"small ones {cosine:+.3f} (proven: {found.is_exact})"
        )


def follow(problem: ufm.Problem, count: int) -> ufm.DecayPath:
    """Certified minima from half the threshold of the small classes to 1e-9 of it."""
    small = ufm.minority_thresholds(problem, exact_only=True).rows[0].mu
    decays = np.geomspace(0.5 * small, 1e-9 * small, count)
    path = ufm.decay_path(problem, decays)
    warm = ufm.decay_path(problem, decays, tangent=False)
    print(f"{int(np.sum(path.exact))} of {count} points are proven global minima")
    print(f"Newton steps: {path.steps.sum()}, from plain warm starts {warm.steps.sum()}")
    return path


def compare(path: ufm.DecayPath) -> None:
    """Angles between small classes, against the limit and the first-order formula."""
    limit = ufm.zero_decay_limit(path.problem)
    for i, mu in enumerate(path.decays.tolist()):
        here, near = path.geometry(i), limit.first_order(mu).geometry()
        print(
            f"mu={mu:.1e}: cosine of small classifiers {here.cosine_w[2]:+.4f} "
            f"(formula {near.cosine_w[2]:+.4f}), distance from the limit "
            f"{limit.distance(path.logits[i]):.4f}"
        )
    found = limit.geometry()
    print(f"limit: cosine {found.cosine_w[2]:+.4f}, norms large/small {found.ratio_w:.4f}")


def draw(path: ufm.DecayPath, path_of_figure: Path) -> None:
    """Cosines of classifier and class means against the decay."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6))
        for axes, panel in ((left, "cosine_w"), (right, "cosine_h")):
            plot_decay(path, panel, axes)
            axes.set_xlabel(r"decay $\mu$")
        handles = left.get_legend_handles_labels()[0]
        figure.legend(handles=[*handles, *decay_legend()], loc="outside upper center", ncols=5)
        figure.savefig(path_of_figure)
        plt.close(figure)
    print(f"saved {path_of_figure}")


if __name__ == "__main__":
    main()
