"""Looking for a false verdict: random problems, random points, points made to mislead."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import convex_minimum, minimiser, scanned_minimum, wide_objective
from hypothesis import given, settings
from hypothesis import strategies as st
from model_oracle import dense_hessian
from points import (
    BALANCED,
    SKEWED,
    certified_at_once,
    gaussian,
    make,
    origin,
    perturbed,
    rescaled,
    stacked,
)

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Reason,
    Verdict,
    certify,
)


class Case(NamedTuple):
    """What is compiled: the loss's family, the shape, and whether there is a bias."""

    family: str
    counts: tuple[int, ...]
    dim: int
    bias: bool


CASES = [
    Case("CE", BALANCED, 4, True),
    Case("LS", SKEWED, 4, True),
    Case("MSE", BALANCED, 4, False),
    Case("FL", BALANCED, 4, True),
    Case("FL", SKEWED, 4, True),
    Case("CE", (1, 1, 1, 1), 2, False),  # d < K − 1: minima of lower rank
    Case("MSE", (2, 2, 2, 2, 2), 6, True),
]


def decades(low, high):
    return st.floats(low, high).map(lambda x: 10.0**x)


#: With --full only: each is compiled, and others of the family and of the shape remain.
SLOW = CASES[0], CASES[2], CASES[4]


class Numbers(NamedTuple):
    """Hyperparameters for any of the cases, as plain numbers."""

    alpha: float
    gamma: float
    scale: float
    target: float
    lam_b: float
    mu: float
    ratio: float


def problem_of(case: Case, numbers: Numbers) -> Problem:
    loss = {
        "CE": CrossEntropy(),
        "LS": LabelSmoothing(numbers.alpha),
        "FL": Focal(numbers.gamma),
        "MSE": MSE(numbers.scale, numbers.target),
    }[case.family]
    lam_b = numbers.lam_b if case.bias else None
    return make(loss, case.counts, lam_b, numbers.mu, case.dim, numbers.ratio)


NUMBERS = st.builds(
    Numbers,
    alpha=st.floats(0.0, 0.99),
    gamma=decades(-2, 1),
    scale=decades(-1, 1),
    target=decades(-1, 1),
    lam_b=st.one_of(st.just(0.0), decades(-8, 0)),
    mu=decades(-6, 0),
    ratio=decades(-1, 1),
)


def frame(problem: Problem, rho: float) -> Params:
    """The symmetric point Z = ρ P ⊗ 1ᵀ of a balanced problem."""
    classes = problem.num_classes
    left, sizes, right = np.linalg.svd(rho * (np.eye(classes) - 1 / classes))
    n, balance = problem.per_class, (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    root, pad = np.sqrt(sizes), ((0, 0), (0, problem.dim - classes))
    W = np.pad(left * root, pad) * balance * n**0.25
    means = np.pad((root[:, None] * right).T, pad).T / (balance * n**0.25)
    b = jnp.zeros(classes) if problem.has_bias else None
    return Params(jnp.asarray(W), jnp.asarray(np.repeat(means, n, axis=1)), b)


def reference(problem: Problem) -> tuple[float, Params]:
    """A value that f attains (f* where it is known), and a point close to it."""
    if not isinstance(problem.loss, Focal):
        return convex_minimum(problem).value, minimiser(problem)
    if problem.per_class is None:
        return np.inf, frame(make(problem.loss, (2,) * 3, problem.lam_b), 5.0)
    classes, n = problem.num_classes, problem.per_class
    mu = float(problem.lam_w * problem.lam_h) ** 0.5
    value, rho = scanned_minimum(problem.loss, classes, n, mu)
    return value, frame(problem, rho)


def candidates(problem: Problem, best: Params, seed: int) -> list[Params]:
    """Minima, near-minima, points of too low a rank, and anything else."""
    rng = np.random.default_rng(seed)
    if best.H.shape[1] != problem.num_columns:
        repeated = np.repeat(np.asarray(best.H)[:, ::2], SKEWED, axis=1)
        best = Params(best.W, jnp.asarray(repeated), best.b)
    W, H = np.asarray(best.W), np.asarray(best.H)
    right = np.linalg.svd(W, full_matrices=False)[2]
    kept = right[: rng.integers(0, len(right))]
    project = kept.T @ kept
    noise = 10.0 ** rng.uniform(-12, -1, 3)
    dead = int(rng.integers(problem.num_classes))
    alive_w = np.arange(problem.num_classes)[:, None] != dead
    alive_h = problem.labels[None, :] != dead
    return [
        best,
        *(perturbed(best, seed + i, relative) for i, relative in enumerate(noise)),
        Params(jnp.asarray(W @ project), jnp.asarray(project @ H), best.b),
        Params(jnp.asarray(W * alive_w), jnp.asarray(H * alive_h), best.b),
        rescaled(best, 1.0 + 10.0 ** rng.uniform(-8, 0)),
        origin(problem, best.b),
        origin(problem),
        *(gaussian(problem, seed + i, 10.0 ** rng.uniform(-8, 3)) for i in range(3)),
    ]


def label_probabilities(problem: Problem, point: Params) -> np.ndarray:
    V = np.asarray(point.W) @ np.asarray(point.H) + (
        0.0 if point.b is None else np.asarray(point.b)[:, None]
    )
    p = np.exp(V - V.max(axis=0))
    return (p / p.sum(axis=0))[problem.labels, np.arange(problem.num_columns)]


def check(problem: Problem, point: Params, found, attained: float, tol: float | None) -> None:
    verdict, exact = Verdict(int(found.verdict)), float(wide_objective(problem, point))
    assert abs(float(found.value) - exact) <= float(found.rounding)
    assert float(found.lower_bound) <= attained
    assert not np.isnan(float(found.gap))
    if verdict is Verdict.GLOBAL_MINIMUM:
        assert exact - attained <= float(found.gap) <= float(found.tol)
        # No more than was asked for, or promised: relative to f(0) − f*, or to f(0)/1000.
        height = float(wide_objective(problem, origin(problem)))
        promised = (1e-6 if tol is None else tol) * max(height - attained, 1e-3 * height)
        assert float(found.gap) <= promised * (1 + 1e-9)
        assert not (isinstance(problem.loss, Focal) and problem.per_class is None)
    elif verdict is Verdict.STRICT_SADDLE:
        assert float(found.grad_norm) <= float(found.critical_tol)
        lowest = np.linalg.eigvalsh(dense_hessian(problem, point))[0]
        assert lowest <= float(found.escape.curvature) * (1 - 1e-6) < 0
    elif verdict is Verdict.MINIMUM_ON_CONVEX_REGION:
        assert isinstance(problem.loss, Focal)
        assert np.min(label_probabilities(problem, point)) > float(problem.loss.convex_above())
        assert float(found.region_gap) <= float(found.tol)
    elif verdict is Verdict.NOT_CRITICAL:
        assert float(found.grad_norm) > float(found.critical_tol)
    else:
        assert verdict is Verdict.UNDECIDED  # a batch counts no curvatures
        assert int(found.reason) in (
            Reason.GAP_OPEN,
            Reason.CONVEXITY_UNKNOWN,
            Reason.TOLERANCE_BELOW_ROUNDING,
        )


@pytest.mark.parametrize(
    "case", [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in CASES]
)
@settings(max_examples=12)
@given(
    numbers=NUMBERS,
    seed=st.integers(0, 10**6),
    tol=st.one_of(st.none(), decades(-14, -1)),
)
def test_no_false_verdict(case, numbers, seed, tol):
    problem = problem_of(case, numbers)
    attained, best = reference(problem)
    points = candidates(problem, best, seed)
    relative = jnp.full(len(points), jnp.nan if tol is None else tol)
    batch = jax.tree.map(np.asarray, certified_at_once(problem, stacked(points), relative))
    results = [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(len(points))]
    for point, found in zip(points, results, strict=True):
        check(problem, point, found, attained, tol)
    # The reference itself, where it is the minimum to all digits, is no saddle for any tolerance.
    if float(wide_objective(problem, points[0])) <= attained + 1e-13:
        assert int(results[0].verdict) != Verdict.STRICT_SADDLE


SAMPLES = 2048


def test_no_false_verdict_in_a_large_batch():
    """Label smoothing, balanced: ρ* = log(1/(α/K + μ√n) − K + 1), or 0 where Kμ√n ≥ 1 − α."""
    rng, wide = np.random.default_rng(0), np.longdouble
    K, n, d = 3, 2, 4
    alpha = rng.uniform(0, 0.95, SAMPLES)
    mu = 10 ** rng.uniform(-8, 0.5, SAMPLES)
    near = rng.random(SAMPLES) < 0.3  # crowd the collapse threshold
    threshold = (1 - alpha) / (K * n**0.5)
    mu = np.where(
        near, threshold * (1 + 10 ** rng.uniform(-9, -1, SAMPLES) * rng.choice([-1, 1])), mu
    )
    rate = mu.astype(wide) * np.sqrt(wide(n))
    share = alpha.astype(wide) / K
    rho = np.log(np.maximum(1 / (share + rate) - K + 1, 1))

    def values(W, H):
        """f at each point, in longdouble."""
        V = np.einsum("skd,sdn->skn", W.astype(wide), H.astype(wide))
        on_label = V[:, np.repeat(np.arange(K), n), np.arange(K * n)][:, None, :]
        entropy = np.log(np.sum(np.exp(V - V.max(axis=1, keepdims=True)), axis=1))
        losses = entropy + (V.max(axis=1, keepdims=True) - on_label)[:, 0]
        losses += share[:, None] * np.sum(on_label - V, axis=1)
        return losses.mean(axis=1) + mu * ((W**2).sum((1, 2)) + (H**2).sum((1, 2))) / 2

    basis = np.linalg.svd(np.eye(K) - 1 / K)[0][:, : K - 1]
    orient = np.linalg.qr(rng.standard_normal((SAMPLES, d, d)))[0][:, :, : K - 1]
    scale = np.sqrt(rho.astype(float))[:, None, None]
    W = scale * n**0.25 * np.einsum("kr,sdr->skd", basis, orient)
    H = scale / n**0.25 * np.repeat(np.einsum("kr,sdr->sdk", basis, orient), n, axis=2)
    least = values(W, H)
    kind = np.arange(SAMPLES) % 4
    size = np.select(
        [kind == 0, kind == 1, kind == 2], [0.0, 10 ** rng.uniform(-13, -1, SAMPLES), 1e-3]
    )
    size = np.where(kind == 3, 10 ** rng.uniform(-6, 2, SAMPLES), size)[:, None, None]
    W = W + size * rng.standard_normal(W.shape)
    H = H + size * rng.standard_normal(H.shape)
    W[kind == 2, 1] = 0.0
    exact = values(W, H)
    least = np.minimum(least, exact)

    def one(a, decay, W, H):
        problem = make(LabelSmoothing(a), BALANCED, None, decay, ratio=1.0)
        return certify(problem, Params(W, H, None))

    arrays = [jnp.asarray(x) for x in (alpha, mu, W, H)]
    found = jax.tree.map(np.asarray, jax.vmap(one)(*arrays))
    # `least` itself is right to the last bits of longdouble times the terms of f.
    assert np.all(found.lower_bound <= least + 1e-17)
    assert np.all(np.abs(found.value - exact) <= found.rounding)
    minimum = found.verdict == Verdict.GLOBAL_MINIMUM
    assert np.all((exact - least)[minimum] <= found.tol[minimum])
    assert np.all(minimum[kind == 0])
    assert np.all(found.verdict[kind == 0] != Verdict.STRICT_SADDLE)
    assert 0.3 < np.mean(minimum) < 0.7
