"""Newton: few passes whatever n, λ and the start; the split of the Hessian and what backs it up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import convex_minimum
from model_oracle import dense_hessian, objective_and_gradient
from points import BALANCED, SKEWED, gaussian, make

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Solution,
    Status,
    global_minimum,
    init_params,
    solve,
)
from ufm.model.class_means import from_class_means
from ufm.model.hessian_product import linearise
from ufm.model.objective import logits, penalty
from ufm.model.params import norm
from ufm.solvers import newton
from ufm.solvers._loop import evaluate
from ufm.solvers._same_logits import least_decay
from ufm.solvers._split import minimise_split

LOSSES = [CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE()]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label())


@pytest.mark.repeats
@every_loss
def test_every_decay_and_every_scale_of_the_start(loss):
    for lam in (1e-1, 1e-3, 1e-5, 1e-8):
        problem = make(loss, SKEWED, 1e-2, lam, ratio=1.0)
        # The focal loss has other minima where the decay is large.
        values = []
        for scale in (1e-9, 1e-6, 0.1, 10.0, 100.0):
            found = solve(problem, init_params(problem, jax.random.key(1), scale))
            assert found.status is Status.CONVERGED, (lam, scale, found.explain())
            values.append(float(found.value))
        if loss.is_convex():
            minimum = global_minimum(problem)
            assert minimum.is_exact
            np.testing.assert_allclose(values, minimum.value, rtol=1e-7)


def test_next_to_the_saddle_at_the_origin_steps_grow():
    # All decreases drown in the rounding of f there; without growth it would take thousands.
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=10, per_class=100, dim=16,
        lam_w=5e-4, lam_h=5e-4, lam_b=1e-2,
    )  # fmt: skip
    found = solve(problem, init_params(problem, jax.random.key(0), 1e-6))
    assert found.status is Status.CONVERGED
    assert int(found.num_steps) <= 40


def test_passes_over_the_samples_do_not_grow_with_their_number():
    products = []
    for per_class in (10, 1_000):
        # μ√n, and with it the minimum, stays the same.
        lam = 1e-2 / per_class**0.5
        problem = Problem.balanced(
            loss=CrossEntropy(), num_classes=4, per_class=per_class, dim=6,
            lam_w=lam, lam_h=lam, lam_b=1e-2,
        )  # fmt: skip
        found = solve(problem, init_params(problem, jax.random.key(0)))
        assert found.status is Status.CONVERGED
        products.append(int(found.num_products))
    assert products[1] <= products[0] + 10 <= 70


@pytest.mark.repeats
@pytest.mark.parametrize("counts", [BALANCED, SKEWED])
@every_loss
def test_without_deviations_the_split_model_is_the_whole_one(loss, counts):
    problem = make(loss, counts, 1e-2)
    rng = np.random.default_rng(0)
    Y = jnp.asarray(rng.standard_normal((problem.dim, 3)))
    collapsed = gaussian(problem, 4, 0.5)
    collapsed = Params(collapsed.W, from_class_means(problem, Y), collapsed.b)
    # Only W and b of the gradient matter for the test, so any gradient may be put in its place.
    point = evaluate(problem, collapsed)._replace(grad=gaussian(problem, 5, 1e-3))
    radius, goal = jnp.asarray(0.02), 0.5 * norm(point.grad)
    model = minimise_split(
        problem, point, linearise(problem, collapsed), radius, goal, jnp.zeros((), bool)
    )
    step, grad = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(y)]) for y in (model.step, point.grad)
    )
    expected = -(grad @ step + 0.5 * step @ dense_hessian(problem, collapsed) @ step)
    assert float(model.decrease) == pytest.approx(expected, rel=1e-10)
    assert expected > 0


def test_where_the_split_fails_the_whole_hessian_takes_over():
    # Far-out features that differ within classes: class means say little.
    problem = make(CrossEntropy(), (30, 30, 30), 1e-2, 1e-5, ratio=1.0)
    point = evaluate(problem, init_params(problem, jax.random.key(0), 10.0))
    step = jax.jit(newton.step)
    state, whole = newton.init(problem, point), 0
    for _ in range(40):
        point, state, _ = step(problem, point, state)
        whole += int(state.whole_steps) > 0
    assert 0 < whole < 40


def test_one_sample_a_class_leaves_nothing_to_split():
    problem = make(CrossEntropy(), (1, 1, 1), 1e-2)
    found = solve(problem, init_params(problem, jax.random.key(0)))
    assert found.status is Status.CONVERGED
    assert float(found.value) == pytest.approx(global_minimum(problem).value, rel=1e-12)


# Extreme scales ----------------------------------------------------------------------------------

#: Steps that no problem may need, however small or far apart its decays are. (Of 6,000 random ones
#: none took more than 231.)
FEW = 250
UNEVEN = (1, 7, 2, 4)


def solved_honestly(problem: Problem) -> Solution:
    """The solution from a random start, judged by an independent value and gradient."""
    found = solve(problem, init_params(problem, jax.random.key(0)))
    assert int(found.num_steps) <= FEW, (problem, found.explain())
    assert float(found.tol) == pytest.approx(min(1e-10, 1e-6 * float(problem.mu())), rel=1e-12)
    value, gradient = objective_and_gradient(problem, found.params)
    assert float(found.value) == pytest.approx(value, rel=1e-12, abs=0)
    # The gradient is a difference of the loss's, which is known to 1e-15 of the logits, and decay.
    W, H = (np.linalg.norm(x) for x in (found.params.W, found.params.H))
    noise = float(1e-14 * curvature(problem) * (1 + W * H) * (1 + W + H))
    assert float(found.grad_norm) == pytest.approx(np.linalg.norm(gradient), abs=noise)
    assert found.status in (Status.CONVERGED, Status.STALLED)
    assert (found.status is Status.CONVERGED) == (float(found.grad_norm) <= float(found.tol))
    return found


def curvature(problem: Problem) -> float:
    return max(1.0, float(problem.loss.scale)) if isinstance(problem.loss, MSE) else 1.0


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "lam_w", "lam_h"),
    [
        (MSE(1e4, 1e3), 1e-3, 1e-3),
        (MSE(), 1e-12, 1e-12),
        (MSE(), 1e-1, 1e-11),
        (MSE(), 1e-10, 1.0),
        (MSE(1e-3, 1e-2), 1e-9, 1e-9),
    ],
    ids=["large loss", "small decay", "more on W", "more on H", "small loss"],
)
def test_squared_error_of_any_scale_ends_at_its_minimum(loss, lam_w, lam_h):
    problem = Problem(loss, UNEVEN, 5, lam_w, lam_h, None)
    # Without a bias the classes fall apart into min_s κ(√n M − s)²/(2N) + μs.
    mu, total = (lam_w * lam_h) ** 0.5, sum(UNEVEN)
    roots = np.sqrt(UNEVEN) * loss.target
    s = np.maximum(roots - total * mu / loss.scale, 0.0)
    minimum = np.sum(loss.scale * (roots - s) ** 2 / (2 * total) + mu * s)
    assert float(solved_honestly(problem).value) == pytest.approx(float(minimum), rel=1e-9)


def test_a_flat_valley_of_label_smoothing_is_walked_to_its_end():
    problem = Problem(LabelSmoothing(0.5), UNEVEN, 5, 1e-10, 1e-10, 0.0)
    found = solved_honestly(problem)
    minimum = convex_minimum(problem)
    assert float(found.value) <= minimum.value
    assert float(found.value) == pytest.approx(minimum.value, abs=minimum.accuracy)
    # On the valley's floor f changes by less than its rounding where the gradient is below μ.
    assert np.linalg.norm(objective_and_gradient(problem, found.params)[1]) < 1e-10


@pytest.mark.repeats
@pytest.mark.parametrize("seed", range(3))
def test_no_problem_of_extreme_scales_takes_many_steps(seed):
    rng = np.random.default_rng(seed)
    for i in range(16):
        alpha, gamma = rng.uniform(0, 0.9), rng.uniform(0, 5)
        scale, target = 10 ** rng.uniform(-4, 4), 10 ** rng.uniform(-3, 3)
        losses = CrossEntropy(), LabelSmoothing(alpha), Focal(gamma), MSE(scale, target)
        mu, ratio = 10 ** rng.uniform(-12, -1), 10 ** rng.uniform(-5, 5)
        lam_b = float(rng.choice([0.0, 10 ** rng.uniform(-12, -1)]))
        solved_honestly(make(losses[i % 4], SKEWED, lam_b, mu, ratio=ratio))


@pytest.mark.parametrize(
    ("loss", "lam_w", "lam_h", "lam_b"),
    [
        # Each took 1,300 to 5,000 steps along its valley before the decay was minimised in it.
        (MSE(1e3, 6.7e-3), 1.6e-10, 2.8e-13, 3.4e-6),
        (MSE(5.1e3, 450.0), 5e-3, 1.05e-7, 0.0),
        (MSE(7.4e3, 138.0), 8.9e-7, 6.5e-8, 7.7e-3),
        (LabelSmoothing(0.48), 4.7e-8, 4e-15, 4.8e-6),
    ],
    ids=lambda x: x.label() if hasattr(x, "label") else "",
)
def test_flat_valleys_in_few_dimensions_take_few_steps(loss, lam_w, lam_h, lam_b):
    solved_honestly(Problem(loss, UNEVEN, 2, lam_w, lam_h, lam_b))


# The least decay at given logits -----------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("lam_b", [None, 0.0])
def test_least_decay_is_the_nuclear_norm_of_the_same_logits(loss, lam_b):
    # min λ_W/2 ‖W‖² + λ_H/2 ‖H‖² at a given WH is √(λ_W λ_H) times its nuclear norm.
    weights = jnp.asarray(np.random.default_rng(0).uniform(0.5, 3.0, 7))
    problem = Problem(loss, (4, 2, 1), 5, 3e-2, 2e-5, lam_b, column_weights=weights)
    start = init_params(problem, jax.random.key(1), scale=1.0)
    end = least_decay(problem, start)
    before, after = (np.asarray(logits(problem, x)) for x in (start, end))
    Z, roots = np.asarray(start.W @ start.H), np.sqrt(np.asarray(weights))
    if problem.loss.shift_invariant:
        before, after, Z = (x - x.mean(axis=0) for x in (before, after, Z))
    if lam_b == 0.0:  # a free bias takes the mean of the features
        Z = Z - (Z @ roots)[:, None] * roots[None, :] / np.sum(roots**2)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-13 * np.abs(before).max())
    least = float(problem.mu()) * np.linalg.svd(Z, compute_uv=False).sum()
    # Directions that W does not see keep √ε of their decay: WᵀW is known to ε.
    assert float(penalty(problem, end)) == pytest.approx(least, rel=1e-7)


def test_least_decay_with_a_decayed_bias_falls_to_a_minimum_over_mean_and_balance():
    problem = make(MSE(), SKEWED, 0.3, 1e-2, ratio=10.0)
    start = init_params(problem, jax.random.key(1), scale=1.0)
    V, end = logits(problem, start), start
    for _ in range(20):
        end = least_decay(problem, end)
    np.testing.assert_allclose(logits(problem, end), V, rtol=0, atol=1e-12)
    W, H, b = (np.asarray(x) for x in (end.W, end.H, end.b))
    # No shift of the mean into the bias and no change of basis lowers the decay any more.
    np.testing.assert_allclose(
        float(problem.lam_h) * H.sum(axis=1), problem.lam_b * W.T @ b, rtol=0, atol=1e-10
    )
    balance = float(problem.lam_w) * W.T @ W - float(problem.lam_h) * H @ H.T
    np.testing.assert_allclose(balance, 0.0, atol=1e-10)


@pytest.mark.parametrize("change", [{"lam_w": 0.0}, {"lam_h": 0.0}])
def test_least_decay_without_a_decay_or_at_the_origin_is_the_point_itself(change):
    problem = make(CrossEntropy(), SKEWED, 0.0, 1e-2)
    start = init_params(problem, jax.random.key(1))
    same = least_decay(dataclasses.replace(problem, **change), start)
    jax.tree.map(np.testing.assert_array_equal, same, start)
    origin = jax.tree.map(jnp.zeros_like, start)
    jax.tree.map(np.testing.assert_array_equal, least_decay(problem, origin), origin)


def test_scaling_one_matrix_and_its_decay_changes_no_digit():
    # W and H enter by their product: with λ_W/16⁴ and λ_H·16⁴, W·16² and H/16² are the same point.
    problem = make(MSE(), SKEWED, 1e-2, 1e-3, ratio=1.0)
    begin = init_params(problem, jax.random.key(0))
    found = solve(problem, begin, tol=0.0, max_steps=8)
    factor = 2.0**8
    other = make(MSE(), SKEWED, 1e-2, 1e-3, ratio=factor**-2)
    moved = Params(factor * begin.W, begin.H / factor, begin.b)
    same = solve(other, moved, tol=0.0, max_steps=8)
    np.testing.assert_array_equal(same.history.value, found.history.value)
    np.testing.assert_array_equal(same.params.W, factor * found.params.W)
    np.testing.assert_array_equal(same.params.H, found.params.H / factor)
    assert float(same.value) == float(found.value)


def test_a_lopsided_start_is_balanced():
    # W/H is 1e-6 of what it becomes: by steps along the valley alone that takes hundreds.
    problem = make(LabelSmoothing(0.1), SKEWED, 1e-2, 1e-8, ratio=1.0)
    begin = init_params(problem, jax.random.key(0))
    lopsided = Params(2.0**-10 * begin.W, 2.0**10 * begin.H, begin.b)
    even, found = solve(problem, begin), solve(problem, lopsided)
    assert even.status is found.status is Status.CONVERGED
    assert max(int(even.num_steps), int(found.num_steps)) <= 100
    assert float(found.value) == pytest.approx(float(even.value), rel=1e-14)
