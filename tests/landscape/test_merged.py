"""Merged classes: f on symmetric points, its derivatives, and zeros that stay zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from plain_model import plain_objective

from ufm import MSE, CrossEntropy, Focal, Params, Problem, objective
from ufm.landscape.merged import expand, merged_problem
from ufm.model.hessian_product import hessian_product, linearise
from ufm.model.objective import value_and_gradient

BLOCKS = ((0, 2), (1,), (3,))
COUNTS = (2, 3, 2, 1)


def problem_of(loss) -> Problem:
    return Problem(
        loss=loss, class_counts=(1,) * 4, dim=3, lam_w=2e-2, lam_h=1e-2, lam_b=3e-2,
        column_weights=jnp.asarray(COUNTS, float),
    )  # fmt: skip


def merged_point(seed: int = 0) -> Params:
    """Random in the rows, columns and entries of three blocks, zero in the padding."""
    rng = np.random.default_rng(seed)
    W, H, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    W[3:], H[:, 3:], b[3:] = 0.0, 0.0, 0.0
    return Params(jnp.asarray(W), jnp.asarray(H), jnp.asarray(b))


@pytest.mark.repeats
@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(2.0), MSE(5.0, 3.0)], ids=lambda x: x.name)
def test_value_gradient_and_products_are_those_of_f_on_symmetric_points(loss):
    problem = problem_of(loss)
    merged, point = merged_problem(problem, BLOCKS), merged_point()
    value, gradient = value_and_gradient(merged, point)
    assert float(value) == pytest.approx(plain_objective(problem, expand(merged, point)), rel=1e-13)

    def restricted(x: Params):
        return objective(problem, expand(merged, x))

    # In the padding E is zero, so that f does not see it; its penalty is zero where it is zero.
    expected = jax.jit(jax.grad(restricted))(point)
    assert np.max(np.abs(ravel_pytree(gradient)[0] - ravel_pytree(expected)[0])) < 1e-14
    direction = merged_point(1)
    product = hessian_product(merged, linearise(merged, point), direction)
    along = jax.jit(lambda x, v: jax.jvp(jax.grad(restricted), (x,), (v,))[1])
    expected = along(point, direction)
    assert np.max(np.abs(ravel_pytree(product)[0] - ravel_pytree(expected)[0])) < 1e-13
    for x in (gradient, product):
        assert not np.any(x.W[3:])
        assert not np.any(x.H[:, 3:])
        assert not np.any(x.b[3:])


def test_it_is_an_isometry():
    merged = merged_problem(problem_of(CrossEntropy()), BLOCKS)
    point = merged_point()
    full = expand(merged, point)
    for x, y in zip(jax.tree.leaves(point), jax.tree.leaves(full), strict=True):
        assert float(jnp.sum(x**2)) == pytest.approx(float(jnp.sum(y**2)), rel=1e-14)
    np.testing.assert_array_equal(full.W[0], full.W[2])


@pytest.mark.parametrize("blocks", [((0, 1), (2,), (3,)), ((0, 2), (1,)), ((0, 2), (1, 1), (3,))])
def test_what_is_no_partition_of_equal_classes_is_refused(blocks):
    with pytest.raises(ValueError, match=r"partition of the classes|different sizes"):
        merged_problem(problem_of(CrossEntropy()), blocks)
