"""Many starts, batches of problems, transformations: the same solver, compiled once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import objective_and_gradient

from ufm import (
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
    solve,
    solve_many,
)
from ufm.solvers import METHODS
from ufm.solvers._solve import _first_order

COUNTS, DIM, LAM = (5, 5, 5, 5), 6, 5e-3
#: The method that compiles fastest; its batches are those of all others.
solve_by_descent = functools.partial(solve, method="gradient_descent")
many_by_descent = functools.partial(solve_many, method="gradient_descent")


def make(loss=CrossEntropy(), lam_w=LAM, lam_h=LAM, lam_b=1e-2) -> Problem:  # noqa: B008
    return Problem(loss, COUNTS, DIM, lam_w, lam_h, lam_b)


def start(problem: Problem, seed=0, scale=0.1) -> Params:
    return init_params(problem, jax.random.key(seed), scale)


def entry(batch, i: int):
    return jax.tree.map(lambda x: x[i], batch)


def assert_same_bits(one: Solution, other: Solution):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# Many starts -------------------------------------------------------------------------------------


def test_every_entry_has_the_bits_of_the_single_run():
    problem, key = make(), jax.random.key(7)
    done: list[int] = []
    batch = many_by_descent(problem, key, num_starts=5, scale=0.3, on_done=done.append)
    assert done == [0, 1, 2, 3, 4]
    assert batch.status.shape == (5,)
    assert len({int(n) for n in batch.num_steps}) > 1  # the starts differ
    for i in range(5):
        alone = init_params(problem, jax.random.fold_in(key, i), 0.3)
        assert_same_bits(entry(batch, i), solve_by_descent(problem, alone))
    # How many there are makes no difference, nor does giving them.
    assert_same_bits(
        entry(batch, 1), entry(many_by_descent(problem, key, num_starts=2, scale=0.3), 1)
    )
    starts = init_params(problem, key, 0.3, num_starts=5)
    assert_same_bits(batch, many_by_descent(problem, starts=starts))


def test_a_batch_of_problems_is_solved_once_per_entry():
    lams, biases = jnp.array([1e-3, 5e-3, 2e-2]), jnp.array([0.0, 1e-2, 1.0])
    batch = many_by_descent(make(lam_w=lams, lam_b=biases), jax.random.key(0))
    starts = init_params(make(), jax.random.key(0), num_starts=3)
    for i in range(3):
        problem = make(lam_w=lams[i], lam_b=biases[i])
        assert Status(int(batch.status[i])) is Status.CONVERGED
        assert float(batch.value[i]) == pytest.approx(global_minimum(problem).value, abs=1e-13)
        assert_same_bits(entry(batch, i), solve_by_descent(problem, entry(starts, i)))


def test_dtype_and_step_limits_reach_every_run():
    batch = many_by_descent(make(), jax.random.key(0), num_starts=2, max_steps=4, tol=1e-9)
    assert [Status(int(code)) for code in batch.status] == [Status.MAX_STEPS] * 2
    np.testing.assert_array_equal(batch.num_steps, 4)
    np.testing.assert_array_equal(batch.tol, 1e-9)
    starts = init_params(make(), jax.random.key(0), num_starts=1, dtype=jnp.float32)
    single = many_by_descent(make(), jax.random.key(0), num_starts=1, dtype=jnp.float32)
    assert {x.dtype for x in jax.tree.leaves(single)} == {np.dtype("float32"), np.dtype("int32")}
    assert_same_bits(single, many_by_descent(make(), starts=starts))


def test_a_batch_that_does_not_fit_is_refused_in_one_line():
    problem, key = make(), jax.random.key(0)
    batch = make(lam_w=jnp.array([1e-3, 5e-3]))
    starts = init_params(problem, key, num_starts=3)
    uneven = make(LabelSmoothing(jnp.array([0.1, 0.2, 0.3])), lam_w=jnp.array([1e-3, 5e-3]))
    # Unflattening, unlike the constructor, takes what comes.
    short_bias = jax.tree.map(lambda x: x[:2] if x.ndim == 2 else x, starts)
    refused = [
        ("needs a key", lambda: solve_many(problem)),
        (
            "the problem has 2 entries but there are 3 starts",
            lambda: solve_many(batch, starts=starts),
        ),
        ("2 entries but there are 3", lambda: solve_many(batch, key, num_starts=3)),
        ("different lengths", lambda: solve_many(uneven, key)),
        ("one leading axis", lambda: solve_many(problem, starts=start(problem))),
        (
            "one leading axis",
            lambda: solve_many(problem, starts=jax.tree.map(lambda x: x[:0], starts)),
        ),
        ("one leading axis", lambda: solve_many(problem, starts=short_bias)),
        (
            r"params\.H must have shape \(6, 20\)",
            lambda: solve_many(problem, starts=dataclasses.replace(starts, H=starts.H[..., 1:])),
        ),
        ("not both", lambda: solve_many(problem, starts=starts, num_starts=3)),
        ("num_starts must be a positive", lambda: solve_many(problem, key, num_starts=0)),
        ("unknown method", lambda: solve_many(problem, key, num_starts=1, method="bfgs")),
    ]
    for message, call in refused:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


# Inputs and transformations ----------------------------------------------------------------------


def test_bad_arguments_are_refused_in_one_line():
    problem, begin = make(), start(make())
    with pytest.raises(ValueError, match="unknown method 'bfgs'") as caught:
        solve(problem, begin, method="bfgs")
    assert all(name in str(caught.value) for name in METHODS)
    two = jax.tree.map(lambda x: jnp.stack([x, x]), begin)
    for message, params in (
        (r"W must have shape \(4, 6\).*got \(4, 5\)", Params(begin.W[:, :5], begin.H[:5], begin.b)),
        (r"H must have shape \(6, 20\).*got \(6, 19\)", Params(begin.W, begin.H[:, 1:], begin.b)),
        (r"b must have shape \(4,\).*got None", Params(begin.W, begin.H, None)),
        (r"W must have shape \(4, 6\).*got \(2, 4, 6\)", two),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            solve(problem, params)
        assert "\n" not in str(caught.value)
    for tol in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="tol must be a non-negative"):
            solve(problem, begin, tol=tol)
    for max_steps in (-1, 3_000_000_000):
        with pytest.raises(ValueError, match="max_steps must be a whole number"):
            solve(problem, begin, max_steps=max_steps)
    batch = dataclasses.replace(problem, lam_w=jnp.array([1e-3, 5e-3]))
    with pytest.raises(ValueError, match="the problem is a batch: use solve_many"):
        solve(batch, begin)


def test_solve_can_be_mapped():
    starts = init_params(make(), jax.random.key(0), num_starts=3)
    mapped = jax.eval_shape(jax.vmap(functools.partial(solve_by_descent, make())), starts)
    assert (mapped.status.shape, mapped.status.dtype) == ((3,), np.int32)
    assert mapped.history.value.shape == (3, 256)


def test_a_compiled_batch_runs_in_lock_step_as_on_an_accelerator():
    lams = jnp.array([1e-3, 5e-3, 2e-2])
    starts = init_params(make(), jax.random.key(0), num_starts=3)
    compiled = jax.jit(lambda problem, starts: many_by_descent(problem, starts=starts))
    batch = compiled(make(lam_h=lams), starts)
    np.testing.assert_array_equal(batch.status, int(Status.CONVERGED))
    for i in range(3):
        problem = make(lam_h=lams[i])
        assert float(batch.value[i]) == pytest.approx(global_minimum(problem).value, abs=1e-13)
        gradient = objective_and_gradient(problem, entry(batch.params, i))[1]
        assert np.linalg.norm(gradient) <= 1e-10 + 1e-15


TRACES: list[int] = []


def traced(z, label, sharpness):
    TRACES.append(1)
    return jax.nn.logsumexp(sharpness * z) - sharpness * z[label]


def test_hyperparameters_are_traced():
    TRACES.clear()
    problem = dataclasses.replace(make(), loss=CustomLoss(traced, {"sharpness": 1.0}))
    solve_by_descent(problem, start(problem))
    once = len(TRACES)
    assert once > 0
    solve_by_descent(problem, start(problem, 5, 1.0), tol=1e-3, max_steps=7)
    for sharpness, lam, lam_b in ((2, 1e-3, 0), (0.5, 1, 0.25)):
        loss = CustomLoss(traced, {"sharpness": sharpness})
        other = Problem(loss, COUNTS, DIM, lam, 2 * lam, lam_b)
        solve_by_descent(other, start(other))
    assert len(TRACES) == once


def test_one_program_serves_every_value_of_alpha_and_gamma():
    for first, others in (
        (LabelSmoothing(0.1), (LabelSmoothing(0.3), LabelSmoothing(0))),
        (Focal(3.0), (Focal(1.5), Focal(2))),
    ):
        solve_by_descent(make(first), start(make()))
        programs = _first_order.programs()
        for loss in others:
            solve_by_descent(
                make(loss, lam_w=1, lam_b=0), start(make(), 3, 1), tol=1e-6, max_steps=9
            )
        many_by_descent(make(others[0]), jax.random.key(1), num_starts=3)
        assert _first_order.programs() == programs
