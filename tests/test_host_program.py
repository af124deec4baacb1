"""Programs run by NumPy give what JAX gives: every operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ufm._support.host.program import HostProgram, TooLongError
from ufm._support.host.whole_arrays import WHOLE

MOST = 10_000
X = np.array([[0.5, -1.25, 3.0, 0.0], [2.0, -0.5, 1e-3, -7.0], [1.0, 4.0, -2.5, 0.25]])
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, -1e-300, 2.5])
INTEGERS = np.array([[7, -7, 3], [-2, 0, 5]], np.int32)
YES = np.array([True, False, True, True])


def on_host(function, *arguments):
    traced = jax.jit(function).trace(*arguments)
    found = HostProgram(traced.jaxpr).run([np.asarray(x)[()] for x in arguments], MOST)
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), found)


def agree(function, *arguments, rtol=1e-14):
    """Values, shapes and dtypes of every output are those of the compiled function."""
    mine, theirs = on_host(function, *arguments), jax.jit(function)(*arguments)
    for x, y in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert np.shape(x) == y.shape
        assert np.asarray(x).dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=0 if y.dtype.kind != "f" else 1e-300)


SMOOTH = [
    lax.abs, lax.ceil, lax.cos, lax.exp, lax.exp2, lax.expm1, lax.floor, lax.is_finite, lax.log,
    lax.log1p, lax.logistic, lax.neg, lax.rsqrt, lax.sign, lax.sin, lax.sqrt, lax.square, lax.tan,
    lax.tanh, lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), lambda x: lax.integer_pow(x, 2),
    lambda x: lax.integer_pow(x, 3), lambda x: lax.integer_pow(x, -2),
    lambda x: lax.clamp(x.dtype.type(-1), x, x.dtype.type(2)), lax.stop_gradient,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_functions_of_one_array(dtype):
    rtol = 1e-14 if dtype == np.float64 else 5e-6
    for function in SMOOTH:
        agree(function, X.astype(dtype), rtol=rtol)


def test_infinity_and_nan_are_results_as_they_are_for_jax():
    with np.errstate(over="ignore"):
        for function in SMOOTH[:-1]:
            if function not in (lax.sin, lax.cos, lax.tan):  # of 1e308: no digit is asked for
                agree(function, SPECIAL, rtol=1e-13)
        for function in (lax.max, lax.min, lax.add, lax.sub, lax.mul, lax.div, lax.pow):
            agree(function, SPECIAL, SPECIAL[::-1].copy(), rtol=1e-13)
        agree(jnp.argmax, SPECIAL)
        agree(jnp.argmin, SPECIAL)
        agree(lambda x: jnp.max(x[None], axis=1), SPECIAL)


BINARY = [
    lax.add, lax.sub, lax.mul, lax.div, lax.max, lax.min, lax.rem, lax.eq, lax.ne, lax.lt, lax.le,
    lax.gt, lax.ge,
]  # fmt: skip


def test_functions_of_two_arrays():
    for function in (*BINARY, lax.nextafter, lax.pow):
        agree(function, X, np.abs(X[::-1]) + 0.5)
    for function in BINARY:
        for other in (3, -3, 0):
            agree(function, INTEGERS, np.full_like(INTEGERS, other))


def test_what_is_no_integer_becomes_the_nearest_one_or_nought():
    with np.errstate(over="ignore"):
        agree(lambda x: x.astype(jnp.int32), SPECIAL)
        agree(lambda x: x.astype(jnp.int32), np.float32([3e9, -3e9, 2.5, -2.5, np.nan]))
        agree(lambda x: x.astype(jnp.int64), SPECIAL)


def test_powers_sums_and_products_keep_their_types():
    small, n = X.astype(np.float32), np.arange(4, dtype=np.int32)
    agree(lambda x: lax.pow(jnp.abs(x[0]), n), small, rtol=1e-6)
    agree(lambda x: lax.integer_pow(x, 0), INTEGERS)
    agree(lambda x: lax.reduce_sum(x, axes=(0,)), INTEGERS)
    agree(lambda x: jnp.sum(x, dtype=jnp.int64), INTEGERS)
    agree(lambda x: lax.dot(x, x.T, preferred_element_type=jnp.float64), small, rtol=1e-6)
    agree(lambda x: jnp.linalg.svd(x)[1], np.full((3, 3), np.nan, np.float32))
    agree(lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), np.nextafter(0.5, [0.0, 1.0]))
    agree(lambda i: lax.select_n(i, X, -X, 2 * X), np.int32(7))


def test_nothing_at_all():
    none = X[:, :0]
    agree(lambda x: (jnp.max(x, initial=0.0), jnp.sum(x), x @ x.T, x.T @ x), none)


def test_bits_and_truth():
    for function in (lax.bitwise_and, lax.bitwise_or, lax.bitwise_xor):
        agree(function, INTEGERS, INTEGERS[::-1].copy())
        agree(function, YES, ~YES)
    agree(lax.bitwise_not, INTEGERS)
    agree(lax.bitwise_not, YES)
    agree(lambda x: lax.shift_right_arithmetic(x, jnp.int32(2)), INTEGERS)
    agree(lambda x: lax.bitcast_convert_type(x, jnp.int64), X)
    agree(lambda x: jnp.ldexp(x, jnp.int32(-3)), X)
    agree(lambda x: x.astype(jnp.int32), X)
    agree(lambda x: x.astype(jnp.float32), INTEGERS)


def test_broadcasts_are_left_to_the_next_operation_and_made_where_it_needs_them():
    agree(lambda x: jnp.ones((3, 1)) * x[0][None, :] + 2.0, X)
    agree(lambda x: jnp.sum(jnp.broadcast_to(x[:, :1], (3, 5)), axis=1), X)
    agree(lambda x: jnp.broadcast_to(x[0], (2, 4)), X)
    agree(lambda x: jnp.broadcast_to(2.0, (2, 4)).T @ jnp.broadcast_to(x[0, 0], (2, 3)), X)
    agree(lambda x: jnp.where(x[0] > 0, 1.0, x), X)
    agree(lambda x: jnp.full((4,), 3.0).reshape(2, 2), X)
    agree(lambda: jnp.arange(6).reshape(2, 3))


def test_shapes_and_slices():
    for function in (
        lambda x: x.T,
        lambda x: x.reshape(2, 6),
        lambda x: x[1:3, ::2],
        lambda x: jnp.concatenate([x, 2 * x], axis=1),
        lambda x: jnp.stack([x, -x], axis=1),
        lambda x: jnp.split(x, [1, 3], axis=1),
        lambda x: lax.dynamic_slice(x, (2, 1), (2, 2)),  # moved to where it fits
        lambda x: lax.dynamic_update_slice(x, jnp.ones((2, 2)), (9, -1)),
        lambda x: x[:, np.array([0, 3, 3])],
        lambda x: x[np.array([2, 0])],
        lambda x: x[0].at[np.array([1, 1, 9])].set(5.0),
        lambda x: x[0].at[np.array([1, 1, 9])].add(5.0),
        lambda x: x[0].at[np.array([9])].set(5.0, mode="clip"),
        lambda x: jnp.sort(x, axis=1),  # no entry in the table
        lambda x: jnp.take_along_axis(x, jnp.array([[0], [9], [2]]), axis=1),
    ):
        agree(function, X)


def test_entries_and_windows_where_indices_say():
    where, far = jnp.array([3, 0, 9]), jnp.array([[2, 0, 1], [1, 1, -7]])
    pairs = lax.GatherDimensionNumbers((1,), (1,), (1, 0))
    alone = lax.GatherDimensionNumbers((), (1,), (1,), (0,), (0,))
    for function in (
        jax.vmap(lambda z, k: z[k]),
        jax.vmap(lambda z, k: lax.dynamic_slice(z, (k,), (2,))),
        lambda x, k: jax.vmap(lambda i: x[:, i])(k),
        lambda x, k: jax.vmap(lambda i: lax.dynamic_slice(x, (i - 8, i), (2, 3)))(k),
        lambda x, k: jax.vmap(jax.vmap(lambda z, i: z[i]), in_axes=(None, 0))(x, far * k[1]),
        lambda x, k: jax.vmap(lambda z, i: z[i], in_axes=(1, None))(x, k[0] - 1),
        lambda x, k: jnp.take_along_axis(x[:, :3], far * k[1], axis=0, mode="clip"),
        lambda x, k: x[k[0], k[1]],
        lambda x, k: jax.vmap(lambda z, i: z[i])(x[:1], k[:1]),  # a batch of one
        lambda x, k: lax.gather(x[:1], far[:1, :1] * k[1], alone, (1, 1), mode="clip"),
        lambda x, k: lax.gather(x, far[:, :2] + k[1], pairs, (2, 1), mode="clip"),
    ):
        agree(function, X[:3], where)


def test_sums_and_products():
    for function in (jnp.sum, jnp.max, jnp.min):
        agree(function, X)
        agree(lambda x, function=function: function(x, axis=0), X)
    agree(
        lambda x: (jnp.all(x > -9), jnp.any(x > 3, axis=1), jnp.argmax(x, 1), jnp.argmin(x, 0)), X
    )
    for function in (
        lambda x: x @ x.T,
        lambda x: x.T @ x,
        lambda x: jnp.einsum("ij,ik->jk", x, x),
        lambda x: jnp.einsum("ij,kj->ik", x, x),
        lambda x: jnp.einsum("ji,kj->ik", x[:3, :3], x[:3, :3]),
        lambda x: jnp.einsum("i,ij->j", x[:, 0], x),
        lambda x: jnp.einsum("bij,bjk->bik", jnp.stack([x, -x]), jnp.stack([x.T, x.T])),
        lambda x: jnp.einsum("ij,ij->", x, x),
        lambda x: jnp.einsum("bi,bj->bij", x, x),
        lambda x: jnp.tensordot(jnp.stack([x, -x]), x, axes=([1, 2], [0, 1])),
    ):
        agree(function, X)


def test_factorisations():
    def spectrum(x):
        values, vectors = jnp.linalg.eigh(x @ x.T)
        return values, jnp.abs(vectors)

    def parts(x):
        left, sizes, right = jnp.linalg.svd(x, full_matrices=False)
        return sizes, (left * sizes[None, :]) @ right

    agree(spectrum, X, rtol=1e-11)
    agree(parts, X + 0.1, rtol=1e-11)
    agree(lambda x: jnp.linalg.svd(x, compute_uv=False), X, rtol=1e-12)
    agree(lambda x: jnp.linalg.eigh(x), np.full((3, 3), np.nan))
    agree(lambda x: jnp.linalg.svd(x), np.full((3, 3), np.nan))


def test_loops_and_branches():
    def newton(x):
        def goes_on(carry):
            return jnp.abs(carry[0] ** 2 - x) > 1e-12

        def better(carry):
            return 0.5 * (carry[0] + x / carry[0]), carry[1] + 1

        return lax.while_loop(goes_on, better, (x, 0))

    agree(newton, np.float64(2.0))
    agree(lambda x: lax.scan(lambda c, row: (c + row, c * row), jnp.zeros(4), x), X)
    agree(lambda x: lax.scan(lambda c, row: (c + row, c), jnp.zeros(4), x, reverse=True), X)
    agree(lambda x: lax.map(jnp.sum, x), X)
    agree(lambda x: lax.fori_loop(0, 3, lambda i, y: y * (i + 1.0), x), X)
    for sign in (1.0, -1.0):
        agree(lambda x: lax.cond(x > 0, lambda y: y + 1, lambda y: y - 1, x), np.float64(sign))
    for which in (-5, 0, 1, 2, 7):
        branches = [lambda y, i=i: y * i for i in range(3)]
        agree(lambda i, branches=branches: lax.switch(i, branches, 2.0), np.int32(which))
    # Each entry of a mapped loop ends when its own turn comes.
    agree(jax.vmap(lambda v: lax.while_loop(lambda t: t < 10, lambda t: t * 2, v)), X[0] ** 2 + 1)
    agree(jax.jit(lambda x: jax.jit(jnp.sin)(x) + jax.nn.softplus(x) + jax.nn.logsumexp(x)), X)
    agree(jax.grad(lambda x: jnp.sum(jax.nn.softmax(x, axis=0)[0] ** 2)), X, rtol=1e-12)
    agree(jax.vmap(lambda x: jnp.linalg.norm(x) * jnp.where(x > 0, x, 0.0)), X)


def test_what_nobody_reads_is_dropped():
    program = HostProgram(jax.make_jaxpr(lambda x: (jnp.exp(x) + jnp.sort(x), x + 1)[1])(X))
    assert len(program._steps) == 1


def test_equal_operations_are_computed_once_and_constants_before_the_first_run():
    ones = jnp.ones(4)

    def twice(x):
        return jnp.exp(x * jnp.sum(ones)) + jnp.exp(x * jnp.sum(ones)), x * 4.0

    def with_a_known_sum(carry):
        return carry[0] + jnp.sum(jnp.exp(ones)) * jnp.sum(ones), carry[1] + 1

    assert len(HostProgram(jax.make_jaxpr(twice)(X))._steps) == 3  # product, exponential, sum
    agree(twice, X)
    inner = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ufm._support.host.program._function", lambda *x: inner.append(x[0]))
        loop = jax.make_jaxpr(
            lambda x: lax.while_loop(lambda c: c[1] < 3, with_a_known_sum, (x, 0))
        )
        HostProgram(loop(1.0))
    assert [len(steps) for steps in inner] == [1, 2, 1]  # condition, two sums, the loop
    agree(lambda x: lax.while_loop(lambda c: c[1] < 3, with_a_known_sum, (x, 0)), np.float64(2.0))


def test_negative_nought_and_nought_are_two_constants():
    agree(lambda x: (x / jnp.float64(0.0), x / jnp.float64(-0.0)), X)
    agree(lambda x: (jnp.copysign(x, 0.0), jnp.copysign(x, -0.0)), X)


def test_arrays_of_few_columns_are_stored_by_columns():
    """Sums over short rows take ten times as long otherwise."""
    labels, rows = np.arange(40) % 3, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WHOLE, "reduce_max", lambda _: lambda x: (rows.append(x), np.max(x, 1))[1])
        on_host(
            lambda x: jnp.max(jnp.where(labels[:, None] == jnp.arange(3)[None], x.T, 0.0), axis=1),
            np.ones((3, 40)),
        )
    assert rows[0].shape == (40, 3)
    assert rows[0].flags.f_contiguous
    agree(
        lambda i: (jnp.arange(3)[None, :] == i[:, None], i[:, None] - jnp.arange(3)[None]), labels
    )


def test_loops_that_turn_too_often_are_given_up():
    program = HostProgram(
        jax.make_jaxpr(lambda n: lax.while_loop(lambda i: i < n, lambda i: i + 1, 0))(9)
    )
    assert program.run([np.int64(9)], 9) == [9]
    with pytest.raises(TooLongError):
        program.run([np.int64(10)], 9)


def test_arrays_without_entries_are_left_to_numpy(monkeypatch):
    """A loop that carries one would otherwise be compiled as a whole."""

    def refuse(equation):
        raise AssertionError(f"{equation.primitive.name} is left to JAX")

    def turns(x, y):
        def turn(i, carry):
            sums = jnp.sum(carry[0] * carry[0]) + jnp.sum(carry[1])
            product = (carry[0].T @ carry[0]).reshape(9) + jnp.all(carry[0] > 0).astype(X.dtype)
            return lax.cond(i > 1, lambda: carry[0], lambda: carry[0] + sums), carry[1] * product[0]

        return lax.fori_loop(0, 3, turn, (x, y))

    empty = np.zeros((0, 3))
    agree(turns, empty, X)
    monkeypatch.setattr("ufm._support.host.program._by_jax", refuse)
    on_host(turns, empty, X)
