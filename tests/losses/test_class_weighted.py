"""A loss with class weights against 50 digits, and its conjugate against the supremum."""

import jax
import jax.numpy as jnp
import loss_oracle as oracle
import numpy as np
import pytest
from mpmath import mp
from scipy.optimize import minimize

from ufm import CustomLoss, Problem, solve_many
from ufm._support.quick_jit import quick_jit
from ufm.losses import MSE, ClassWeighted, CrossEntropy, Focal, LabelSmoothing

A = np.array([0.3, 1.0, 4.0])
FAMILIES = {"CE": CrossEntropy, "LS": LabelSmoothing, "FL": Focal, "MSE": MSE}
CASES = [("CE", ()), ("LS", (0.1,)), ("FL", (3.0,)), ("MSE", (5.0, 3.0))]
Z = np.random.default_rng(0).normal(size=(6, 3)) * np.array([1, 1, 1, 30, 30, 1000])[:, None]
every_loss = pytest.mark.parametrize(("name", "hyper"), CASES)


def weighted(name, hyper):
    return ClassWeighted(FAMILIES[name](*hyper), A)


@quick_jit
def computed(loss, rows, labels, x):
    """Value, rounding, gradient, its rounding and a Hessian product at each row with its label."""

    def at(z, k):
        rounding = loss.rounding(z, k), loss.gradient_rounding(z, k, jnp.abs(z))
        return loss.value(z, k), *rounding, loss.gradient(z, k), loss.hessian_product(z, k, x)

    return jax.vmap(at)(rows, labels)


@every_loss
def test_values_and_derivatives_are_those_of_the_loss_times_the_weight(name, hyper):
    loss, x = weighted(name, hyper), np.array([0.2, -1.0, 0.7])
    labels = np.arange(len(Z), dtype=np.int32) % 3
    second, third = (float(bound) for bound in loss.smoothness())
    outputs = computed(loss, jnp.asarray(Z), jnp.asarray(labels), jnp.asarray(x))
    by_row = zip(Z, labels.tolist(), *map(np.asarray, outputs), strict=True)
    for row, k, value, rounding, noise, gradient, product in by_row:
        exact = oracle.evaluate(name, tuple(map(mp.mpf, hyper)), oracle.numbers(row), k)
        a, tolerance = float(A[k]), 1e-14 * (1 + np.abs(row).max()) * (1 + 5 * (name == "FL"))
        truth = [exact.gradient.astype(float), exact.hessian.astype(float)]
        expected = a * float(exact.value)
        error = abs(value - expected)
        assert error <= tolerance * expected + 1e-300
        # What the library takes for its own rounding is no less.
        assert error <= 19 * np.finfo(float).eps * rounding + 1e-300
        slope = np.linalg.norm(gradient - a * truth[0])
        size = a * np.linalg.norm(truth[0])
        assert slope <= tolerance * size + 1e-300
        assert slope <= 8 * np.finfo(float).eps * noise + 1e-300
        np.testing.assert_allclose(
            product, a * truth[1] @ x, atol=tolerance * a * np.linalg.norm(truth[1]) + 1e-300
        )
        assert np.linalg.norm(a * truth[1], 2) <= second
        assert third >= A.max() * (name != "MSE")


@pytest.mark.parametrize(("name", "hyper"), [case for case in CASES if case[0] != "FL"])
@pytest.mark.parametrize("label", range(3))
def test_the_conjugate_is_the_supremum(name, hyper, label):
    loss = weighted(name, hyper)
    dual = np.asarray(loss.gradient(jnp.asarray(Z[0]), label)) * 0.7
    best = minimize(
        lambda z: float(loss.value(jnp.asarray(z), label)) - dual @ z,
        np.zeros(3),
        jac=lambda z: np.asarray(loss.gradient(jnp.asarray(z), label)) - dual,
        options={"gtol": 1e-11},
    )
    found = float(loss.conjugate(jnp.asarray(dual), label))
    assert found == pytest.approx(-best.fun, abs=1e-9)
    # ∂L* is the maximiser, up to a shift of softmax logits, and its bound is no less anywhere near.
    error = np.full(3, 1e-3)
    bound = float(loss.conjugate_slope(jnp.asarray(dual), label, jnp.asarray(error)))
    step = 1e-3 * np.array([1.0, -1.0, 0.0])
    rise = float(loss.conjugate(jnp.asarray(dual + step), label)) - found
    assert abs(rise) <= bound * np.abs(step).sum()
    assert float(loss.conjugate_rounding(jnp.asarray(dual), label)) >= abs(found) * (A[label] < 1)


def test_bounds_hold_for_every_label():
    loss = weighted("CE", ())
    slope = loss.margin_slope()
    assert float(slope) == pytest.approx(A.min())
    for row in Z:
        for k in range(3):
            margin = float(slope) * (row.max() - row[k])
            assert float(loss.value(jnp.asarray(row), k)) >= margin - 1e-12
    assert weighted("MSE", (1.0, 1.0)).margin_slope() is None
    assert loss.infimum() == 0.0
    unknown = CustomLoss(_negative, convex=True, lower_bound=-1.0)
    assert ClassWeighted(unknown, A).infimum() is None


def _negative(z, label):
    return jnp.logaddexp(0.0, -z[label]) - 1.0


def test_what_it_is_follows_from_the_loss():
    assert weighted("CE", ()).shift_invariant
    assert not weighted("MSE", (1.0, 1.0)).shift_invariant
    assert weighted("LS", (0.1,)).has_conjugate
    focal = weighted("FL", (3.0,))
    assert not focal.has_conjugate
    assert not focal.is_convex()
    assert focal.convex_above() == Focal(3.0).convex_above()
    # Classes with different weights are not alike, whatever the loss.
    assert not weighted("CE", ()).equivariant
    assert not weighted("CE", ()).contrastive
    assert weighted("CE", ()).label() == "CE with class weights"
    custom = ClassWeighted(CustomLoss(_negative, convex=True, lower_bound=-1.0), A)
    assert custom.declared
    assert not quick_jit(custom.refutation)(jnp.asarray(Z[0]), 1).refuted


def test_a_batch_of_decays_takes_weights_as_one_loss():
    problem = Problem(weighted("CE", ()), (2, 2, 2), 4, np.array([1e-2, 2e-2]), 5e-3, None)
    found = solve_many(problem, jax.random.key(0), num_starts=2)
    assert found.value.shape == (2,)
