"""What the theory asks of a loss: conjugate, convexity, slope, smoothness; its constructors."""

import jax
import jax.numpy as jnp
import loss_oracle as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from scipy.optimize import minimize

from ufm._support.quick_jit import quick_jit
from ufm.losses import MSE, CrossEntropy, CustomLoss, Focal, LabelSmoothing

CONJUGATES = [("CE", ()), ("LS", (0.1,)), ("LS", (0.0,)), ("MSE", (1.0, 1.0)), ("MSE", (5.0, 3.0))]
FAMILIES = {"CE": CrossEntropy, "LS": LabelSmoothing, "FL": Focal, "MSE": MSE}
conjugates = pytest.mark.parametrize(("name", "hyper"), CONJUGATES, ids=lambda v: str(v))
logits = st.lists(st.floats(-30, 30), min_size=3, max_size=3).map(np.array)
labels = st.integers(0, 2)


@quick_jit
def conjugate_and_rounding(loss, duals, labels):
    return jax.vmap(lambda y, k: (loss.conjugate(y, k), loss.conjugate_rounding(y, k)))(
        duals, labels
    )


@quick_jit
def fenchel_pair(loss, z, other, label):
    """L(z), L(other), ∇L(z), L*(∇L(z))."""
    dual = loss.gradient(z, label)
    return loss.value(z, label), loss.value(other, label), dual, loss.conjugate(dual, label)


def dual_points(name: str, hyper: tuple, label: int) -> np.ndarray:
    """Γ inside the range of ∇L: p − ŷ with p inside the simplex (MSE: anything)."""
    rng = np.random.default_rng(5)
    if name == "MSE":
        return np.concatenate([s * rng.normal(size=(4, 3)) for s in (0.1, 1, 100)])
    p = np.concatenate([rng.dirichlet([a] * 3, size=4) for a in (0.3, 1.0, 5.0)])
    alpha = hyper[0] if hyper else 0.0
    return p - (1 - alpha) * np.eye(3)[label] - alpha / 3


def plain_loss(name: str, hyper: tuple, z: np.ndarray, label: int) -> float:
    if name == "MSE":
        weights = np.where(np.arange(3) == label, hyper[0], 1.0)
        return 0.5 * np.sum(weights * (z - hyper[1] * np.eye(3)[label]) ** 2)
    alpha = hyper[0] if hyper else 0.0
    log_p = z - np.logaddexp.reduce(z)
    return -(1 - alpha) * log_p[label] - alpha * np.mean(log_p)


@conjugates
def test_conjugate_is_the_supremum(name, hyper):
    # The duals that a minimiser over z can reach to 1e-9: p not within 0.02 of the boundary.
    label, duals = 1, dual_points(name, hyper, 1)[4:]
    values, _ = conjugate_and_rounding(FAMILIES[name](*hyper), duals, np.full(len(duals), label))
    for dual, value in zip(duals, values, strict=True):
        found = minimize(
            lambda z, dual=dual: plain_loss(name, hyper, z, label) - dual @ z, np.zeros(3), tol=1e-7
        )
        assert abs(-found.fun - value) <= 1e-9 * max(1.0, abs(value))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@conjugates
def test_conjugate_rounding_bounds_its_error(name, hyper, dtype):
    info = np.finfo(dtype)
    tiny_p = [[1e-20, 0.3, 0.7], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0]]
    alpha = hyper[0] if name == "LS" else 0.0
    edges = np.array(tiny_p) - (1 - alpha) * np.eye(3)[0] - alpha / 3
    duals = np.concatenate([dual_points(name, hyper, 0), edges]).astype(dtype)
    values, bounds = conjugate_and_rounding(
        FAMILIES[name](*hyper), duals, np.zeros(len(duals), np.int32)
    )
    precise = tuple(oracle.numbers(np.array(hyper, dtype)))
    unit = (3 + 16) * float(info.eps)
    for dual, value, bound in zip(duals, values, bounds, strict=True):
        exact = oracle.conjugate(name, precise, oracle.numbers(dual), 0)
        assert np.isfinite(value)
        assert abs(mp.mpf(float(value)) - exact) <= unit * float(bound)
        # A bound that is no use to anyone would pass the line above.
        assert float(bound) <= 1000 * (1 + np.sum(np.abs(dual)) ** 2)


@conjugates
@given(z=logits, other=logits, label=labels)
def test_fenchel_young(name, hyper, z, other, label):
    value, elsewhere, dual, conjugate = fenchel_pair(FAMILIES[name](*hyper), z, other, label)
    # Terms up to 30 (MSE: κ·33²/2·3) cancel, each with a few roundings.
    scale = 1e4 if name == "MSE" else 100.0
    slack = 64 * np.finfo(float).eps * scale
    assert abs(value + conjugate - dual @ z) <= slack
    assert elsewhere + conjugate - dual @ other >= -slack


@pytest.mark.parametrize(("name", "hyper"), CONJUGATES[:3], ids=str)
def test_the_conjugate_of_a_softmax_loss_lives_on_the_simplex(name, hyper):
    alpha = hyper[0] if hyper else 0.0
    target = (1 - alpha) * np.eye(3)[0] + alpha / 3
    corner, outside = np.array([0.0, 1.0, 0.0]), np.array([1.5, -0.5, 0.0])
    duals = np.stack([corner, outside]) - target
    values, bounds = conjugate_and_rounding(FAMILIES[name](*hyper), duals, np.zeros(2, np.int32))
    assert float(values[0]) == pytest.approx(0.0, abs=1e-14)  # 0 log 0 = 0
    assert np.isfinite(bounds[0])
    assert float(values[1]) == np.inf


@pytest.mark.parametrize("loss", [Focal(2.0), CustomLoss(plain_loss)], ids=["FL", "custom"])
def test_no_conjugate_is_invented(loss):
    assert not loss.has_conjugate
    with pytest.raises(NotImplementedError, match="no conjugate is known"):
        loss.conjugate(jnp.zeros(3), 0)
    with pytest.raises(NotImplementedError, match="no conjugate is known"):
        loss.conjugate_rounding(jnp.zeros(3), 0)


def test_no_profile_is_invented():
    loss = CustomLoss(plain_loss)
    for method in (loss.profile, loss.profile_slope):
        with pytest.raises(NotImplementedError, match="no profile is known"):
            method(0.0, 3)
    with pytest.raises(NotImplementedError, match="no profile is known"):
        loss.profile_convex_above(3)


def test_what_is_convex_shift_invariant_and_contrastive():
    table = {
        CrossEntropy(): (True, True, True),
        LabelSmoothing(0.1): (True, True, True),
        Focal(3.0): (False, True, True),
        MSE(): (True, False, False),
    }
    for loss, facts in table.items():
        assert (loss.is_convex(), loss.shift_invariant, loss.contrastive) == facts
    unknown = CustomLoss(plain_loss)
    assert unknown.is_convex() is None
    assert unknown.infimum() is None
    assert unknown.convex_above() is None


@quick_jit
def value_of(loss, z, label):
    return loss.value(z, label)


@given(z=logits, label=labels)
def test_margin_slope_and_infimum_bound_the_loss_from_below(z, label):
    margin = np.max(z) - z[label]
    for name, hyper in (("CE", ()), ("LS", (0.1,)), ("FL", (3.0,)), ("MSE", (5.0, 3.0))):
        loss = FAMILIES[name](*hyper)
        value = value_of(loss, z, label)
        assert value >= loss.infimum()
        slope = loss.margin_slope()
        assert (slope is None) == (name in ("FL", "MSE"))
        if slope is not None:
            assert value >= slope * margin * (1 - 1e-14)


def test_the_margin_slope_of_cross_entropy_is_attained():
    z = jnp.array([-1e4, 0.0, -2e4])
    value = fenchel_pair(CrossEntropy(), z, z, 0)[0]
    assert float(value) == pytest.approx(CrossEntropy().margin_slope() * 1e4, rel=1e-12, abs=0)
    assert LabelSmoothing(0.1).margin_slope() == pytest.approx(0.9)


# Focal loss ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gamma", "p"), [(0.0, 0.0), (1.0, 0.0432), (2.0, 0.0578), (3.0, 0.0575), (5.0, 0.0502)]
)
def test_focal_convexity_threshold(gamma, p):
    assert float(Focal(gamma).convex_above()) == pytest.approx(p, abs=5e-5)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("gamma", [0.01, 0.3, 1.0, 3.0, 10.0, 50.0])
def test_focal_hessian_turns_indefinite_exactly_below_the_threshold(gamma, classes):
    threshold = mp.mpf(float(Focal(gamma).convex_above()))
    others = oracle.numbers(np.random.default_rng(classes).dirichlet(np.ones(classes - 1)))
    others = others / mp.fsum(others)
    # γ = 0.01: p* = 5e-45, and eigenvalues as small beside entries of order one.
    with mp.workdps(120):
        for factor, convex in ((1 + mp.mpf("1e-12"), True), (1 - mp.mpf("1e-12"), False)):
            p = threshold * factor
            z = np.array([mp.log(p), *(mp.log((1 - p) * q) for q in others)], dtype=object)
            hessian = oracle.evaluate("FL", (mp.mpf(gamma),), z, 0).hessian
            smallest = min(mp.eigsy(mp.matrix(hessian.tolist()), eigvals_only=True))
            # The eigenvalue 0 (shifts) is the smallest of a convex point, up to 1e-120.
            assert (smallest > mp.mpf("-1e-100")) == convex


def test_convexity_thresholds_of_a_batch_of_losses():
    gammas = jnp.array([0.0, 1.0, 3.0])
    batch = quick_jit(jax.vmap(lambda g: Focal(g).convex_above()))(gammas)
    single = [float(Focal(float(g)).convex_above()) for g in gammas]
    np.testing.assert_allclose(batch, single, rtol=1e-14)


# Smoothness ---------------------------------------------------------------------------------------


@quick_jit
def curvatures(loss, Z, D):
    """Spectral norms of ∇²L, and of its difference quotient along unit directions."""
    step = 1e-4

    def at(z, d):
        change = loss.hessian(z + step * d, 0) - loss.hessian(z - step * d, 0)
        return jnp.linalg.norm(loss.hessian(z, 0), 2), jnp.linalg.norm(change, 2) / (2 * step)

    return jax.vmap(at)(Z, D)


@pytest.mark.parametrize(
    "loss",
    [
        *(CrossEntropy(), LabelSmoothing(0.3), MSE(), MSE(5.0, 3.0), MSE(0.2)),
        *(Focal(gamma) for gamma in (0.0, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0)),
    ],
    ids=lambda loss: loss.label(),
)
def test_smoothness_bounds_second_and_third_derivatives(loss):
    rng = np.random.default_rng(0)
    along = np.array([2.0, -1.0, -1.0]) / 6**0.5
    Z = np.concatenate([s * rng.normal(size=(200, 3)) for s in (0.3, 1, 3, 6)])
    D = rng.normal(size=Z.shape)
    D /= np.linalg.norm(D, axis=1)[:, None]
    # A scan of margins −20 … 20 along the label's direction beside the random points.
    Z = np.concatenate([Z, np.linspace(-20, 20, 401)[:, None] * along])
    D = np.concatenate([D, np.tile(along, (401, 1))])
    second, third = curvatures(loss, Z, D)
    bounds = loss.smoothness()
    assert np.max(second) <= float(bounds[0]) * (1 + 1e-12)
    assert np.max(third) <= float(bounds[1]) + 1e-6  # central difference: error h²/6 and eps/h


# Custom losses and constructors -------------------------------------------------------------------


def cross_entropy_of(logits, label, sharpness=1.0):
    z = sharpness * logits
    return jax.nn.logsumexp(z) - z[label]


@quick_jit
def at_every_label(loss, z, x):
    def at(k):
        products = loss.hessian_product(z, k, x), loss.hessian(z, k)
        return loss.value(z, k), loss.gradient(z, k), *products

    return jax.vmap(at)(jnp.arange(3))


def test_a_custom_cross_entropy_is_cross_entropy():
    z, x = jnp.array([0.4, -1.0, 2.0]), jnp.array([1.0, 0.5, -2.0])
    custom = at_every_label(CustomLoss(cross_entropy_of, {"sharpness": 1.0}), z, x)
    for found, truth in zip(custom, at_every_label(CrossEntropy(), z, x), strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-13, atol=1e-15)


def test_a_custom_loss_keeps_the_dtype_of_the_logits():
    loss = CustomLoss(cross_entropy_of, {"sharpness": jnp.array(2.0, jnp.float64)})
    shape = jax.eval_shape(lambda z: loss.value(z, 0), jnp.zeros(3, jnp.float32))
    assert shape.dtype == jnp.float32


def test_parameters_of_a_custom_loss_are_traced():
    traces = []
    z = jnp.array([0.4, -1.0, 2.0])

    @jax.jit
    def slope(loss):
        traces.append(loss)
        return jax.grad(lambda changed: changed.value(z, 1))(loss)

    for a in (1, 0.5, 2.0):
        found = slope(CustomLoss(cross_entropy_of, {"sharpness": a})).params["sharpness"]
        p = np.exp(a * z) / np.sum(np.exp(a * z))
        assert float(found) == pytest.approx(float(p @ z - z[1]), rel=1e-13, abs=0)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("make", "error", "field"),
    [
        (lambda: LabelSmoothing(1), ValueError, "alpha"),
        (lambda: LabelSmoothing(-0.1), ValueError, "alpha"),
        (lambda: LabelSmoothing(float("nan")), ValueError, "alpha"),
        (lambda: LabelSmoothing("0.1"), TypeError, "alpha"),
        (lambda: LabelSmoothing(None), TypeError, "alpha"),
        (lambda: LabelSmoothing(np.array([0.1, 1.0])), ValueError, "alpha"),
        (lambda: Focal(-1), ValueError, "gamma"),
        (lambda: Focal(float("inf")), ValueError, "gamma"),
        (lambda: Focal("3"), TypeError, "gamma"),
        (lambda: MSE(0), ValueError, "scale"),
        (lambda: MSE(1, 0), ValueError, "target"),
        (lambda: MSE(1, "1"), TypeError, "target"),
        (lambda: CustomLoss(cross_entropy_of, {"sharpness": "1"}), TypeError, "sharpness"),
        (lambda: CustomLoss(3), TypeError, "fn"),
        (lambda: CustomLoss(cross_entropy_of, 3), TypeError, "params"),
    ],
)
def test_constructor_errors_name_the_hyperparameter(make, error, field):
    with pytest.raises(error, match=field):
        make()


def test_equal_losses_are_equal_and_hash_alike():
    assert type(LabelSmoothing(0).alpha) is float
    assert type(MSE(np.float32(2.0), 1).scale) is float
    assert LabelSmoothing(0) == LabelSmoothing(0.0)
    assert hash(LabelSmoothing(0)) == hash(LabelSmoothing(0.0))
    assert len({CrossEntropy(), CrossEntropy(), Focal(1), Focal(1.0), MSE(), MSE(1, 1)}) == 3
    assert Focal(1.0) != Focal(2.0)
    assert CrossEntropy() != LabelSmoothing(0.0)
    structures = {jax.tree.structure(Focal(g)) for g in (0, 1.0, 2.5)}
    assert len(structures) == 1
