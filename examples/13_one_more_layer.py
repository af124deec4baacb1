"""One more linear layer: collapse is still a local minimum, and no longer the global one.

With Z = W F H and weight decay on three factors, cross-entropy prefers points of lower rank: five
antipodal pairs of classes instead of ten corners of a simplex. Runs from random starts find them,
the simplex ETF is certified as a local minimum above them, and for three classes the library proves
which structure is best at each decay. A diagram shows the best structure over the decay.

    python examples/13_one_more_layer.py            # K = 10, and a diagram for K = 4
    python examples/13_one_more_layer.py --quick    # K = 4, and a diagram for K = 3
"""

import argparse
import itertools
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import ufm
from ufm.report import style

DECAY = 5e-4


def deep(classes: int, per_class: int, dim: int, decay: float = DECAY) -> ufm.Problem:
    """One linear layer between classifier and features, no bias."""
    return ufm.Problem.balanced(
        loss=ufm.CrossEntropy(),
        num_classes=classes,
        per_class=per_class,
        dim=dim,
        lam_w=decay,
        lam_h=decay,
        lam_b=None,
        lam_hidden=(decay,),
    )


def collapsed(problem: ufm.Problem) -> ufm.Params:
    """The critical point of deep collapse: a run from a simplex ETF in all three factors."""
    K, d = problem.num_classes, problem.dim
    W = np.asarray(ufm.simplex_etf(jax.random.key(0), K, d))
    between = W.T @ W * (K - 1) / K  # the projection on the span of the frame
    arrays = (3.0 * W, 3.0 * between, 0.3 * W.T[:, problem.labels])
    W, F, H = (jax.numpy.asarray(x) for x in arrays)
    return ufm.solve(problem, ufm.Params(W, H, None, (F,))).params


def runs(problem: ufm.Problem, starts: int) -> None:
    """Where random starts end, and what is certified of the simplex ETF."""
    found = ufm.verify(problem, jax.random.key(0), starts)
    values = np.asarray(found.solutions.value)
    best = int(np.argmin(values))
    point = jax.tree.map(lambda x: x[best], found.solutions.params)
    ranks = [int(np.sum(s > 1e-6 * s[0])) for s in _singular_values(point)]
    print(f"  {starts} runs: f from {values.min():.10f} to {values.max():.10f}")
    print(f"  best run: rank {ranks[0]}; known: {found.minimum.kind}")
    etf = ufm.certify(problem, collapsed(problem))
    print(f"  simplex ETF: f = {float(etf.value):.10f}, {etf.verdict.name}")


def _singular_values(point: ufm.Params) -> list[np.ndarray]:
    return [np.linalg.svd(np.asarray(point.whole_classifier @ point.H), compute_uv=False)]


def proofs() -> None:
    """Three classes: the best structure on both sides of its ties, by branch and bound."""
    for decay in (0.17, 0.18, 0.20):
        found = ufm.global_minimum(deep(3, 1, 3, decay))
        print(f"  decay {decay}: {found.kind}, f* = {found.value:.9f} ({found.reason})")


def draw(phases: ufm.DeepPhases, path: Path) -> None:
    with style():
        _draw(phases).savefig(path)
    print(f"Figure: {path}")


def _draw(phases: ufm.DeepPhases) -> Figure:
    figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    excess = phases.values / phases.values[phases.names.index("simplex ETF")] - 1.0
    low = float(np.nanmin(excess))
    seen = [row for row in range(len(phases.names)) if np.any(excess[row] < -low)]
    for row, line in zip(seen, itertools.cycle(("-", "--", "-.", ":"))):
        label, colour = phases.names[row], f"C{row}"
        axes.plot(phases.decays, excess[row], line, color=colour, label=label)
    for tie in phases.ties:
        if tie.is_lowest:
            axes.axvline(tie.decay, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel=r"decay $e=\Lambda n^{1/3}$", ylabel=r"$f/f_{\mathrm{ETF}}-1$")
    axes.set_ylim(1.1 * low, -1.1 * low)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="One more linear layer ends collapse under CE.")
    parser.add_argument("--quick", action="store_true", help="4 classes, and a diagram for 3")
    parser.add_argument("--figure", type=Path, default=Path("one-more-layer.png"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    classes, per_class, starts = (4, 5, 5) if options.quick else (10, 100, 20)
    problem = deep(classes, per_class, classes + 2, 2e-2 if options.quick else DECAY)
    print(f"K = {classes}, n = {per_class}, three factors, decay {float(problem.lam_w):g}")
    runs(problem, starts)
    print("Three classes, three factors: proven")
    proofs()
    classes = 3 if options.quick else 4
    lowest, highest = (0.1, 0.22) if options.quick else (2e-3, 0.2)
    phases = ufm.deep_phases(classes, 3, np.geomspace(lowest, highest, 80))
    for tie in phases.ties:
        if tie.is_lowest:
            print(f"  K = {classes}: {tie.first} = {tie.second} at decay {tie.decay:.10f}")
    draw(phases, options.figure)


if __name__ == "__main__":
    main()
