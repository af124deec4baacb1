"""The landscape of label smoothing: is everything but the global minimum a strict saddle?

Zhou et al. (NeurIPS 2022) prove it for label smoothing with d ≥ K−1. Here the claim is tested the
hard way: critical points are searched by several independent means, each point is classified, and
counterexamples are looked for. A search proves nothing about what it has not found, so it says how
likely it is that one more start finds a new point.

    python examples/04_landscape.py --figure landscape.png    # K = 4 and K = 10: minutes
    python examples/04_landscape.py --quick                   # K = 4, fewer starts: seconds
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ufm
from ufm.model.objective import logit_gradient, logits
from ufm.report import plot_graph, plot_index, style
from ufm.report.landscape.census import legend_handles

FEW = {"starts_per_rank": 3, "root_starts": 45, "flows": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description="A census of critical points.")
    parser.add_argument("--quick", action="store_true", help="K = 4 only, and fewer starts")
    parser.add_argument("--figure", type=Path, help="where to save the picture (png, pdf, svg)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # critical means |grad f| ≤ 1e-10

    census = explore(4, FEW if options.quick else {})
    report(census)
    describe(census)
    compare(census)
    if not options.quick:
        census = explore(10, {})
        report(census)
    if options.figure:
        draw(census, options.figure)


def explore(classes: int, effort: dict[str, Any]) -> ufm.Census:
    problem = ufm.Problem.balanced(
        loss=ufm.LabelSmoothing(0.1),
        num_classes=classes,
        per_class=5,
        dim=classes + 1,
        lam_w=5e-4,
        lam_h=5e-4,
        lam_b=1e-2,
    )
    return ufm.explore(problem, jax.random.key(0), **effort)


def report(census: ufm.Census) -> None:
    """What was found, the claim, and how much may be missing."""
    saddles, minima = census.count(ufm.Verdict.STRICT_SADDLE), census.count(ufm.Verdict(0))
    print(
        f"K={census.problem.num_classes}: {len(census.points)} critical points found: {minima} "
        f"global minimum, {saddles} strict saddles, {len(census.counterexamples)} counterexamples"
    )
    roots = census.root_finder
    print(
        f"root finder: {100 * roots.hit_rate:.1f} % of its starts ended at critical points; chance "
        f"that another one finds a new point: {100 * roots.unseen:.1f} %"
    )
    rungs = ", ".join(f"{rank}: {value:.6f}" for rank, value in census.ladder.items())
    print(f"lowest f of every rank: {rungs}")


def describe(census: ufm.Census) -> None:
    """Every point, and where descents from it ended: the connection graph."""
    for number, point in enumerate(census.points):
        ends = sorted({d.target for d in census.descents if d.source == number})
        falls = f", falls to {', '.join(map(str, ends))}" if ends else ""
        print(
            f"  {number}: f={point.value:.6f}, rank {point.rank}, index {point.index}, "
            f"lambda_min={point.smallest:+.2e}, found by {', '.join(point.found_by)}{falls}"
        )


def compare(census: ufm.Census) -> None:
    """Indices against LAPACK, at the problem's d and at d = 12 against the theory's.

    Directions outside the row space have the eigenvalues ½(λ_W+λ_H) ± σ_j(G) (equal decays), in
    every dimension again: index(d') = index(d) + (d'−d)·#{σ_j(G) > μ}.
    """
    small, wide = census.problem, dataclasses.replace(census.problem, dim=12)
    added = wide.dim - small.dim
    counted = predicted = 0
    for point in census.points:
        params = point.params
        counted += negative(small, params) == point.index
        sizes = np.linalg.svd(logit_gradient(small, logits(small, params)), compute_uv=False)
        # At a minimum σ = μ, which rounding must not push above.
        index = point.index + added * int(np.sum(sizes > float(small.mu()) * (1 + 1e-9)))
        padded = ufm.Params(
            jnp.pad(params.W, ((0, 0), (0, added))),
            jnp.pad(params.H, ((0, added), (0, 0))),
            params.b,
        )
        predicted += negative(wide, padded) == index
    total = len(census.points)
    print(f"indices equal to LAPACK's: {counted} of {total}")
    print(f"indices at d=12 as predicted from d={small.dim}: {predicted} of {total}")


def negative(problem: ufm.Problem, params: ufm.Params) -> int:
    """How many eigenvalues of the whole matrix are negative."""
    values = np.linalg.eigvalsh(ufm.dense_hessian(problem, params))
    return int(np.sum(values < -1e-9))


def draw(census: ufm.Census, path: Path) -> None:
    """The index against f, with the rank ladder, beside the connection graph."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.9))
        plot_index(census, left)
        plot_graph(census, right)
        figure.legend(handles=legend_handles([census]), loc="outside lower center", ncols=5)
        figure.savefig(path)
        plt.close(figure)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
