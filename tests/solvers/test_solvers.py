"""Solvers: what a status says is true, whatever the method, the start, the decay and the dtype."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from model_oracle import objective_and_gradient

from ufm import (
    MSE,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Solution,
    Status,
    global_minimum,
    init_params,
    polish,
    solve,
    solve_many,
)
from ufm.solvers import DEFAULT_METHOD, METHODS

COUNTS, DIM, LAM = (5, 5, 5, 5), 6, 5e-3
LOSSES = {"CE": CrossEntropy(), "LS": LabelSmoothing(0.1), "FL": Focal(3.0), "MSE": MSE()}
EPS = float(np.finfo(float).eps)
every_method = pytest.mark.parametrize("method", METHODS)
every_loss = pytest.mark.parametrize("name", LOSSES)
# Every pair is a compilation: the methods that nobody needs go without LS and FL.
every_pair = pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for method in ("newton", "lbfgs", "gradient_descent") for name in LOSSES]
    + [(name, method) for method in ("heavy_ball", "nesterov", "adam") for name in ("CE", "MSE")],
)


def make(name="CE", lam=LAM, lam_b: float | None = 1e-2) -> Problem:
    return Problem(LOSSES[name], COUNTS, DIM, lam, lam, lam_b)


def start(problem: Problem, seed=0, scale=0.1, dtype=None) -> Params:
    return init_params(problem, jax.random.key(seed), scale, dtype=dtype)


@functools.cache
def solved(name: str, method: str) -> Solution:
    return solve(make(name), start(make(name)), method=method)


def true_gradient_norm(problem: Problem, params: Params) -> float:
    return float(np.linalg.norm(objective_and_gradient(problem, params)[1]))


def used(solution: Solution) -> int:
    """Entries of the history in use."""
    return int(np.sum(np.asarray(solution.history.step) >= 0))


# What converged means -----------------------------------------------------------------------------


@pytest.mark.repeats
@every_pair
def test_converged_is_what_an_independent_gradient_says(name, method):
    found = solved(name, method)
    assert found.status is Status.CONVERGED
    assert float(found.tol) == 1e-10
    # Rounding of either gradient is of the order of 1e-16 here.
    value, gradient = objective_and_gradient(make(name), found.params)
    assert np.linalg.norm(gradient) <= 1e-10 + 1e-15
    assert float(found.grad_norm) == pytest.approx(np.linalg.norm(gradient), abs=1e-15)
    assert float(found.value) == pytest.approx(value, rel=1e-14, abs=0)
    assert float(found.value) == pytest.approx(global_minimum(make(name)).value, abs=1e-13)


@pytest.mark.parametrize("lam_b", [None, 0.0])
@pytest.mark.parametrize(("name", "method"), [("CE", "newton"), ("MSE", "gradient_descent")])
def test_without_a_bias_and_with_a_free_one(name, method, lam_b):
    problem = make(name, lam_b=lam_b)
    found = solve(problem, start(problem), method=method)
    assert found.status is Status.CONVERGED
    assert (found.params.b is None) == (lam_b is None)
    assert true_gradient_norm(problem, found.params) <= 1e-10 + 1e-15
    assert float(found.value) == pytest.approx(global_minimum(problem).value, abs=1e-13)


@every_loss
def test_a_solver_of_scipy_reaches_the_same_value(name):
    problem = make(name)
    begin = jax.tree.map(np.asarray, start(problem))
    in_w, in_h = begin.W.size, begin.W.size + begin.H.size

    def unravel(x) -> Params:
        parts = x[:in_w].reshape(4, DIM), x[in_w:in_h].reshape(DIM, 20), x[in_h:]
        return Params(*map(jnp.asarray, parts))

    x = np.concatenate([begin.W.ravel(), begin.H.ravel(), begin.b])
    found = scipy.optimize.minimize(
        lambda x: objective_and_gradient(problem, unravel(x)),
        *(x, (), "L-BFGS-B", True),
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    value = float(solved(name, DEFAULT_METHOD).value)
    assert value - 1e-14 < found.fun == pytest.approx(value, abs=1e-11)


# The history -------------------------------------------------------------------------------------


@every_method
def test_the_history_begins_at_the_start_and_ends_at_the_point_returned(method):
    # The programs of these runs are those of the runs without decay.
    found, problem = solved("CE", method), make("CE")
    history, count = jax.tree.map(np.asarray, found.history), used(found)
    assert all(len(column) == 256 for column in jax.tree.leaves(history))
    first = objective_and_gradient(problem, start(problem))
    assert history.step[0] == 0
    assert history.products[0] == (2 if method in ("heavy_ball", "nesterov") else 1)  # a probe
    assert history.value[0] == pytest.approx(first[0], rel=1e-14, abs=0)
    assert history.grad_norm[0] == pytest.approx(np.linalg.norm(first[1]), rel=1e-12, abs=0)
    assert history.step[count - 1] == found.num_steps
    assert history.products[count - 1] == found.num_products >= found.num_steps
    assert history.value[count - 1] == found.value
    assert history.grad_norm[count - 1] == found.grad_norm
    assert np.all(np.diff(history.step[:count]) > 0)
    assert np.all(np.diff(history.products[:count]) > 0)
    assert np.all(history.step[count:] == -1)
    assert np.all(history.products[count:] == -1)
    assert np.all(np.isnan(history.value[count:]) & np.isnan(history.grad_norm[count:]))


def test_the_history_has_every_step_at_first_and_then_thins_out():
    steps = np.asarray(solved("CE", "adam").history.step)[: used(solved("CE", "adam"))]
    assert len(steps) > 140
    np.testing.assert_array_equal(steps[:128], np.arange(128))
    assert np.all(np.diff(steps[128:-1]) <= 0.2 * steps[128:-2])


def counted(z, label):
    jax.debug.callback(COUNTER.append, 1)
    return jax.nn.logsumexp(z) - z[label]


COUNTER: list[int] = []


@pytest.mark.parametrize("method", ["gradient_descent", "nesterov"])
def test_the_products_of_first_order_methods_are_their_gradients(method):
    problem = dataclasses.replace(make(), loss=CustomLoss(counted))
    COUNTER.clear()
    found = solve(problem, start(problem), method=method, max_steps=20)
    jax.effects_barrier()
    # Each point evaluates the loss twice: for its value and under its gradient.
    assert len(COUNTER) == 2 * int(found.num_products)


# Starts and decays -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CE", "MSE"])
def test_gradient_descent_needs_no_tuning_and_never_rises(name):
    for lam in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        problem = make(name, lam, lam)
        found = solve(problem, start(problem), method="gradient_descent")
        assert found.status in (Status.CONVERGED, Status.MAX_STEPS)
        minimum = global_minimum(problem).value
        assert float(found.value) - minimum < 1e-9 * (1 + minimum)
        history, count = jax.tree.map(np.asarray, found.history), used(found)
        # A step that rounding hides may rise by 8 eps |f|.
        allowed = 8 * EPS * history.value[0] * np.diff(history.step[:count])
        assert np.all(np.diff(history.value[:count]) <= allowed)


@pytest.mark.repeats
@pytest.mark.parametrize("scale", [1e-6, 1e2])
@every_pair
def test_tiny_and_far_out_starts_end_with_an_honest_status(name, method, scale):
    problem = make(name)
    found = solve(problem, start(problem, 1, scale), method=method, max_steps=3000)
    value, gradient = objective_and_gradient(problem, found.params)
    assert float(found.value) == pytest.approx(value, rel=1e-12, abs=0)
    assert value <= objective_and_gradient(problem, start(problem, 1, scale))[0]
    norm = np.linalg.norm(gradient)
    assert float(found.grad_norm) == pytest.approx(norm, rel=1e-9, abs=1e-15)
    assert found.status is not Status.NON_FINITE
    assert (found.status is Status.CONVERGED) == (norm <= 1e-10)
    if method == "lbfgs":
        assert value == pytest.approx(global_minimum(problem).value, abs=1e-13)


@every_loss
def test_the_default_method_reaches_the_minimum_from_far_out(name):
    problem = make(name)
    for seed in range(3):
        found = solve(problem, start(problem, seed, 1e2))
        assert float(found.value) == pytest.approx(global_minimum(problem).value, abs=1e-13)


def test_the_default_method_finds_tiny_minima():
    for lam in (1e-1, 1e-3, 1e-6):
        problem = make("LS", lam, lam)
        found = solve(problem, start(problem))
        assert (found.status, float(found.tol)) == (Status.CONVERGED, min(1e-10, 1e-6 * lam))
        assert float(found.value) == pytest.approx(global_minimum(problem).value, abs=1e-13)


def test_without_decay_a_run_ends_with_a_status():
    for method in METHODS:
        problem = make("CE", 0.0, 0.0)
        found = solve(problem, start(problem), method=method, max_steps=500)
        assert found.status is not Status.NON_FINITE
        assert (found.status is Status.CONVERGED) == (float(found.grad_norm) <= 1e-10)
        assert float(found.value) < 0.1


# Falling short -----------------------------------------------------------------------------------


@every_method
def test_out_of_steps_returns_the_best_point_and_advice(method):
    problem = make()
    for steps in (0, 3):
        found = solve(problem, start(problem), method=method, max_steps=steps)
        assert (found.status, int(found.num_steps)) == (Status.MAX_STEPS, steps)
        value = objective_and_gradient(problem, found.params)[0]
        assert float(found.value) == pytest.approx(value, rel=1e-14, abs=0)
        assert float(found.value) == np.nanmin(np.asarray(found.history.value))
        assert "increase max_steps" in found.explain()


@every_method
def test_an_unreachable_tolerance_stalls_at_the_best_point(method):
    found = solve(make(), start(make()), method=method, tol=1e-30)
    assert found.status is Status.STALLED
    assert float(found.tol) == 1e-30
    assert float(found.value) == pytest.approx(global_minimum(make()).value, abs=1e-14)
    assert true_gradient_norm(make(), found.params) < 1e-10
    assert "larger tol" in found.explain()


@every_method
def test_a_start_that_is_not_a_number_ends_at_once(method):
    begin = start(make())
    for broken in (
        dataclasses.replace(begin, W=begin.W.at[1, 2].set(jnp.nan)),
        dataclasses.replace(begin, H=begin.H.at[0, 0].set(jnp.inf)),
        jax.tree.map(lambda x: 1e200 * x, begin),
    ):
        found = solve(make(), broken, method=method)
        assert (found.status, int(found.num_steps)) == (Status.NON_FINITE, 0)
        assert "starting point" in found.explain()


def root(z, label):
    return jnp.sqrt(jnp.sum(0.0 * z)) - z[label]  # its derivative is NaN everywhere


def cubic(z, label):
    return -(z[label] ** 3)  # unbounded below: runs away until numbers overflow


def test_a_loss_without_derivatives_ends_as_non_finite():
    problem = dataclasses.replace(make(), loss=CustomLoss(root))
    found = solve(problem, start(problem))
    assert (found.status, int(found.num_steps)) == (Status.NON_FINITE, 0)
    assert np.isfinite(found.value)
    assert "custom loss" in found.explain()


def test_a_loss_without_a_minimum_ends_at_the_last_good_point():
    problem = dataclasses.replace(make(), loss=CustomLoss(cubic))
    found = solve(problem, start(problem, scale=1.0), method="gradient_descent")
    assert found.status is Status.NON_FINITE
    assert float(found.value) < -1e30
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found.params))
    assert np.isfinite(found.grad_norm)
    steps = np.asarray(found.history.step)
    assert np.max(steps) == found.num_steps > 1


# float32 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name", "lam", "lam_b"),
    [
        ("newton", "MSE", 5e-4, 0.0),
        ("newton", "MSE", LAM, 1e-2),
        ("lbfgs", "LS", 5e-4, 0.0),
        ("gradient_descent", "CE", LAM, 1e-2),
    ],
)
def test_single_precision_converges_at_its_noise_floor(method, name, lam, lam_b):
    problem = make(name, lam, lam_b)
    found = solve(problem, start(problem, dtype=jnp.float32), method=method)
    assert found.status is Status.CONVERGED
    dtypes = {x.dtype for x in jax.tree.leaves(found) if hasattr(x, "dtype")}
    assert dtypes == {np.dtype("float32"), np.dtype("int32")}
    assert float(found.grad_norm) <= float(found.tol) < 1e-6
    # The rounding error of the gradient is no larger than the floor claims.
    assert true_gradient_norm(problem, found.params) <= 2 * float(found.tol)
    assert float(found.value) == pytest.approx(global_minimum(problem).value, abs=2e-6)


@pytest.mark.parametrize("count", [None, 3])
def test_polishing_finishes_a_run_in_double_precision(count):
    problem = make("CE")
    if count is None:
        run = solve(problem, start(problem, dtype=jnp.float32))
    else:
        run = solve_many(problem, jax.random.key(0), num_starts=count, dtype=jnp.float32)
    found = polish(problem, run)
    for i in range(count or 1):
        end = found if count is None else jax.tree.map(lambda x, i=i: x[i], found)
        before = run if count is None else jax.tree.map(lambda x, i=i: x[i], run)
        assert end.params.W.dtype == np.float64
        assert Status(int(end.status)) is Status.CONVERGED
        assert true_gradient_norm(problem, end.params) <= 1e-10 + 1e-15
        assert float(before.grad_norm) > 1e-9
        # It went on from there: a few more steps, counted on, and hardly anything moved.
        assert int(before.num_steps) < int(end.num_steps) <= int(before.num_steps) + 5
        assert int(end.num_products) > int(before.num_products)
        history, count_before = end.history, used(before)
        steps = np.asarray(history.step)[: used(end)]
        assert np.all(np.diff(steps) == 1)
        assert steps[-1] == int(end.num_steps)
        assert int(history.products[used(end) - 1]) == int(end.num_products)
        np.testing.assert_array_equal(
            history.value[: count_before - 1], before.history.value[: count_before - 1]
        )
        assert float(history.grad_norm[used(end) - 1]) == float(end.grad_norm)
        assert np.all(np.asarray(history.step)[used(end) :] == -1)
        np.testing.assert_allclose(end.params.W, before.params.W, atol=1e-2)


def test_polishing_without_double_precision_says_what_to_do():
    problem = make("CE")
    run = solve(problem, start(problem, dtype=jnp.float32))
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        polish(problem, run)
