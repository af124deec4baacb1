"""Time to ‖grad f‖ ≤ 1e-10 on spheres: ours beside pymanopt's trust region and the plain model.

    python benchmarks/variants.py            # needs pymanopt (benchmarks/requirements-peers.lock)

The problem is CE with K = 10, d = 16, n = 100 and temperature 0.1, from the same starts for both.
Cold is the first call in the process, compilation included; warm is the median over starts and
repetitions, methods in turn within every repetition. The plain model has the same K, d and n and
decays of 5e-4. Writes benchmarks/variants.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pymanopt
from cases import TOL, environment

import ufm
from ufm.variants.norms.geometry import local_point

SIZES = {"num_classes": 10, "per_class": 100, "dim": 16, "lam_b": None}
TAU = 0.1
#: Seconds after which the peer stops.
LIMIT = 60
SPHERES = ufm.Problem.balanced(
    loss=ufm.CrossEntropy(), lam_w=None, lam_h=None, temperature=TAU,
    classifier=ufm.Sphere(), features=ufm.Sphere(), **SIZES,
)  # fmt: skip
PLAIN = ufm.Problem.balanced(loss=ufm.CrossEntropy(), lam_w=5e-4, lam_h=5e-4, **SIZES)
_solve = jax.jit(ufm.solve)


def ours(problem: ufm.Problem, start: ufm.Params) -> ufm.Params:
    return jax.block_until_ready(_solve(problem, start, tol=TOL).params)


def pymanopt_trust_region() -> Any:
    """The same f on a product of oblique manifolds, with derivatives by JAX."""
    K, d, N = SPHERES.num_classes, SPHERES.dim, SPHERES.num_columns
    oblique = pymanopt.manifolds.Oblique
    manifold = pymanopt.manifolds.Product([oblique(d, K), oblique(d, N)])
    labels = jnp.asarray(SPHERES.labels)

    @jax.jit
    def compiled(W: Any, H: Any) -> Any:
        V = W.T @ H / TAU
        return jnp.mean(jax.nn.logsumexp(V, axis=0) - V[labels, jnp.arange(N)])

    @pymanopt.function.jax(manifold)
    def cost(W: Any, H: Any) -> Any:
        return compiled(W, H)

    problem = pymanopt.Problem(manifold, cost)
    optimizer = pymanopt.optimizers.TrustRegions(
        min_gradient_norm=TOL, max_iterations=500, max_time=LIMIT, verbosity=0
    )

    def run(start: ufm.Params) -> ufm.Params:
        point = [np.array(start.W.T), np.array(start.H)]
        W, H = optimizer.run(problem, initial_point=point).point
        return ufm.Params(jnp.asarray(W.T), jnp.asarray(H), None)

    return run


def timed(run: Any, *args: Any) -> tuple[float, ufm.Params]:
    begin = time.perf_counter()
    found = run(*args)
    return time.perf_counter() - begin, found


def measure(count: int, repetitions: int) -> dict[str, Any]:
    peer = pymanopt_trust_region()
    methods = {
        "ufm newton, spheres": (lambda x: ours(SPHERES, x), SPHERES),
        "pymanopt trust region, spheres": (peer, SPHERES),
        "ufm newton, plain model": (lambda x: ours(PLAIN, x), PLAIN),
    }
    starts = {
        id(problem): [ufm.init_params(problem, jax.random.key(i)) for i in range(count)]
        for problem in (SPHERES, PLAIN)
    }
    results: dict[str, Any] = {}
    for name, (run, problem) in methods.items():
        cold, _ = timed(run, starts[id(problem)][0])
        results[name] = {"cold": cold, "warm": []}
        if problem is SPHERES:  # the judge
            results[name] |= {"grad_norm": 0.0, "excess": 0.0}
    best = ufm.global_minimum(SPHERES).value
    for _ in range(repetitions):
        for name, (run, problem) in methods.items():
            for start in starts[id(problem)]:
                seconds, end = timed(run, start)
                results[name]["warm"].append(seconds)
                if problem is SPHERES:
                    value, grad, _ = local_point(problem, end)
                    size = float(np.sqrt(sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(grad))))
                    results[name]["grad_norm"] = max(results[name]["grad_norm"], size)
                    excess = float(value) - best
                    results[name]["excess"] = max(results[name]["excess"], excess)
    for row in results.values():
        row["warm"] = statistics.median(row["warm"])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = measure(options.starts, options.repetitions)
    for name, row in results.items():
        print(f"{name}: cold {row['cold']:.2f} s, warm {row['warm']:.3f} s", flush=True)
    packages = ("ufm", "jax", "numpy", "pymanopt")
    content = {"environment": environment(packages), "tol": TOL, "results": results}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
