"""Who runs a program, NumPy or XLA, and that whole solves and certificates agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ufm import (
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Problem,
    Verdict,
    certify,
    init_params,
    solve,
)
from ufm._support.host.program import HostProgram
from ufm._support.quick_jit import QuickJit, counted_anew, quick_jit
from ufm.losses import MSE, CustomLoss
from ufm.model.objective import value_and_gradient


def test_a_program_is_compiled_once_it_has_worked_enough():
    # A call on one number counts as 5,001.
    double = quick_jit(lambda x: 2 * x, host_work=15_100)
    for expected in (0, 0, 0, 1, 1):
        assert float(double(3.0)) == 6.0
        assert double.programs() == expected
    assert float(double(jnp.float32(3.0))) == 6.0  # another program: from the start
    assert double.programs() == 1
    large = quick_jit(lambda x: jnp.sum(x), host_work=15_000)
    assert float(large(np.ones(10_001))) == 10_001
    assert large.programs() == 1


def test_what_is_left_to_xla_is_not_traced_again():
    power = quick_jit(lambda x, *, n: x**n, static_argnames=("n",), host_work=10_100)
    for _ in range(3):
        assert float(power(3.0, n=2)) == 9.0
    traced = []

    class Plain:
        __call__ = staticmethod(power._plain)

        def trace(self, *args, **kwargs):
            traced.append(kwargs)
            return self.__call__.trace(*args, **kwargs)

    power._plain = Plain()
    assert float(power(2.0, n=2)) == 4.0
    assert traced == []
    # Other programs: a static argument, a type, a shape, or a count of its own.
    assert float(power(2.0, n=3)) == 8.0
    assert float(power(np.float32(2.0), n=2)) == 4.0
    assert float(jnp.sum(power(np.full(2, 2.0), n=2))) == 8.0
    with counted_anew():
        assert float(power(2.0, n=2)) == 4.0
    assert traced == [{"n": 2 + (i == 0)} for i in range(4)]


def test_runs_can_be_counted_anew():
    double = quick_jit(lambda x: 2 * x, host_work=10_100)
    for _ in range(3):
        with counted_anew():
            assert float(double(1.0)) + float(double(2.0)) == 6.0
    assert double.programs() == 0


def test_a_program_is_looked_through_at_its_first_call_only(monkeypatch):
    seen = []
    monkeypatch.setattr("ufm._support.quick_jit.is_supported", lambda x: not seen.append(x))
    double = quick_jit(lambda x: 2 * x)
    for _ in range(3):
        double(3.0)
    assert len(seen) == 1


def test_whoever_runs_it_a_batch_has_one_program():
    double = quick_jit(lambda x: 2 * x, host_work=15_100)
    assert double.chosen(3, 1.0)[1] is False
    assert double.chosen(1, 1.0)[1] is True
    assert double.chosen(4, np.ones(3))[1] is True


def test_long_runs_inside_transformations_and_side_effects_are_left_to_xla():
    count = quick_jit(lambda n: lax.while_loop(lambda i: i < n, lambda i: i + 1, 0))
    assert int(count(10_000)) == 10_000
    assert count.programs() == 1
    seen = []
    told = quick_jit(lambda x: (jax.debug.callback(seen.append, x), x)[1])
    jax.block_until_ready(told(1.0))
    jax.effects_barrier()
    assert len(seen) == 1
    inner: QuickJit = quick_jit(lambda x: x + 1)
    assert jax.vmap(inner)(jnp.arange(3)).tolist() == [1, 2, 3]
    assert float(jax.grad(quick_jit(lambda x: x**2))(3.0)) == 6.0


def test_what_is_known_may_still_be_part_of_a_program():
    problem, key = Problem(CrossEntropy(), (2, 2, 2), 4, 1e-2, 1e-2, None), jax.random.key(0)

    def run():
        found = solve(problem, init_params(problem, key))
        return certify(problem, found.params).gap

    keys = jax.random.split(key, 3)
    mapped = jax.vmap(lambda each: init_params(problem, each))(keys)
    np.testing.assert_allclose(mapped.W[1], init_params(problem, keys[1]).W, rtol=1e-13)
    shape = jax.eval_shape(run)
    assert (shape.shape, shape.dtype) == ((), np.float64)


def noisy(z, label):
    key = jax.random.fold_in(jax.random.key(0), label)
    return jax.nn.logsumexp(z) - z[label] + 0.01 * jnp.dot(jax.random.normal(key, z.shape), z)


def searching(z, label):
    """The square root of a number that the sample decides, by Newton's method."""
    goal = 1.0 + z[label] ** 2
    found = lax.while_loop(
        lambda t: jnp.abs(t**2 - goal) > 1e-13 * goal,
        lambda t: 0.5 * (t + goal / t),
        lax.stop_gradient(goal),
    )
    return lax.stop_gradient(found) + jax.nn.logsumexp(z) - z[label]


@pytest.mark.parametrize("fn", [noisy, searching])
def test_losses_that_draw_and_losses_that_iterate(fn):
    problem = Problem(CustomLoss(fn), (2, 2, 2), 3, 1e-2, 1e-2, None)
    start = init_params(problem, jax.random.key(0))
    mine, theirs = value_and_gradient(problem, start), jax.jit(value_and_gradient)(problem, start)
    for x, y in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-16)


def test_long_loops_are_tried_once():
    calls = []

    @quick_jit
    def count(n):
        calls.append(n)
        return lax.while_loop(lambda i: i < n, lambda i: i + 1, 0)

    program, compiled = count.chosen(3, 10_000)
    assert not compiled
    with pytest.MonkeyPatch.context() as patch:
        assert int(program(10_000)) == 10_000
        patch.setattr(HostProgram, "run", None)  # would raise if called
        assert int(program(10_000)) == 10_000
        assert int(count(3)) == 3


def test_those_who_look_for_nan_have_it_raised():
    root = quick_jit(lambda x: jnp.sqrt(x))
    assert np.isnan(root(-1.0))
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        root(-1.0)


def test_an_output_is_nobodys_memory():
    # Memory that begins at a multiple of 64 bytes is what JAX would share.
    room = np.ones(1_008)
    begin = -(room.ctypes.data // 8) % 8
    given = room[begin : begin + 1_000]
    same = quick_jit(lambda x: x)(given)
    given[:] = 7.0
    assert np.all(same == 1.0)


def test_static_arguments_make_programs_of_their_own():
    power = quick_jit(lambda x, *, n: x**n, static_argnames=("n",))
    assert (float(power(2.0, n=2)), float(power(2.0, n=3))) == (4.0, 8.0)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "lam_b"),
    [
        (CrossEntropy(), 0.01),
        (LabelSmoothing(0.1), 0.0),
        (Focal(2.0), None),
        (MSE(2.0, 3.0), 0.0),
        (CustomLoss(lambda z, k: jnp.sum((z - jax.nn.one_hot(k, 3)) ** 2), convex=True), 0.01),
    ],
    ids=["CE", "LS", "FL", "MSE", "custom"],
)
def test_solve_and_certify_agree_with_the_compiled_programs(loss, lam_b):
    problem = Problem(loss, (4, 2, 3), 4, 2e-3, 5e-3, lam_b)
    start = init_params(problem, jax.random.key(0))
    mine, theirs = solve(problem, start), jax.jit(solve)(problem, start)
    assert float(mine.value) == pytest.approx(float(theirs.value), rel=1e-13)
    mine, theirs = certify(problem, theirs.params), jax.jit(certify)(problem, theirs.params)
    # Curvatures are counted for points at hand alone.
    assert int(theirs.verdict) in (int(mine.verdict), int(Verdict.UNDECIDED))
    assert float(mine.lower_bound) == pytest.approx(float(theirs.lower_bound), rel=1e-12)
    for name in ("gap", "rounding", "tol", "depth", "dual_norm"):
        pair = [float(getattr(x, name)) for x in (mine, theirs)]
        assert pair[0] == pytest.approx(pair[1], rel=1e-6, abs=1e-14), name
