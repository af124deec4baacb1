"""Lower bounds on f*, against a convex solver and longdouble arithmetic.

Soundness needs no tolerance: every bound is compared with values that f attains.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from convex_oracle import convex_minimum, minimiser, wide_objective
from points import (
    BIASES,
    CONVEX,
    CONVEX_PROBLEMS,
    SKEWED,
    cast,
    certified,
    gaussian,
    make,
    origin,
    perturbed,
    softmax_entropy,
)

from ufm import MSE, CrossEntropy, CustomLoss, Focal, LabelSmoothing, Params, Problem
from ufm._support.quick_jit import quick_jit

DECAYS = (1e-4, 1e-2, 0.3)
#: Powers of two, so that float32 holds the hyperparameters exactly.
EXACT = 2.0**-7


def ids(value):
    return value.label() if hasattr(value, "label") else str(value)


def points_of(problem, end):
    yield origin(problem)
    yield end
    for seed, relative in enumerate((1e-12, 1e-8, 1e-4, 1e-1)):
        yield perturbed(end, seed, relative)
    for seed, scale in enumerate((1e-8, 1e-2, 0.3, 1.0, 10.0, 1e3)):
        yield gaussian(problem, seed, scale)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize(("loss", "counts"), CONVEX_PROBLEMS, ids=ids)
def test_bounds_enclose_the_minimum(loss, counts, lam_b):
    for mu in DECAYS:
        problem = make(loss, counts, lam_b, mu)
        oracle = convex_minimum(problem)
        end = minimiser(problem)
        attained = min(float(wide_objective(problem, end)), oracle.value)
        points = list(points_of(problem, end))
        for point, found in zip(points, certified(problem, points), strict=True):
            assert float(found.lower_bound) <= attained
            assert float(found.value) >= oracle.value - oracle.accuracy
            assert float(found.gap) >= float(wide_objective(problem, point)) - attained
            assert float(found.gap) == pytest.approx(
                float(found.value - found.lower_bound), rel=1e-6
            )
        # At an exact minimiser there is nothing but rounding between the bound and f. With a free
        # bias, that of the row sums counts times the range of the bias, which is hundreds here.
        allowed = 1e-11 if lam_b == 0 else 1e-12
        assert 0 < float(certified(problem, [end])[0].gap) <= allowed * (1 + attained)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize("loss", CONVEX, ids=ids)
def test_gap_closes_in_step_with_the_distance(loss, lam_b):
    # The dual point θ∇g is first order in the distance, so the gap is too.
    problem = make(loss, SKEWED, lam_b)
    end = minimiser(problem)
    points = [perturbed(end, 1, 10.0**-k) for k in (3, 5, 7)]
    gaps = [float(found.gap) for found in certified(problem, points)]
    assert gaps[0] > 30 * gaps[1] > 900 * gaps[2] > 0


def conjugate(loss, dual, labels):
    """Σ of L* over columns in NumPy; ∞ outside its domain."""
    on_label = np.eye(len(dual))[:, labels]
    if isinstance(loss, MSE):
        weight = np.where(on_label > 0, loss.scale, 1.0)
        return (dual * (dual / (2 * weight) + loss.target * on_label)).sum(axis=0)
    alpha = getattr(loss, "alpha", 0.0)
    p = dual + (1 - alpha) * on_label + alpha / len(dual)
    if p.min() < -1e-14:
        return np.full(len(labels), np.inf)
    return scipy.special.xlogy(np.maximum(p, 0.0), np.maximum(p, 0.0)).sum(axis=0)


@quick_jit
def gradients(loss, V, labels):
    return jax.vmap(loss.gradient, (1, 0), 1)(V, labels)


@pytest.mark.parametrize("mu", [1e-2, 0.3])
@pytest.mark.parametrize("lam_b", [None, 1e-2])
@pytest.mark.parametrize("loss", [CrossEntropy(), LabelSmoothing(0.1), MSE(5.0, 3.0)], ids=ids)
def test_the_bound_is_the_best_multiple_of_the_class_averages(loss, lam_b, mu):
    problem = make(loss, SKEWED, lam_b, mu)
    shares, y = np.array(SKEWED) / sum(SKEWED), problem.labels
    points = [gaussian(problem, seed, scale) for seed, scale in enumerate((0.1, 1.0, 3.0, 10.0))]
    for point, found in zip(points, certified(problem, points), strict=True):
        W, H = np.asarray(point.W), np.asarray(point.H)
        V = W @ H + (0 if lam_b is None else np.asarray(point.b)[:, None])
        gamma = np.asarray(gradients(loss, jnp.asarray(V), jnp.asarray(y)))
        averages = np.stack([gamma[:, y == k].mean(axis=1) for k in range(3)], axis=1)
        r = averages @ shares

        def bound(direction, labels, shares, theta, rest):
            norm = np.linalg.norm(direction * np.sqrt(shares / sum(SKEWED)), 2)
            if theta > problem.mu() / norm:
                return -np.inf
            bias = 0.0 if lam_b is None else theta**2 * (rest @ rest) / (2 * lam_b)
            return -shares @ conjugate(loss, theta * direction, labels) - bias

        def highest(direction, rest):
            limit = float(problem.mu()) / np.linalg.norm(
                direction * np.sqrt(shares / sum(SKEWED)), 2
            )
            with np.errstate(invalid="ignore"):  # inf − inf where θ is too large
                best = scipy.optimize.minimize_scalar(
                    lambda x: -bound(direction, range(3), shares, np.exp(x), rest),
                    bounds=(np.log(limit) - 30, np.log(limit)),
                    method="bounded",
                    options={"xatol": 1e-9},
                )
            at_limit = bound(direction, range(3), shares, limit * (1 - 1e-15), rest)
            return max(-best.fun, at_limit)

        expected = highest(averages, r)
        if lam_b is not None:
            expected = max(expected, highest(averages - r[:, None], np.zeros(3)))
        # By samples, and at θ = min(1, μ/‖G‖₂): never better.
        theta = min(1.0, float(problem.mu()) / np.linalg.norm(gamma / 7, 2) * (1 - 1e-15))
        plain = bound(gamma, y, np.full(7, 1 / 7), theta, gamma.mean(axis=1))
        lower, value = float(found.lower_bound), float(found.value)
        assert plain <= lower + 1e-14 * abs(lower)
        assert expected - 1e-4 * (value - expected) <= lower <= expected + 1e-12 * abs(expected)


CUSTOM = CustomLoss(softmax_entropy, convex=True, lower_bound=0.0)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 1e-2])
def test_a_custom_loss_has_valid_looser_bounds(lam_b):
    for mu in DECAYS:
        known, custom = make(CrossEntropy(), SKEWED, lam_b, mu), make(CUSTOM, SKEWED, lam_b, mu)
        end = minimiser(known)
        attained = min(float(wide_objective(known, end)), convex_minimum(known).value)
        points = list(points_of(known, end))
        pairs = zip(certified(known, points), certified(custom, points), strict=True)
        for sharp, loose in pairs:
            rounding = float(sharp.rounding + loose.rounding)
            assert float(loose.lower_bound) <= float(sharp.lower_bound) + rounding
            assert float(loose.lower_bound) <= attained
        at_end = certified(custom, [end])[0]
        assert 0 < float(at_end.gap) <= 1e-10 * (1 + attained)


def test_a_custom_loss_with_a_free_bias_has_no_bound():
    problem = make(CUSTOM, SKEWED, 0.0)
    assert float(certified(problem, [origin(problem)])[0].lower_bound) == -np.inf


def test_the_tangent_bound_is_its_formula():
    problem = make(CustomLoss(softmax_entropy, convex=True, lower_bound=-3.0), SKEWED)
    point = gaussian(problem, 3, 1.0)
    found = certified(problem, [point])[0]
    # g(V) − ⟨G, V⟩ − (‖G‖₂ − μ)₊ (f − ℓ₀)/μ, straight from the formula.
    W, H = np.asarray(point.W), np.asarray(point.H)
    V = W @ H
    one_hot = np.eye(3)[problem.labels].T
    p = np.exp(V) / np.exp(V).sum(axis=0)
    G = (p - one_hot) / 7
    g = -np.log((p * one_hot).sum(axis=0)).mean()
    f = g + 1e-2 * (W**2).sum() + 0.25e-2 * (H**2).sum()
    excess = np.linalg.norm(G, 2) / 1e-2 - 1
    expected = g - (G * V).sum() - excess * (f + 3)
    assert float(found.lower_bound) == pytest.approx(expected, rel=1e-12)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [0.0, 1e-2])
@pytest.mark.parametrize("loss", CONVEX, ids=ids)
def test_weighted_columns_equal_the_samples_they_stand_for(loss, lam_b):
    plain = make(loss, SKEWED, lam_b)
    weights = np.array(SKEWED, dtype=float)
    weighted = Problem(
        loss=loss,
        class_counts=(1, 1, 1),
        dim=plain.dim,
        lam_w=plain.lam_w,
        lam_h=plain.lam_h,
        lam_b=lam_b,
        column_weights=jnp.asarray(weights),
    )
    for scale in (0.1, 1.0):
        small = gaussian(weighted, 5, scale)
        features = np.asarray(small.H) / np.sqrt(weights)
        large = Params(small.W, jnp.asarray(features[:, plain.labels]), small.b)
        a, b = certified(plain, [large])[0], certified(weighted, [small])[0]
        for name in ("value", "grad_norm", "dual_norm", "lower_bound"):
            assert float(getattr(a, name)) == pytest.approx(
                float(getattr(b, name)), rel=1e-11, abs=1e-12
            ), name


SCALES = (1e-6, 0.1, 1.0, 30.0, 300.0)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [0.0, 2.0**-6])
@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), LabelSmoothing(0.25), MSE(), MSE(5.0, 3.0), Focal(2.0)],
    ids=ids,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_the_rounding_bound_holds_and_is_useful(loss, lam_b, dtype):
    problem = make(loss, SKEWED, lam_b, mu=EXACT)
    end = gaussian(problem, 7, 0.5) if isinstance(loss, Focal) else minimiser(problem)
    candidates = [perturbed(end, 1, 1e-3), end]
    candidates += [gaussian(problem, i, scale) for i, scale in enumerate(SCALES)]
    attained = float(wide_objective(problem, end))
    lowered = [cast(point, dtype) for point in candidates]
    for low, found in zip(lowered, certified(problem, lowered), strict=True):
        assert found.value.dtype == found.lower_bound.dtype == found.rounding.dtype == dtype
        exact = wide_objective(problem, low)
        error = abs(float(np.longdouble(float(found.value)) - exact))
        assert error <= float(found.rounding)
        assert float(found.lower_bound) <= attained
        assert float(found.gap) >= float(exact) - attained
        # Not just infinity: within a few thousand eps of the largest term, ‖W‖‖H‖ or f; and a
        # relative error of the logits of hundreds is one of the probabilities.
        largest = float(jnp.linalg.norm(low.W) * jnp.linalg.norm(low.H))
        size = 1.0 + float(exact) + largest
        if not (dtype is np.float32 and largest > 1e4):
            logit = float(jnp.max(jnp.abs(low.W @ low.H)))
            assert float(found.rounding) <= (5e3 + 16 * logit) * float(np.finfo(dtype).eps) * size


@pytest.mark.parametrize("loss", [CrossEntropy(), LabelSmoothing(0.25), Focal(2.0)], ids=ids)
def test_logits_that_have_lost_their_digits_prove_nothing(loss):
    # In float32 logits of 1e8 are wrong by more than one: first-order bounds are void.
    problem = make(loss, SKEWED, 0.0, mu=EXACT)
    found = certified(problem, [cast(gaussian(problem, 0, 1e4), np.float32)])[0]
    assert float(found.rounding) == np.inf
    assert float(found.lower_bound) == -np.inf


@pytest.mark.parametrize("loss", [*CONVEX], ids=ids)
def test_single_precision_closes_the_gap_to_its_own_accuracy(loss):
    problem = make(loss, SKEWED, 2.0**-6, mu=EXACT)
    end = minimiser(problem)
    found = certified(problem, [cast(end, np.float32)])[0]
    assert 0 < float(found.gap) <= 3e-4 * (1 + float(wide_objective(problem, end)))
