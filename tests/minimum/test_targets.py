"""Problems with targets: oracles are dense Hessians, a convex solver, and closed forms."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ufm import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Problem,
    VectorScaling,
    Verdict,
    certify,
    decay_path,
    explore,
    global_minimum,
    hvp,
    inertia,
    init_params,
    minority_thresholds,
    nc_metrics,
    objective,
    origin,
    solve,
    spectrum,
    target_metrics,
    zero_decay_limit,
)
from ufm._support.quick_jit import counted_anew, quick_jit
from ufm.losses import ClassWeighted

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp

RNG = np.random.default_rng(0)
COUNTS = (3, 1, 2, 4)
SOFT = RNG.dirichlet(np.ones(3), 4)
TAGS = np.array([[1.0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
REAL = RNG.standard_normal((2, 3))
#: More groups than outputs, and fewer.
CASES = {
    "soft": (CrossEntropy(), SOFT, COUNTS),
    "tags": (BinaryCrossEntropy(), TAGS, COUNTS),
    "regression": (MSE(), REAL, (5, 2)),
}
every_case = pytest.mark.parametrize("case", CASES)


def make(case, lam_b=1e-2, mu=2e-2, dim=4):
    loss, targets, counts = CASES[case]
    return Problem(loss, counts, dim, mu / 2, 2 * mu, lam_b, targets=targets)


def plain_objective(problem, targets, case):
    """f from its definition, of one vector, and the way back to `Params`."""
    point = init_params(problem, jax.random.key(0))
    _, unravel = ravel_pytree(point)
    y = jnp.asarray(targets)[problem.labels].T

    def f(x):
        p = unravel(x)
        V = p.W @ p.H + p.b[:, None]
        losses = {
            "soft": lambda: jnp.sum(-y * jax.nn.log_softmax(V, axis=0), axis=0),
            "tags": lambda: jnp.sum(jnp.logaddexp(0.0, V) - y * V, axis=0),
            "regression": lambda: 0.5 * jnp.sum((V - y) ** 2, axis=0),
        }[case]()
        decays = zip((p.W, p.H, p.b), (problem.lam_w, problem.lam_h, problem.lam_b), strict=True)
        return jnp.mean(losses) + sum(0.5 * lam * jnp.sum(x**2) for x, lam in decays)

    return f, unravel


@every_case
def test_objective_and_hessian_are_those_of_the_definition(case):
    problem = make(case)
    f, unravel = plain_objective(problem, CASES[case][1], case)
    value, hessian = quick_jit(f), quick_jit(jax.hessian(f))
    random = init_params(problem, jax.random.key(1), scale=0.5)
    minimum = solve(problem, random).params
    for point in (random, minimum):
        x, _ = ravel_pytree(point)
        assert float(objective(problem, point)) == pytest.approx(float(value(x)), rel=1e-13)
        dense = np.asarray(hessian(x))
        direction = jnp.asarray(RNG.standard_normal(x.shape))
        found, _ = ravel_pytree(hvp(problem, point, unravel(direction)))
        np.testing.assert_allclose(found, dense @ direction, atol=1e-12)
        exact = np.linalg.eigvalsh(dense)
        every = spectrum(problem, point, "dense")
        np.testing.assert_allclose(
            np.repeat(every.eigenvalues, every.multiplicities), exact, atol=1e-9
        )
    # At the minimum also from the means of the groups, and by counts.
    collapsed = spectrum(problem, minimum, "collapsed")
    listed = np.sort(np.repeat(collapsed.eigenvalues, collapsed.multiplicities))
    assert collapsed.complete
    np.testing.assert_allclose(listed, exact, atol=1e-9)
    counts = inertia(problem, minimum)
    signs = [np.sum(exact < -1e-8), np.sum(abs(exact) <= 1e-8), np.sum(exact > 1e-8)]
    assert [counts.negative, counts.zero, counts.positive] == signs
    assert counts.negative == 0


def convex_value(problem, targets, mu):
    """f* of a problem with a softmax loss and column weights n_k, by an interior-point method."""
    sizes = np.array(problem.class_counts, float)
    outputs, share = targets.shape[1], sizes / sizes.sum()
    Z = cp.Variable((outputs, len(sizes)))
    V = Z @ np.diag(1 / np.sqrt(sizes))
    cost = mu * cp.normNuc(Z) - cp.sum(cp.multiply(targets.T * share, V))
    b = None
    if problem.lam_b is not None:
        b = cp.Variable((outputs, 1))
        V = V + b @ np.ones((1, len(sizes)))
        cost = mu * cp.normNuc(Z) - cp.sum(cp.multiply(targets.T * share, V))
        cost += float(problem.lam_b) / 2 * cp.sum_squares(b)
    mass = targets.sum(axis=1)
    cost += cp.sum(cp.multiply(share * mass, cp.log_sum_exp(V, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accuracy = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
        return cp.Problem(cp.Minimize(cost)).solve(solver=cp.CLARABEL, **accuracy)


@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2], ids=str)
def test_soft_targets_have_the_minimum_of_a_convex_solver(lam_b, full):
    rng = np.random.default_rng(3)
    for _ in range(7 if full else 4):
        targets = rng.dirichlet(np.full(3, rng.choice([0.3, 1.0, 5.0])), 4)
        counts, mu = tuple(rng.integers(1, 9, 4).tolist()), float(10 ** rng.uniform(-3, -1.5))
        problem = Problem(CrossEntropy(), counts, 4, mu, mu, lam_b, targets=targets)
        found = global_minimum(problem)
        assert found.is_exact
        assert found.value - found.lower_bound <= 1e-7 * found.value
        exact = convex_value(problem, targets, mu)
        # 2e-9 is the accuracy of the convex solver (see `convex_oracle`).
        assert found.value == pytest.approx(exact, abs=1e-8)
        assert found.lower_bound <= exact + 2e-9


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (LabelSmoothing(0.1), SOFT),
        (ClassWeighted(CrossEntropy(), np.array([1.0, 2.0, 0.5, 1.0])), SOFT),
        (VectorScaling(shift=np.array([0.0, 1.0, -1.0])), SOFT),
        (VectorScaling.ldam((1, 3, 6)), np.eye(3)[[0, 1, 1, 2]]),
        (BinaryCrossEntropy(), TAGS),
    ],
)
@pytest.mark.parametrize("lam_b", [None, 0.0], ids=str)
def test_every_convex_loss_on_targets_is_certified(loss, targets, lam_b):
    problem = Problem(loss, COUNTS, 4, 1e-2, 1e-2, lam_b, targets=targets)
    run = solve(problem, init_params(problem, jax.random.key(0)))
    found = certify(problem, run.params)
    assert Verdict(int(found.verdict)) is Verdict.GLOBAL_MINIMUM
    # Nothing lies below the bound: the origin and random points are above.
    for point in (origin(problem), init_params(problem, jax.random.key(1), scale=1.0)):
        assert float(objective(problem, point)) >= float(found.lower_bound)
        bound = certify(problem, point)
        assert float(bound.lower_bound) <= float(run.value) + 1e-12


@counted_anew()  # runs before may have compiled what a new process has not
def test_groups_of_one_class_are_the_class():
    """One-hot targets with several groups in a class give the numbers of class labels."""
    labelled = Problem(CrossEntropy(), (5, 4), 3, 1e-2, 1e-2, 1e-2)
    grouped = Problem(CrossEntropy(), (2, 3, 4), 3, 1e-2, 1e-2, 1e-2, targets=np.eye(2)[[0, 0, 1]])
    point = init_params(labelled, jax.random.key(0))
    assert float(objective(grouped, point)) == float(objective(labelled, point))
    one, other = solve(labelled, point), solve(grouped, point)
    assert float(one.value) == pytest.approx(float(other.value), rel=1e-13)
    in_order = Problem(CrossEntropy(), (5, 4), 3, 1e-2, 1e-2, 1e-2, targets=np.eye(2))
    assert not in_order.has_targets
    for x, y in zip(jax.tree.leaves(solve(in_order, point)), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(x, y)
    # Focal loss of such groups has no bound, and says so.
    focal = Problem(Focal(2.0), (2, 3, 4), 3, 1e-2, 1e-2, None, targets=np.eye(2)[[0, 0, 1]])
    end = solve(focal, init_params(focal, jax.random.key(0)))
    found = certify(focal, end.params)
    assert float(found.lower_bound) == -np.inf
    assert found.verdict is Verdict.LOCAL_MINIMUM


def test_outputs_and_groups_are_two_things():
    problem = make("soft", lam_b=None)
    assert (problem.num_classes, problem.num_outputs) == (4, 3)
    assert problem.has_targets
    np.testing.assert_array_equal(problem.targets, SOFT)
    point = init_params(problem, jax.random.key(0))
    assert point.W.shape == (3, 4)
    metrics = nc_metrics(problem, point)
    assert np.isfinite(metrics.nc1)
    assert np.isnan(metrics.nc3)
    assert np.isnan(metrics.nc4)
    with pytest.raises(ValueError, match="class labels, not targets"):
        target_metrics(Problem(CrossEntropy(), (2, 2), 2, 0.1, 0.1, None), None or origin(
            Problem(CrossEntropy(), (2, 2), 2, 0.1, 0.1, None)
        ))  # fmt: skip


def test_the_landscape_of_regression_is_that_of_its_singular_values(full):
    problem = make("regression", lam_b=0.0)
    few = {"starts_per_rank": 3, "starts_per_partition": 2, "root_starts": 24, "flows": 1}
    census = explore(problem, jax.random.key(0), **({} if full else few))
    sizes, N = np.array(problem.class_counts, float), 7
    centred = (REAL - sizes @ REAL / N).T * np.sqrt(sizes)
    sigma = np.linalg.svd(centred, compute_uv=False)[0]
    # Two groups and a free bias leave one direction: the origin and the minimum.
    mu = float(problem.mu())
    values = [sigma**2 / (2 * N) - (sigma - N * mu) ** 2 / (2 * N), sigma**2 / (2 * N)]
    np.testing.assert_allclose([point.value for point in census.points], values, rtol=1e-9)


@pytest.mark.parametrize("lam_b", [None, 0.0], ids=str)
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (CrossEntropy(), 0.5 * SOFT + 0.5 / 3),
        (LabelSmoothing(0.3), TAGS[[0, 1, 2, 1]]),
        (BinaryCrossEntropy(), 0.8 * TAGS + 0.1),
        (MSE(), RNG.standard_normal((4, 3))),
    ],
)
def test_targets_without_zeros_have_a_finite_limit_at_zero_decay(loss, targets, lam_b):
    """The first-order formula is off by O(μ³) in f, and the distance falls as μ."""
    problem = Problem(loss, COUNTS, 3, 1e-3, 1e-3, lam_b, targets=targets)
    limit = zero_decay_limit(problem)
    decays = np.array([1e-4, 1e-5])
    path = decay_path(problem, decays)
    assert all(path.exact)
    distances = [limit.distance(logits) for logits in path.logits]
    assert distances[1] == pytest.approx(distances[0] / 10, rel=0.1)
    for mu, value, logits in zip(decays, path.values, path.logits, strict=True):
        formula = limit.first_order(float(mu))
        assert abs(formula.value - value) <= 1e5 * mu**3 + 1e-14
        np.testing.assert_allclose(formula.logits, logits, atol=1e6 * mu**2 + 1e-9)


def test_limits_and_thresholds_that_targets_do_not_have_are_refused():
    problem = Problem(CrossEntropy(), (2, 2), 3, 1e-3, 1e-3, None, targets=TAGS[[0, 1]])
    with pytest.raises(ValueError, match="targets without zeros"):
        zero_decay_limit(problem)
    assert "with targets" in minority_thresholds(problem).explain()
