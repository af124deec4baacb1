"""Losses against 50 digits: values, gradients, Hessians and rounding bounds at extreme logits."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import loss_oracle as oracle
import numpy as np
import pytest
from mpmath import mp

from ufm._support.quick_jit import quick_jit
from ufm.losses import MSE, CrossEntropy, Focal, LabelSmoothing, split_losses

FAMILIES = {"CE": CrossEntropy, "LS": LabelSmoothing, "FL": Focal, "MSE": MSE}
LOSSES = [
    ("CE", ()),
    ("LS", (0.1,)),
    ("LS", (0.0,)),
    *(("FL", (gamma,)) for gamma in (0.0, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)),
    ("MSE", (1.0, 1.0)),
    ("MSE", (5.0, 3.0)),
]
SIZES = [(2, "float64"), (3, "float64"), (10, "float64"), (3, "float32")]
every_loss = pytest.mark.parametrize(("name", "hyper"), LOSSES, ids=lambda v: str(v))
every_size = pytest.mark.parametrize(("classes", "dtype"), SIZES)


def logit_rows(classes: int) -> np.ndarray:
    """Logits for label 0: random, tied, at 1e4, and with p_k within 1e-300 of 0 and 1."""
    rng = np.random.default_rng(classes)
    zeros, ones, label = np.zeros(classes), np.ones(classes), np.eye(classes)[0]
    second = np.eye(classes)[1]
    rows = [
        *rng.normal(size=(3, classes)),
        *(100 * rng.normal(size=(3, classes))),
        *(1e4 * rng.uniform(-1, 1, size=(3, classes))),
        9000 + rng.normal(size=classes),  # a large common level
        zeros,
        1e4 * ones,
        3 * (label + second),  # the label tied with another class
        ones - 3 * label,  # all others tied
        *(t * label for t in (-1e4, -745.0, -690.8, -36.0, 690.8, 745.0, 1e4)),
        *(
            t * label for t in (4.0, 9.0, 17.0, 29.9, 30.1, 33.0)
        ),  # an expansion in 1 − p_k may take over
        *(-1e4 * (ones - 2 * label), 1e4 * (ones - 2 * label)),
        10 * second - 690 * (ones - label - second),  # saturated on a wrong label
        10 * label - 690 * (ones - label - second),
        rng.normal(size=classes) - 1e4 * second,
        np.log(classes) * label,
    ]
    return np.array(rows)


class Computed(NamedTuple):
    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    product: np.ndarray
    rounding: np.ndarray
    grad: np.ndarray  # autodiff from here on
    jvp: np.ndarray
    hyper: np.ndarray
    second_order: np.ndarray


def derivatives(loss, Z, labels, X):
    """As XLA computes them for three classes, and as NumPy does for other numbers."""
    return (_by_xla if Z.shape[1] == 3 else _by_numpy)(loss, Z, labels, X)


def _derivatives(loss, Z, labels, X):
    def at(z, label, x):
        def value(logits):
            return loss.value(logits, label)

        hyper = jax.tree.leaves(jax.grad(lambda changed: changed.value(z, label))(loss))
        (_, grad), (jvp, second_order) = jax.jvp(jax.value_and_grad(value), (z,), (x,))
        return Computed(
            value=value(z),
            gradient=loss.gradient(z, label),
            hessian=loss.hessian(z, label),
            product=loss.hessian_product(z, label, x),
            rounding=loss.rounding(z, label),
            grad=grad,
            jvp=jvp,
            hyper=jnp.stack([h.astype(z.dtype) for h in hyper]) if hyper else z[:0],
            second_order=second_order,
        )

    return jax.vmap(at)(Z, labels, X)


_by_xla, _by_numpy = jax.jit(_derivatives), quick_jit(_derivatives)


@quick_jit
def values(loss, Z, label):
    return jax.vmap(lambda z: loss.value(z, label))(Z)


class Case(NamedTuple):
    computed: Computed
    exact: list[oracle.Exact]
    Z: np.ndarray
    X: np.ndarray
    labels: np.ndarray
    hyper: tuple
    tolerance: np.ndarray
    tiny: float


@functools.cache
def case(name: str, hyper: tuple, classes: int, dtype: str) -> Case:
    info = np.finfo(dtype)
    rows = logit_rows(classes)
    labels = (np.arange(len(rows)) % classes).astype(np.int32)
    Z = np.array([np.roll(z, k) for z, k in zip(rows, labels, strict=True)]).astype(dtype)
    X = np.random.default_rng(7).normal(size=Z.shape).astype(dtype)
    computed = jax.tree.map(np.asarray, derivatives(FAMILIES[name](*hyper), Z, labels, X))
    precise = tuple(oracle.numbers(np.array(hyper, dtype)))
    exact = [
        oracle.evaluate(name, precise, oracle.numbers(z), int(k))
        for z, k in zip(Z, labels, strict=True)
    ]
    # Logits are known to eps |z|, so odds to a relative eps |z|, and (1 − p_k)^γ to γ times that.
    power = 1 + (hyper[0] if name == "FL" else 0)
    tolerance = 4 * float(info.eps) * (16 + power * (1 + np.max(np.abs(Z), axis=1)))
    # XLA flushes subnormal numbers to zero.
    return Case(computed, exact, Z, X, labels, precise, tolerance, 100 * float(info.tiny))


def assert_close(this: Case, computed, exact, sizes=None) -> None:
    """‖computed − exact‖ ≤ tolerance · size, the size being ‖exact‖ unless given."""
    assert np.all(np.isfinite(computed))
    for i, (found, truth) in enumerate(zip(computed, exact, strict=True)):
        truth = np.ravel(np.array(truth, dtype=object))
        size = oracle.norm(truth) if sizes is None else sizes[i]
        error = oracle.norm(oracle.numbers(found) - truth)
        assert error <= this.tolerance[i] * size + this.tiny, (i, this.Z[i], found)


@pytest.mark.repeats
@every_size
@every_loss
def test_values(name, hyper, classes, dtype):
    this = case(name, hyper, classes, dtype)
    assert_close(this, this.computed.value, [e.value for e in this.exact])


@every_size
@every_loss
def test_gradients_by_formula_and_by_autodiff(name, hyper, classes, dtype):
    this = case(name, hyper, classes, dtype)
    truth = [e.gradient for e in this.exact]
    assert_close(this, this.computed.gradient, truth)
    assert_close(this, this.computed.grad, truth)


@every_size
@every_loss
def test_hessians(name, hyper, classes, dtype):
    this = case(name, hyper, classes, dtype)
    assert_close(this, this.computed.hessian, [e.hessian for e in this.exact])


@every_size
@every_loss
def test_hessian_products_and_directional_derivatives(name, hyper, classes, dtype):
    this = case(name, hyper, classes, dtype)
    directions = [oracle.numbers(x) for x in this.X]
    pairs = list(zip(this.exact, directions, strict=True))
    products = [e.hessian.dot(x) for e, x in pairs]
    sizes = [oracle.norm(e.hessian) * oracle.norm(x) for e, x in pairs]
    assert_close(this, this.computed.product, products, sizes)
    slopes = [oracle.norm(e.gradient) * oracle.norm(x) for e, x in pairs]
    assert_close(this, this.computed.jvp, [e.gradient.dot(x) for e, x in pairs], slopes)


@every_size
@every_loss
def test_second_order_autodiff_is_finite_and_right_to_absolute_precision(
    name, hyper, classes, dtype
):
    # Absolute, on the scale of the largest curvature (κ for MSE): unlike `hessian_product`,
    # autodiff of a softmax cancels p − p² where a wrong class is saturated.
    this = case(name, hyper, classes, dtype)
    largest = max(1.0, float(hyper[0]) if hyper else 1.0)
    sizes = [largest * oracle.norm(oracle.numbers(x)) for x in this.X]
    products = [e.hessian.dot(oracle.numbers(x)) for e, x in zip(this.exact, this.X, strict=True)]
    assert_close(this, this.computed.second_order, products, sizes)


@every_size
@every_loss
def test_derivatives_in_the_hyperparameters(name, hyper, classes, dtype):
    this = case(name, hyper, classes, dtype)
    assert this.computed.hyper.shape == (len(this.Z), len(hyper))
    exact, sizes = [], []
    for row, label in zip(this.Z, this.labels, strict=True):
        z, k = oracle.numbers(row), int(label)
        p, away, _, loss = oracle.softmax(z, k)
        if name == "LS":
            exact.append([z[k] - mp.fsum(z) / classes])
        elif name == "FL":
            log_u = mp.log1p(-p[k]) if p[k] < 0.5 else mp.log(-away[k])
            exact.append([log_u * (-away[k]) ** this.hyper[0] * loss])
        elif name == "MSE":
            scale, target = this.hyper
            exact.append([(z[k] - target) ** 2 / 2, -scale * (z[k] - target)])
        else:
            exact.append([])
        # α: a mean of differences of logits, which may cancel among themselves.
        sizes.append(max(oracle.norm(z), 1) if name == "LS" else oracle.norm(np.array(exact[-1])))
    assert_close(this, this.computed.hyper, exact, sizes)


@every_size
@every_loss
def test_rounding_bounds_the_error_of_the_value(name, hyper, classes, dtype):
    this = case(name, hyper, classes, dtype)
    unit = (classes + 16) * float(np.finfo(dtype).eps)
    bounds = unit * this.computed.rounding.astype(float) + this.tiny
    for value, exact, bound in zip(this.computed.value, this.exact, bounds, strict=True):
        assert abs(mp.mpf(float(value)) - exact.value) <= bound


def rounding_at(name: str, hyper: tuple, row: np.ndarray) -> float:
    this = case(name, hyper, 3, "float64")
    (index,) = np.flatnonzero(np.all(logit_rows(3) == row, axis=1))
    return float(this.computed.rounding[index])


@pytest.mark.parametrize(("name", "hyper"), [("CE", ()), ("LS", (0.1,)), ("FL", (2.0,))])
def test_rounding_of_a_cancelling_value_is_that_of_the_logits(name, hyper):
    # ℓ = log 3 from logits of 1e4: known to 1e4 eps at best, and the bound has to say so.
    assert 1e3 < rounding_at(name, hyper, np.full(3, 1e4)) < 1e5


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_rounding_of_label_smoothing_covers_the_terms_of_its_sum(alpha):
    # Saturated on the label, L = ℓ + α mean(z_k − z_j): only the second term is left, of size α|z|.
    bound = rounding_at("LS", (alpha,), np.array([1e4, 0.0, 0.0]))
    assert alpha * 1e4 <= bound <= 4 * alpha * 1e4 + 1e-9


@every_loss
def test_the_second_order_model_errs_by_the_third_power_of_the_step(name, hyper):
    this = case(name, hyper, 3, "float64")
    loss, k = FAMILIES[name](*hyper), this.labels[1]
    step, (z, x) = np.array([[2.0**-i] for i in range(3, 8)]), (this.Z[1], this.X[1])
    slope, curvature = this.computed.gradient[1] @ x, x @ this.computed.product[1]
    h = step[:, 0]
    error = np.abs(
        values(loss, z + step * x, k) - this.computed.value[1] - h * slope - h**2 / 2 * curvature
    )
    if name == "MSE":
        assert np.all(error < 1e-13)
    else:
        rates = np.log2(error[:-1] / error[1:])
        np.testing.assert_allclose(rates[-2:], 3.0, atol=0.15)


@pytest.mark.parametrize(("name", "hyper"), [("CE", ()), ("LS", (0.1,)), ("FL", (2.5,))])
def test_the_oracle_agrees_with_numerical_differentiation(name, hyper):
    z, precise = oracle.numbers([0.3, -1.2, 0.9]), tuple(mp.mpf(h) for h in hyper)
    exact = oracle.evaluate(name, precise, z, 2)

    def value(*logits):
        return oracle.evaluate(name, precise, np.array(logits, dtype=object), 2).value

    for i in range(3):
        order = tuple(int(i == j) for j in range(3))
        assert abs(mp.diff(value, tuple(z), order) - exact.gradient[i]) < mp.mpf("1e-20")
        order = tuple(int(i == j) + int(j == 0) for j in range(3))
        assert abs(mp.diff(value, tuple(z), order) - exact.hessian[i, 0]) < mp.mpf("1e-12")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["ce", "mse"], ["ce", "mse"]),
        (["CE,MSE"], ["CE", "MSE"]),
        (["ce,", "mse"], ["ce", "mse"]),
        (["ce, mse:1,15 ,ls:0.1"], ["ce", "mse:1,15", "ls:0.1"]),
        (["mse:1,15,mse:1", "fl:2"], ["mse:1,15", "mse:1", "fl:2"]),
        (["ce,,mse,"], ["ce", "mse"]),
        (["mse:1,inf", "mse:1,NaN"], ["mse:1,inf", "mse:1,NaN"]),
        (["ce,hinge"], ["ce", "hinge"]),
        (["mse:1,-2"], ["mse:1,-2"]),
        ([], []),
    ],
)
def test_losses_are_listed_with_spaces_or_commas(given, expected):
    assert list(split_losses(given)) == expected
