"""Losses against targets, and of affine images of the logits, against the formulas in mpmath."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp
from scipy.optimize import minimize

from ufm import (
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Problem,
    VectorScaling,
)
from ufm._support.quick_jit import quick_jit
from ufm.losses import ClassWeighted, GroupedLoss, TemperatureCE, against

K = 3
SOFT = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.999, 0.001]])
SETS = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
REAL = np.array([[0.3, -2.0, 5.0], [1e3, 0.0, -1e-3], [0.0, 0.0, 0.0]])
SCALE, SHIFT, MARGIN = (np.array(x) for x in ([0.5, 1.0, 3.0], [0.1, -2.0, 4.0], [0.3, 0.0, 1.0]))
Z = np.random.default_rng(0).normal(size=(6, K)) * np.array([1, 1, 1, 30, 30, 1000])[:, None]


def entropy_of(y):
    """−Σ_j y_j log p_j, for any non-negative y."""
    return lambda z: sum(a * (mp.log(sum(map(mp.exp, z))) - x) for a, x in zip(y, z, strict=True))


def smoothed(y, alpha):
    return [(1 - mp.mpf(alpha)) * a + mp.mpf(alpha) * sum(y) / len(y) for a in y]


def tags_of(y):
    def value(z):
        pairs = zip(y, z, strict=True)
        return sum(a * mp.log1p(mp.exp(-x)) + (1 - a) * mp.log1p(mp.exp(x)) for a, x in pairs)

    return value


def square_of(y):
    return lambda z: sum((x - a) ** 2 for a, x in zip(y, z, strict=True)) / 2


def scaled(k):
    y = [mp.mpf(j == k) for j in range(K)]

    def value(z):
        image = [
            mp.mpf(SCALE[j]) * z[j] + mp.mpf(SHIFT[j]) - mp.mpf(MARGIN[j]) * (j == k)
            for j in range(K)
        ]
        return entropy_of(y)(image)

    return value


def numbers(row):
    return [mp.mpf(float(x)) for x in row]


CASES = {
    "soft": (against(CrossEntropy(), SOFT, 3), lambda i: entropy_of(numbers(SOFT[i]))),
    "sets": (against(CrossEntropy(), SETS, 3), lambda i: entropy_of(numbers(SETS[i]))),
    "smoothed": (
        against(LabelSmoothing(0.1), SETS, 3),
        lambda i: entropy_of(smoothed(numbers(SETS[i]), 0.1)),
    ),
    "tags": (against(BinaryCrossEntropy(), SETS, 3), lambda i: tags_of(numbers(SETS[i]))),
    "soft tags": (against(BinaryCrossEntropy(), SOFT, 3), lambda i: tags_of(numbers(SOFT[i]))),
    "regression": (against(MSE(), REAL, 3), lambda i: square_of(numbers(REAL[i]))),
    "scaled": (VectorScaling(SCALE, SHIFT, MARGIN), scaled),
    "grouped": (
        against(CrossEntropy(), np.eye(3)[[1, 1, 0]], 3),
        lambda i: entropy_of(numbers(np.eye(3)[[1, 1, 0][i]])),
    ),
}


@pytest.fixture(autouse=True)
def _precise():
    """Digits for log Σ exp − z_k, a difference of 1e3 and 1e3 that may be as small as 1e-300."""
    with mp.workdps(340):
        yield


every_case = pytest.mark.parametrize("case", CASES)


def derivatives(value, z):
    """∇ and ∇² by central differences, whose error is below 1e-25."""
    h = mp.mpf(10) ** -15
    units = [[h * (i == j) for j in range(len(z))] for i in range(len(z))]

    def at(*moves):
        return value([x + sum(m[j] for m in moves) for j, x in enumerate(z)])

    def minus(u):
        return [-x for x in u]

    gradient = [(at(u) - at(minus(u))) / (2 * h) for u in units]

    def mixed(u, v):
        corners = at(u, v) - at(u, minus(v)) - at(minus(u), v) + at(minus(u), minus(v))
        return corners / (4 * h**2)

    hessian = np.empty((len(z), len(z)))
    for i, j in zip(*np.triu_indices(len(z)), strict=True):
        hessian[i, j] = hessian[j, i] = float(mixed(units[i], units[j]))
    return np.array(gradient, float), hessian


@quick_jit
def computed(loss, rows, labels):
    """Value, rounding, gradient, its rounding and Hessian at each row with its label."""

    def at(z, label):
        rounding = loss.rounding(z, label), loss.gradient_rounding(z, label, jnp.abs(z))
        derivatives = loss.gradient(z, label), loss.hessian(z, label)
        return loss.value(z, label), *rounding, *derivatives

    return jax.vmap(at)(rows, labels)


@every_case
def test_values_and_derivatives_are_those_of_the_formula(case):
    loss, formula = CASES[case]
    eps = np.finfo(float).eps
    second, third = map(float, loss.smoothness())
    labels = np.arange(3, dtype=np.int32)
    for row in Z:
        found = computed(loss, jnp.asarray(np.tile(row, (3, 1))), jnp.asarray(labels))
        for label, at in enumerate(zip(*map(np.asarray, found), strict=True)):
            found_value, rounding, noise, found_gradient, found_hessian = at
            value = formula(label)
            exact = value(numbers(row))
            error = abs(mp.mpf(float(found_value)) - exact)
            assert error <= 19 * eps * float(rounding) + 1e-300
            # The bound is no excuse: values are accurate relative to the sizes of their terms.
            assert error <= 1e-13 * (abs(exact) + abs(row).max() + 6)
            gradient, hessian = derivatives(value, numbers(row))
            slope = np.linalg.norm(found_gradient - gradient)
            assert slope <= 8 * eps * float(noise) + 1e-24
            np.testing.assert_allclose(
                found_hessian, hessian, atol=1e-13 * (1 + abs(row).max()) * second
            )
            assert np.linalg.norm(hessian, 2) <= second * (1 + 1e-9)
            assert third >= (0 if loss.quadratic else second / 2)


@every_case
@pytest.mark.parametrize("label", range(3))
def test_the_conjugate_is_the_supremum(case, label):
    loss, _ = CASES[case]
    dual = 0.7 * np.asarray(loss.gradient(jnp.asarray(Z[0]), label))
    best = minimize(
        lambda z: float(loss.value(jnp.asarray(z), label)) - dual @ z,
        np.zeros(K),
        jac=lambda z: np.asarray(loss.gradient(jnp.asarray(z), label)) - dual,
        options={"gtol": 1e-10},
    )
    found = float(loss.conjugate(jnp.asarray(dual), label))
    assert found == pytest.approx(-best.fun, abs=1e-9 * (1 + abs(found)))
    step = 1e-4 * np.array([1.0, -1.0, 0.0])
    bound = float(loss.conjugate_slope(jnp.asarray(dual), label, jnp.full(K, 1e-4)))
    rise = float(loss.conjugate(jnp.asarray(dual + step), label)) - found
    assert abs(rise) <= bound * np.abs(step).sum()
    # Infeasible dual points bound nothing.
    if not loss.quadratic:
        far = jnp.asarray(np.array([40.0, -20.0, -20.0]))
        assert float(loss.conjugate(far, label)) == np.inf


@every_case
def test_the_rounding_of_the_conjugate_is_bounded(case):
    loss, formula = CASES[case]
    eps = np.finfo(float).eps
    for row in Z[:5]:
        z = numbers(row)
        for label in range(3):
            # At γ = ∇L(z), L* = ⟨γ, z⟩ − L(z), for the γ that is given.
            dual = loss.gradient(jnp.asarray(row), label)
            exact = sum(mp.mpf(float(g)) * x for g, x in zip(dual, z, strict=True))
            exact -= formula(label)(z)
            error = abs(mp.mpf(float(loss.conjugate(dual, label))) - exact)
            rounding = float(loss.conjugate_rounding(dual, label))
            # γ is off by its own rounding, which moves L* by at most its slope z.
            noise = float(
                loss.gradient_rounding(jnp.asarray(row), label, jnp.abs(jnp.asarray(row)))
            )
            assert error <= eps * (19 * rounding + 8 * noise * np.abs(row).sum())


def test_one_hot_targets_are_labels():
    for loss in (CrossEntropy(), Focal(2.0), MSE(2.0, 3.0)):
        assert against(loss, np.eye(4), 4) is loss
        grouped = against(loss, np.eye(4)[[2, 0, 2]], 3)
        assert isinstance(grouped, GroupedLoss)
        z = jnp.asarray(np.random.default_rng(1).normal(size=4))
        assert grouped.num_outputs == 4
        assert float(grouped.value(z, 2)) == float(loss.value(z, 2))
        assert grouped.without_targets()[0] is loss
        np.testing.assert_array_equal(grouped.without_targets()[1], np.eye(4)[[2, 0, 2]])


def test_bounds_on_the_margin_need_every_class():
    complete = against(CrossEntropy(), np.eye(3)[[0, 2, 1, 1]], 4)
    assert complete.margin_slope() == 1.0
    assert against(CrossEntropy(), np.eye(3)[[0, 2]], 2).margin_slope() is None
    assert CASES["soft"][0].margin_slope() is None


def test_what_it_is_follows_from_the_loss():
    soft, tags, squared = (CASES[name][0] for name in ("soft", "tags", "regression"))
    assert soft.shift_invariant
    assert not tags.shift_invariant
    assert squared.quadratic
    assert ClassWeighted(squared, np.ones(3)).quadratic
    assert soft.label() == "CE on targets"
    assert CASES["smoothed"][0].label() == "LS(α=0.1) on targets"
    assert VectorScaling(shift=SHIFT).shift_invariant
    assert not VectorScaling(SCALE).shift_invariant
    for name in ("soft", "smoothed", "tags", "regression"):
        loss, targets = CASES[name][0].without_targets()
        again = against(loss, targets, 3)
        np.testing.assert_array_equal(again.targets, CASES[name][0].targets)
        assert again.label() == CASES[name][0].label()


def test_published_corrections_are_vector_scalings():
    counts, z = (90, 9, 1), jnp.asarray(Z[0])
    prior = np.array(counts) / 100
    adjusted = VectorScaling.logit_adjustment(counts, 2.0)
    shifted = CrossEntropy().value(z + 2.0 * jnp.log(jnp.asarray(prior)), 1)
    assert float(adjusted.value(z, 1)) == pytest.approx(float(shifted), rel=1e-14)
    ldam = np.asarray(VectorScaling.ldam(counts, 0.5).margin)
    np.testing.assert_allclose(ldam[2], 0.5)
    np.testing.assert_allclose(ldam[0] / ldam[1], (9 / 90) ** 0.25)
    np.testing.assert_allclose(VectorScaling.cdt(counts, 0.2).scale, (np.array(counts) / 90) ** 0.2)


def test_temperature_is_a_scale():
    plain, scale = TemperatureCE(0.25), VectorScaling(4.0)
    for row in Z:
        z = jnp.asarray(row)
        assert float(plain.value(z, 0)) == float(scale.value(z, 0))
        dual = plain.gradient(z, 0)
        assert float(plain.conjugate(dual, 0)) == float(scale.conjugate(dual, 0))
    # L*(γ) = CE*(γ/4): the chain rule, where the dual point is well inside.
    inside, error = jnp.asarray([-0.4, 0.3, 0.1]), jnp.full(3, 1e-3)
    for factor in (4.0, 0.25):
        slope = VectorScaling(factor).conjugate_slope(factor * inside, 0, factor * error)
        inner = CrossEntropy().conjugate_slope(inside, 0, error)
        assert float(slope) == pytest.approx(float(inner) / factor, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "targets", "said"),
    [
        (CrossEntropy(), [[0.5, 0.6], [1, 0]], "row 0 is"),
        (CrossEntropy(), [[1.0, 0.0], [0.0, 0.0]], "given for every group, but row 1"),
        (CrossEntropy(), [[-0.5, 1.5], [1, 0]], "distributions"),
        (CrossEntropy(), [[2.0, 0.0], [1, 0]], "distributions"),
        (CrossEntropy(), [[np.nan, 1.0], [1, 0]], "row 0 is not"),
        (CrossEntropy(), [[1.0], [1.0]], "at least 2 columns"),
        (CrossEntropy(), [[0.5, 0.5]], "a row for each of the 2 entries"),
        (CrossEntropy(), [0.5, 0.5], r"got shape \(2,\)"),
        (BinaryCrossEntropy(), [[0.5, 1.5], [1, 0]], "between 0 and 1"),
        (Focal(2.0), [[0.5, 0.5], [1, 0]], "one-hot targets only"),
        (MSE(2.0), [[0.5, 0.5], [1, 0]], "scale the targets"),
        (MSE(), [[1e200, 0.5], [1, 0]], r"at most 1e\+150 in size"),
        (VectorScaling(margin=1.0), [[0.5, 0.5], [1, 0]], "margin"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss, targets, said):
    with pytest.raises(ValueError, match=said):
        against(loss, targets, 2)


def test_targets_that_are_no_numbers_are_refused():
    with pytest.raises(TypeError, match="targets must be an array of numbers"):
        against(CrossEntropy(), [["a", "b"]], 1)
    with pytest.raises(TypeError, match="targets must be an array of numbers"):
        against(CrossEntropy(), SOFT + 1j, 3)
    for arguments, said in (
        ((0.0,), "scale"),
        ((1.0, np.inf), "shift"),
        ((1.0, 0.0, np.nan), "margin"),
    ):
        with pytest.raises(ValueError, match=said):
            VectorScaling(*arguments)
    with pytest.raises(ValueError, match="shift must be a number, or one for each of the 3"):
        VectorScaling(shift=np.zeros(2)).probe(3, 3)


def test_losses_on_targets_map_over_batches_of_tables():
    tables = jnp.stack([CASES["soft"][0].targets, CASES["soft"][0].targets[::-1]])
    z = jnp.asarray(Z[0])

    def value(table):
        return type(CASES["soft"][0])(table).value(z, 0)

    found = quick_jit(jax.vmap(value))(tables)
    assert float(found[1]) == float(CASES["soft"][0].value(z, 2))


def test_a_loss_with_targets_takes_new_ones_and_its_own_number_of_groups():
    given = Problem(LabelSmoothing(0.1), (2, 1, 3), 4, 0.1, 0.1, None, targets=SOFT)
    other = dataclasses.replace(given, targets=SOFT[::-1])
    np.testing.assert_array_equal(other.targets, SOFT[::-1])
    assert other.loss.label() == given.loss.label()
    labelled = dataclasses.replace(given, targets=np.eye(3)[[0, 1, 1]])
    assert labelled.loss.loss == LabelSmoothing(0.1)
    for problem in (given, labelled):
        for counts in ((2, 1), (2, 1, 3, 1)):
            with pytest.raises(ValueError, match="the loss has 3 rows of targets"):
                dataclasses.replace(problem, class_counts=counts)
    with pytest.raises(ValueError, match="at least 1 group of samples"):
        Problem(CrossEntropy(), (), 4, 0.1, 0.1, None, targets=np.zeros((0, 3)))
