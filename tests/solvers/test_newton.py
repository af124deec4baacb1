"""Newton: few passes whatever n, λ and the start; the split of the Hessian and what backs it up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, gaussian, make

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Status,
    global_minimum,
    init_params,
    solve,
)
from ufm.model.class_means import from_class_means
from ufm.model.hessian_product import linearise
from ufm.solvers import newton
from ufm.solvers._loop import evaluate

LOSSES = [CrossEntropy(), LabelSmoothing(0.1), Focal(3.0), MSE()]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label())


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
    radius = jnp.asarray(0.02)
    model = newton._minimise(
        problem, point, linearise(problem, collapsed), radius, jnp.zeros((), bool)
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
