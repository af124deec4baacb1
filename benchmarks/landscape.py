"""Finding saddles: the root finder beside what one would write, from the same starts.

    python benchmarks/landscape.py              # writes landscape.json beside this file

A start counts as found if ‖∇f‖ ≤ 1e-10 at its end; those that end at the origin are counted apart.
The peers: L-BFGS on ½‖∇f‖² (plain gradient-norm minimisation), Newton–MR (MINRES on H p = −g with a
line search on ‖g‖²; Roosta et al., 2022) and Newton by the pseudo-inverse, all on the same compiled
gradient and Hessian products. Needs nothing but the library itself.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from cases import environment
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, minres

import ufm
from ufm.landscape.point_space import search_space
from ufm.landscape.root_finding import find_roots
from ufm.landscape.starts import minimum_in, search_starts
from ufm.model.hessian_product import hessian_product, linearise
from ufm.model.objective import value_and_gradient

CRITICAL, MOST_STEPS, MOST_SECONDS = 1e-10, 500, 10.0


class Flat:
    """∇f and ∇²f of a problem on vectors."""

    def __init__(self, problem: ufm.Problem, like: ufm.Params) -> None:
        self.size = ravel_pytree(like)[0].size
        unravel = ravel_pytree(like)[1]

        @jax.jit
        def gradient(x):
            return ravel_pytree(value_and_gradient(problem, unravel(x))[1])[0]

        def product(x, v):
            at = linearise(problem, unravel(x))
            return ravel_pytree(hessian_product(problem, at, unravel(v)))[0]

        self._gradient, self._product = gradient, jax.jit(product)
        self._matrix = jax.jit(lambda x: jax.vmap(lambda v: product(x, v))(jnp.eye(self.size)))

    def gradient(self, x):
        return np.asarray(self._gradient(jnp.asarray(x)))

    def product(self, x, v):
        return np.asarray(self._product(jnp.asarray(x), jnp.asarray(v)))

    def matrix(self, x):
        return np.asarray(self._matrix(jnp.asarray(x)))


def newton(flat: Flat, x: np.ndarray, step: Callable) -> tuple[np.ndarray, int]:
    """x + t p with Armijo's condition on ‖∇f‖²."""
    clock, g = time.perf_counter(), flat.gradient(x)
    for taken in range(MOST_STEPS):
        size = np.linalg.norm(g)
        if size <= CRITICAL or time.perf_counter() - clock > MOST_SECONDS:
            return x, taken
        p = step(x, g)
        slope, length = 2 * p @ flat.product(x, g), 1.0
        while True:
            new = flat.gradient(x + length * p)
            if new @ new <= size**2 + 1e-4 * length * slope or length < 1e-8:
                break
            length *= 0.5
        if length < 1e-8:
            return x, taken
        x, g = x + length * p, new
    return x, MOST_STEPS


def newton_mr(flat: Flat, x: np.ndarray) -> tuple[np.ndarray, int]:
    def step(x, g):
        operator = LinearOperator((flat.size, flat.size), matvec=lambda v: flat.product(x, v))
        return minres(operator, -g, rtol=min(1e-2, np.linalg.norm(g)), maxiter=5 * flat.size)[0]

    return newton(flat, x, step)


def pseudo_inverse(flat: Flat, x: np.ndarray) -> tuple[np.ndarray, int]:
    return newton(flat, x, lambda x, g: -np.linalg.pinv(flat.matrix(x), 1e-8, True) @ g)


def gradient_norm(flat: Flat, x: np.ndarray) -> tuple[np.ndarray, int]:
    clock = time.perf_counter()

    def fun(x):
        if time.perf_counter() - clock > MOST_SECONDS:
            raise StopIteration
        g = flat.gradient(x)
        last[:] = x
        return 0.5 * g @ g, flat.product(x, g)

    last = x.copy()
    options = {"maxiter": 100_000, "maxfun": 200_000, "ftol": 0.0, "gtol": 0.0, "maxcor": 30}
    try:
        found = minimize(fun, x, jac=True, method="L-BFGS-B", options=options)
        return found.x, int(found.nit)
    except StopIteration:
        return last, -1


PEERS = {
    "Newton–MR": newton_mr,
    "pseudo-inverse Newton": pseudo_inverse,
    "L-BFGS on ½‖∇f‖²": gradient_norm,
}


def summary(ends: list[np.ndarray], steps: list[int], sizes: list[float], seconds: float) -> dict:
    critical = [size <= CRITICAL for size in sizes]
    origin = [ok and np.max(np.abs(x)) < 1e-6 for ok, x in zip(critical, ends, strict=True)]
    others = len(ends) - sum(origin)
    finished = [n for n, ok in zip(steps, critical, strict=True) if ok]
    return {
        "starts": len(ends),
        "critical": int(sum(critical)),
        "at_origin": int(sum(origin)),
        "hit_rate": float(sum(critical) - sum(origin)) / others if others else None,
        "median_steps": float(np.median(finished)) if finished else None,
        "seconds_per_start": seconds / len(ends),
    }


def _vector(batch: ufm.Params, i: int) -> np.ndarray:
    return np.asarray(ravel_pytree(jax.tree.map(lambda x: x[i], batch))[0])


def measure(problem: ufm.Problem, count: int, peers: int) -> dict:
    space = search_space(problem)
    minimum = minimum_in(space, ufm.global_minimum(problem), jax.random.key(0))
    known = [ufm.origin(space.small), minimum]
    starts, kinds = search_starts(space, minimum, known, jax.random.key(1), count)
    flat = Flat(space.small, jax.tree.map(lambda x: x[0], starts))
    points = [
        np.asarray(ravel_pytree(jax.tree.map(lambda x, i=i: x[i], starts))[0]) for i in range(count)
    ]
    find_roots(space.small, jax.tree.map(lambda x: x[:1], starts))
    results: dict = {}
    for kind in dict.fromkeys(kinds):
        chosen = [i for i in range(count) if kinds[i] == kind]
        part = jax.tree.map(lambda x, chosen=chosen: x[np.array(chosen)], starts)
        clock = time.perf_counter()
        found = find_roots(space.small, part)
        seconds = time.perf_counter() - clock
        ends = [_vector(found.params, i) for i in range(len(chosen))]
        sizes = [float(x) for x in found.grad_norm]
        row = {"ufm find_roots": summary(ends, [int(n) for n in found.num_steps], sizes, seconds)}
        for name, peer in PEERS.items():
            clock = time.perf_counter()
            runs = [peer(flat, points[i]) for i in chosen[:peers]]
            seconds = time.perf_counter() - clock
            sizes = [float(np.linalg.norm(flat.gradient(x))) for x, _ in runs]
            row[name] = summary([x for x, _ in runs], [n for _, n in runs], sizes, seconds)
        results[kind] = row
        for name, numbers in row.items():
            print(f"{problem.loss.label():10} {kind:12} {name:24} {numbers}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=120, help="starts, of all three kinds")
    parser.add_argument("--peers", type=int, default=8, help="starts of each kind for the peers")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    cases = {
        "K=4, d=6, n=5, λ=5e-3": {"num_classes": 4, "dim": 6, "lam_w": 5e-3, "lam_h": 5e-3},
        "K=10, d=11, n=5, λ=5e-4": {"num_classes": 10, "dim": 11, "lam_w": 5e-4, "lam_h": 5e-4},
    }
    losses = (ufm.CrossEntropy(), ufm.LabelSmoothing(0.1))
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        results = {
            name: {
                loss.label(): measure(
                    ufm.Problem.balanced(loss=loss, per_class=5, lam_b=1e-2, **size),
                    options.starts,
                    options.peers,
                )
                for loss in losses
            }
            for name, size in cases.items()
        }
    path = Path(__file__).with_suffix(".json")
    content = {"environment": environment(("ufm", "jax", "numpy", "scipy")), "results": results}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
