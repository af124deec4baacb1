"""The focal loss's counterexample: local minima that are not global, and where there are none.

Zhou et al. (NeurIPS 2022) claim of the focal loss that its landscape is benign near the optimum
only. Here is what happens elsewhere: L is convex exactly where p_k ≥ p*(γ); where 1/K < p*(γ)
the collapse of the minimum to the origin is a jump, and about it the origin, the simplex ETF and
points with dead classes are local minima at once. Nobody tells the search where to look.

    python examples/05_focal_counterexample.py --figure phases.png
    python examples/05_focal_counterexample.py --quick    # small K
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

import ufm
from ufm.certificates.second_order import means_spectrum
from ufm.counterexamples.hunt import converged, smallest_nonzero, without_classes
from ufm.counterexamples.reproducer import save
from ufm.minimum.global_minimum import frame

LOSSES = (
    (ufm.CrossEntropy(), ufm.CrossEntropy()),
    (ufm.LabelSmoothing(0.0), ufm.LabelSmoothing(0.5)),
    (ufm.MSE(0.2, 0.5), ufm.MSE(5.0, 2.0)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Spurious minima of the focal loss.")
    parser.add_argument("--quick", action="store_true", help="K = 30, n = 1 and few tries")
    parser.add_argument("--figure", type=Path, help="where to save the phase diagram")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # certificates need double precision
    classes, gamma = (30, 3.0) if options.quick else (100, 3.0)
    per_class = (1, 1) if options.quick else (1, 10)

    # 1. Where the loss is convex. With K classes of equal logits p_k = 1/K.
    p_star = float(ufm.Focal(gamma).convex_above())
    curves = ufm.focal_phases(gamma, classes)
    print(
        f"FL(γ={gamma:g}) is convex exactly where p_k ≥ p* = {p_star:.4f}; 1/K = {1 / classes:.4f} "
        f"is below it.\nBoth the origin and the ETF are local minima for μ√n in "
        f"({float(curves.origin):.5f}, {float(curves.frame):.5f}); they tie at "
        f"{float(curves.tie):.5f}."
    )

    # 2. A search that knows none of these numbers.
    space = ufm.SearchSpace(
        losses=(ufm.Focal(gamma), ufm.Focal(gamma)) if options.quick else
        (ufm.Focal(1.0), ufm.Focal(5.0)),
        num_classes=(classes,) if options.quick else (24, 50, 100),
        decay=(0.99, 1.005) if options.quick else (0.9, 1.05),
        per_class=per_class,
    )  # fmt: skip
    found = ufm.hunt(space, jax.random.key(0), 4 if options.quick else 40)
    print(f"\nFL: {found.explain()}")
    chosen = {}
    for each in found.found:
        chosen.setdefault("dead classes" if each.dead_classes else each.kind, each)
    for each in chosen.values():
        print(f"  {each.explain()}")

    # 3. How far they go: by continuation of the point, and for two of them in closed form.
    for kind, each in chosen.items():
        ends = ufm.spurious_interval(each)
        print(
            f"  {kind}: spurious for μ√n in ({ends.lower.rate:.6f}, {ends.upper.rate:.6f}); below "
            f"it {ends.lower.event}, above it {ends.upper.event}"
        )
        exact = ufm.focal_phases(each.problem.loss.gamma, each.problem.num_classes)
        known = {"origin": (exact.origin, exact.tie), "simplex ETF": (exact.tie, exact.frame)}
        if kind in known:
            low, high = (float(x) for x in known[kind])
            errors = abs(ends.lower.rate / low - 1), abs(ends.upper.rate / high - 1)
            print(f"    closed form ({low:.6f}, {high:.6f}): agree to {max(errors):.0e}")

    # 4. The smallest file that shows it, read back and judged by the certificate alone.
    worst = max(found.found, key=lambda each: each.excess / each.value)
    with tempfile.TemporaryDirectory() as folder:
        save(worst, Path(folder) / "spurious.npz")
        layer = ufm.load_classifier(Path(folder) / "spurious.npz")
    print(f"\n{ufm.certify(layer.problem, layer.params).explain()}")
    print(f"f* = {ufm.global_minimum(layer.problem).value:.10g} ({worst.lower})")

    # 5. Dead classes: saddles, plateaus or minima? Minima, about as many as there are subsets.
    rate = 0.998 * float(curves.tie) if options.quick else 0.0114
    dead_classes(classes, gamma, rate, (2, 15) if options.quick else (1, 2, 10, 40, 90))

    # 6. The convex losses, searched in the same way, also far from the threshold.
    for losses in LOSSES:
        space = ufm.SearchSpace(
            losses=losses,
            num_classes=(4,) if options.quick else (4, 10),
            decay=(0.05, 1.5),
            per_class=per_class,
            lam_b=None,
        )
        result = ufm.hunt(space, jax.random.key(0), 2 if options.quick else 100)
        print(f"{losses[0].name}: {result.explain()}")

    if options.figure:
        draw(options.figure, gamma, classes)


def dead_classes(classes: int, gamma: float, rate: float, counts: tuple[int, ...]) -> None:
    """From the ETF with some classes at zero, and noise, to the nearest minimum: what is it?"""
    problem = ufm.Problem.balanced(
        loss=ufm.Focal(gamma),
        num_classes=classes,
        per_class=1,
        dim=classes - 1,
        lam_w=rate,
        lam_h=rate,
        lam_b=None,
    )
    lowest = ufm.global_minimum(problem).value
    print(f"\nDead classes at K={classes}, μ√n={rate:.5g}; f of the ETF is {lowest:.10g}:")
    for dead in counts:
        start = without_classes(frame(problem), dead, jax.random.key(dead))
        point = converged(problem, start)
        found = ufm.certify(problem, point)
        spectrum = means_spectrum(problem, point)
        assert spectrum is not None
        print(
            f"  {dead} dead: {ufm.Verdict(int(found.verdict)).name}, f "
            f"{100 * (float(found.value) / lowest - 1):.3f}% above, ‖G‖₂/μ − 1 = "
            f"{float(found.dual_norm / found.threshold) - 1:.0e}, {spectrum.negative} negative, "
            f"{spectrum.zero} zeros ({spectrum.gauge_dimension} by rotations), smallest other "
            f"{smallest_nonzero(spectrum):.1e}"
        )
    print()


def draw(path: Path, gamma: float, classes: int) -> None:
    """The phase diagram over γ and over K."""
    from ufm.report import style
    from ufm.report.phase.focal import phases_page

    with style():
        figure, _ = phases_page(
            [
                ufm.focal_phases(jnp.linspace(0.05, 8.0, 200), float(classes)),
                ufm.focal_phases(gamma, jnp.geomspace(5.0, 1e3, 200)),
            ]
        )
        figure.savefig(path)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
