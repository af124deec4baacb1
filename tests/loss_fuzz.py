"""Random losses and points against every certificate: a script, and what a test runs little of.

    python tests/loss_fuzz.py 2 680            # problems of each kind, points of each
    python tests/loss_fuzz.py 2 680 mae gce    # of these losses

f at any point is an upper bound on f*. So of each problem the best known point is kept (collapse,
dead classes, the origin, and where runs end), and no lower bound of any certificate may exceed it;
a point called a global minimum may not lie above it by more than the tolerance; and a point called
a minimum on the convex region not above a known point of that region.
"""

import dataclasses
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import ufm
from ufm._support.quick_jit import quick_jit
from ufm.losses import FAMILIES, loss_spec

SKEWED = (3, 2, 2, 1)
RANGES = {
    "alpha": (0.0, 0.9),
    "gamma": (0.0, 6.0),
    "scale": (0.3, 5.0),
    "target": (0.3, 5.0),
    "epsilon": (-1.0, 6.0),
    "exponent": (0.02, 1.0),
    "ce_weight": (0.02, 3.0),
    "rce_weight": (0.0, 2.0),
    "log_zero": (-6.0, 0.0),
    "t1": (0.0, 1.0),
    "t2": (1.05, 2.0),
    "temperature": (0.2, 4.0),
}


@dataclasses.dataclass(frozen=True)
class Violation:
    problem: str
    kind: str
    excess: float


def random_loss(rng: np.random.Generator, family: str) -> ufm.Loss:
    make, defaults = FAMILIES[family]
    numbers = {name: float(rng.uniform(*RANGES[name])) for name in defaults if name in RANGES}
    if "terms" in defaults:
        numbers["terms"] = float(rng.integers(1, 6))
    if "power" in defaults:
        numbers["power"] = float(rng.integers(1, 3))
    return make(**numbers)


def random_problem(rng: np.random.Generator, family: str, skewed: bool, bias: bool) -> ufm.Problem:
    loss = random_loss(rng, family)
    counts = SKEWED if skewed else (2, 2, 2, 2)
    lam_b = None
    if bias:
        lam_b = float(rng.choice([0.0, 10.0 ** rng.uniform(-4, 0.5)]))
    unit = ufm.Problem(
        loss=loss, class_counts=(2, 2, 2, 2), dim=4, lam_w=1.0, lam_h=1.0, lam_b=lam_b
    )
    try:
        scale = float(ufm.collapse_threshold(unit).mu)
    except ValueError:
        scale = 0.2
    mu = scale * rng.uniform(0.02, 1.3)
    balance = 10.0 ** rng.uniform(-1, 1)
    return dataclasses.replace(unit, class_counts=counts, lam_w=mu * balance, lam_h=mu / balance)


def known_points(problem: ufm.Problem, seed: int, starts: int) -> list[ufm.Params]:
    """The best that theory and runs know."""
    key = jax.random.key(seed)
    points = [ufm.init_params(problem, key, scale=0.0)]
    minimum = ufm.global_minimum(problem)
    points.append(minimum.params(key))
    if problem.per_class is not None:
        try:
            symmetric = ufm.global_minimum(dataclasses.replace(problem, lam_b=None)).params(key)
        except ValueError:
            pass
        else:
            b = None if problem.lam_b is None else jnp.zeros(problem.num_classes)
            points.append(ufm.Params(symmetric.W, symmetric.H, b))
    for i in range(starts):
        start = ufm.init_params(problem, jax.random.fold_in(key, i), scale=(0.3, 1.0, 2.0)[i % 3])
        points.append(ufm.solve(problem, start, max_steps=200).params)
    return points


def around(points: list[ufm.Params], rng: np.random.Generator, count: int) -> ufm.Params:
    """`count` points: the known ones, the same disturbed by all amounts, and Gaussians."""
    stack = jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *points)
    chosen = np.concatenate([np.arange(len(points)), rng.integers(0, len(points), count)])[:count]
    sizes = 10.0 ** rng.uniform(-12, 0.7, count)
    sizes[: len(points)] = 0.0

    def disturbed(x):
        shape = (count,) + (1,) * (x.ndim - 1)
        return jnp.asarray(
            x[chosen] + sizes.reshape(shape) * rng.standard_normal((count, *x.shape[1:]))
        )

    return jax.tree.map(disturbed, stack)


@quick_jit
def certified(problem: ufm.Problem, points: ufm.Params):
    def one(point):
        found = ufm.certify(problem, point)
        V = point.W @ point.H + (0.0 if point.b is None else point.b[:, None])
        p = jax.nn.softmax(V, axis=0)[jnp.asarray(problem.labels), jnp.arange(V.shape[1])]
        return found, jnp.min(p)

    return jax.vmap(one)(points)


def check(problem: ufm.Problem, seed: int, count: int, starts: int) -> Iterator[Violation]:
    rng = np.random.default_rng(seed)
    points = around(known_points(problem, seed, starts), rng, count)
    found, least_p = certified(problem, points)
    value, verdict = np.asarray(found.value), np.asarray(found.verdict)
    finite = np.isfinite(value)
    best = float(np.min(value[finite]))
    room = 1e-12 * (1.0 + abs(best))
    name = (
        f"{loss_spec(problem.loss)} {problem.class_counts} λ_b={problem.lam_b} μ={problem.mu():.6g}"
    )
    excess = float(np.max(np.asarray(found.lower_bound)[finite])) - best
    if excess > room:
        yield Violation(name, "lower bound", excess)
    tol = np.asarray(found.tol)
    is_global = verdict == int(ufm.Verdict.GLOBAL_MINIMUM)
    excess = np.where(is_global, value - tol - best, -np.inf)
    if np.max(excess) > room:
        yield Violation(name, "global minimum", float(np.max(excess)))
    on_region = verdict == int(ufm.Verdict.MINIMUM_ON_CONVEX_REGION)
    if np.any(on_region):
        inside = finite & (np.asarray(least_p) >= float(problem.loss.convex_above()))
        excess = value[on_region] - tol[on_region] - np.min(value[inside])
        if np.max(excess) > room:
            yield Violation(name, "minimum on the convex region", float(np.max(excess)))


def main(each: int, count: int, families: list[str]) -> int:
    wrong, done = 0, 0
    # One combination after another, so that each is compiled once.
    for family in families or list(FAMILIES):
        rng = np.random.default_rng(sum(map(ord, family)))
        for skewed in (False, True):
            for bias in (False, True):
                for _ in range(each):
                    problem = random_problem(rng, family, skewed, bias)
                    for violation in check(problem, done, count, starts=3):
                        wrong += 1
                        say(str(violation))
                    done += 1
        say(f"{family}: {done} problems, {done * count} points, {wrong} violations")
    return wrong


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
