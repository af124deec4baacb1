"""Bring your own loss: does it collapse, at which decay does it stop, and what happens otherwise?

Four losses, four answers: one belongs to the family whose minima are neural collapse, one gives up
classes when the bias is free, one has no minimiser at all, and one pairs classes.

    python examples/08_your_own_loss.py --figure mae.png
    python examples/08_your_own_loss.py --quick    # fewer classes and runs
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import ufm
from ufm.collapse.live_classes import live_classes


def generous(z: Any, k: Any) -> Any:
    """Cross-entropy plus half of 1 − p_k, a loss of our own."""
    log_p = jax.nn.log_softmax(z)[k]
    return -log_p - 0.5 * jnp.expm1(log_p)


def second_rival(z: Any, k: Any) -> Any:
    """Asks only that no more than one rival is ahead: a surrogate of the top-2 error."""
    others = jnp.arange(z.shape[0], dtype=jnp.int32) != k
    rivals = jnp.where(others, z, -jnp.inf)
    return jax.nn.softplus(jnp.sort(rivals)[-2] - z[k])


def main() -> None:
    parser = argparse.ArgumentParser(description="Four losses under ufm.check_loss.")
    parser.add_argument("--quick", action="store_true", help="K = 5 and few runs")
    parser.add_argument("--figure", type=Path, help="where to save the picture of the MAE")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # certificates need double precision
    classes, starts = (5, 3) if options.quick else (10, 20)

    # 1. Samples refute and never prove: of a function the answers stay open. The same loss is
    #    Poly-1 with ε = 1/2, whose formula the library knows.
    own = ufm.check_loss(generous, classes, num_starts=starts)
    known = ufm.check_loss("poly:0.5", classes, num_starts=0)
    print(f"{own}\n\n{known}\n\n{known.theorem}.\n")

    # 2. The mean absolute error collapses too, as long as there is no bias. A free one lets it
    #    give up classes, one after another, well before the threshold.
    mae = ufm.check_loss("mae", classes, lam_b=0.0, num_starts=starts)
    print(f"{mae.explain()}\n")
    falling_classes(classes, mae.threshold)
    if options.figure:
        from ufm.report import style
        from ufm.report.loss_check import loss_figure

        with style():
            loss_figure(mae).savefig(options.figure)
        print(f"saved {options.figure}")

    # 3. Normalised logits: only the direction of z counts, and weight decay takes its scale to 0.
    norm = ufm.check_loss(ufm.LogitNorm(0.5), 4, num_starts=0)
    print(f"\n{norm.name}: {norm.theorem}.")
    creeping(ufm.LogitNorm(0.5))

    # 4. Not contrastive: two classes share a direction, which costs less.
    pairs = ufm.check_loss(second_rival, 4, decays=(0.3,), num_starts=starts)
    print(f"\n{pairs.contrastive}\n{pairs.theorem}.\n{pairs.runs}")


def falling_classes(classes: int, threshold: float) -> None:
    """How many classes are alive as the decay grows: f with m of them against that of collapse."""
    problem = ufm.Problem.balanced(
        loss=ufm.MAE(), num_classes=classes, per_class=1, dim=classes,
        lam_w=1.0, lam_h=1.0, lam_b=0.0,
    )  # fmt: skip
    last = classes
    print(f"Live classes under the MAE with a free bias (threshold {threshold:.4f}):")
    steps = 30 if classes < 10 else 160
    for i in range(steps):
        decay = threshold * (0.5 + 2.0 * i / steps)
        mu = decay / classes
        at = dataclasses.replace(problem, lam_w=mu, lam_h=mu)
        nc = float(ufm.symmetric_minimum(at).value)
        live = live_classes(at)
        alive = live.num_live if live.value < nc - 1e-9 else classes
        if alive < last:
            print(f"  K√nμ = {decay:.4f}: {alive} alive, f {live.value:.6f} against {nc:.6f}")
            last = alive


def creeping(loss: ufm.Loss) -> None:
    """The longer a run, the lower f and the smaller its point: an infimum that nothing attains."""
    problem = ufm.Problem.balanced(
        loss=loss, num_classes=4, per_class=1, dim=4, lam_w=0.02, lam_h=0.02, lam_b=None
    )
    start = ufm.init_params(problem, jax.random.key(1), scale=0.5)
    for count in (5, 10, 20, 40):
        run = ufm.solve(problem, start, max_steps=count)
        size = float(jnp.sqrt(jnp.sum(run.params.W**2) + jnp.sum(run.params.H**2)))
        print(f"  {count} steps: f = {float(run.value):.6f}, size {size:.4f}, {run.status.name}")


if __name__ == "__main__":
    main()
