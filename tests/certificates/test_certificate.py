"""Verdicts: what is claimed is true, and what is true and provable is claimed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser, newton, wide_objective
from model_oracle import dense_hessian, objective_and_gradient
from points import (
    BALANCED,
    BIASES,
    CONVEX_PROBLEMS,
    SKEWED,
    cast,
    certified,
    certified_at_once,
    gaussian,
    make,
    origin,
    padded,
    perturbed,
    rescaled,
    softmax_entropy,
    stacked,
)

from ufm import (
    MSE,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    Params,
    Problem,
    Reason,
    Verdict,
    certify,
    collapse_threshold,
    solve,
)
from ufm._support.quick_jit import quick_jit
from ufm.model.start import init_params

TOLERANCES = [10.0**-k for k in range(1, 15)]


def ids(value):
    return value.label() if hasattr(value, "label") else str(value)


def verdicts(problem, points, tol=None):
    return [Verdict(int(found.verdict)) for found in certified(problem, points, tol)]


def saddle(problem: Problem) -> Params:
    """A critical point of rank 1, with empty further dimensions."""
    narrow = make(problem.loss, problem.class_counts, problem.lam_b, 2e-2, dim=1)
    related = CrossEntropy() if isinstance(problem.loss, Focal) else problem.loss
    nearby = minimiser(make(related, problem.class_counts, problem.lam_b, 2e-2))
    Z = np.asarray(nearby.W) @ np.asarray(nearby.H)
    left, sizes, right = np.linalg.svd(Z, full_matrices=False)
    for r in (0, 1):
        root = sizes[r] ** 0.5
        W, H = 0.5**0.5 * root * left[:, r : r + 1], 2**0.5 * root * right[r : r + 1]
        start = Params(jnp.asarray(W), jnp.asarray(H), nearby.b)
        point = newton(narrow, start, steps=12)
        gradient = objective_and_gradient(narrow, point)[1]
        if np.linalg.norm(gradient) < 1e-13 and np.linalg.norm(point.W) > 0.1:
            return padded(point, problem.dim)
    raise AssertionError("no critical point of rank 1 was found")


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "lam_b"),
    [(CrossEntropy(), None), (CrossEntropy(), 0.0), (CrossEntropy(), 1e-2), (MSE(), 1e-2)],
    ids=ids,
)
def test_default_runs_end_as_proven_minima(loss, lam_b):
    # The last decay is beyond the collapse threshold, where f(0) − f* = 0.
    for mu in (1e-3, 2e-2, 0.3):
        problem = make(loss, BALANCED, lam_b, mu)
        found = certify(problem, solve(problem, init_params(problem, jax.random.key(0))).params)
        assert (found.verdict, found.reason) == (Verdict.GLOBAL_MINIMUM, Reason.GAP_CLOSED)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "lam_b"),
    [(loss, lam_b) for loss in (CrossEntropy(), MSE(), MSE(5.0, 3.0)) for lam_b in BIASES]
    + [(Focal(2.0), 0.0)],
    ids=ids,
)
def test_strict_saddles_are_found_and_measured(loss, lam_b):
    problem = make(loss, BALANCED, lam_b, 2e-2)
    point = saddle(problem)
    hessian = dense_hessian(problem, point)
    lowest = np.linalg.eigvalsh(hessian)[0]
    # Away from the critical point by rounding, and by as much as a solver leaves.
    for near in (point, perturbed(point, 0, 1e-12), perturbed(point, 0, 1e-9)):
        for found in (certified(problem, [near])[0], certified(problem, [near], 0.5)[0]):
            assert int(found.verdict) == Verdict.STRICT_SADDLE
            assert int(found.reason) == Reason.NEGATIVE_CURVATURE
            assert float(found.grad_norm) <= float(found.critical_tol)
            assert float(found.escape.curvature) == pytest.approx(
                float(found.escape.predicted), rel=1e-6
            )
            assert lowest <= float(found.escape.curvature) * (1 - 1e-6)
    v = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found.escape.direction)])
    assert np.linalg.norm(v) == pytest.approx(1.0, abs=1e-12)
    assert v @ hessian @ v == pytest.approx(float(found.escape.curvature), rel=1e-6)
    # −2 (‖G‖₂ − μ) μ/(λ_W + λ_H), from the gradient in W at a point where that is G Hᵀ + λ_W W.
    assert float(found.escape.predicted) == pytest.approx(
        -2 * (float(found.dual_norm) - 2e-2) * 2e-2 / (problem.lam_w + problem.lam_h), rel=1e-12
    )
    # Walking that way lowers f.
    moved = jax.tree.map(lambda x, y: x + 0.1 * y, point, found.escape.direction)
    assert wide_objective(problem, moved) < wide_objective(problem, point)


@pytest.mark.parametrize(
    ("loss", "biases"),
    [(CrossEntropy(), (None, 0.5)), (MSE(5.0, 3.0), (None, 0.5)), (Focal(2.0), (0.5,))],
    ids=ids,
)
def test_origin_below_and_beyond_the_collapse_threshold(loss, biases):
    limit = float(collapse_threshold(make(loss, BALANCED, None)).mu)
    for lam_b in biases:
        for factor, expected in ((0.5, Verdict.STRICT_SADDLE), (1.5, Verdict.GLOBAL_MINIMUM)):
            problem = make(loss, BALANCED, lam_b, limit * factor)
            point = newton(problem, origin(problem)) if lam_b else origin(problem)
            assert verdicts(problem, [point]) == [expected], (lam_b, factor)


@pytest.mark.repeats
@pytest.mark.parametrize(
    ("loss", "counts", "level"), [(CrossEntropy(), BALANCED, 0.0), (MSE(), (2, 2), 0.5)], ids=ids
)
def test_row_sums_that_vanish_exactly(loss, counts, level):
    # Free bias: nothing that is zero may be multiplied by an infinite range.
    problem = make(loss, counts, 0.0, 4.0)
    point = origin(problem, [level] * len(counts))
    for low, tol in ((point, None), (cast(point, np.float32), 0.1)):
        found = certified(problem, [low], tol)[0]
        assert int(found.verdict) == Verdict.GLOBAL_MINIMUM
        assert 0 < float(found.gap) < 1e3 * float(np.finfo(low.W.dtype).eps)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize(("loss", "counts"), CONVEX_PROBLEMS, ids=ids)
def test_minima_are_never_saddles_and_proved_down_to_their_accuracy(loss, counts, lam_b):
    problem = make(loss, counts, lam_b)
    end = minimiser(problem)
    near = [perturbed(end, i, 10.0**-k) for i, k in enumerate((12, 11, 10, 9, 8, 7, 6))]
    near += [rescaled(end, 1 + 1e-8), rescaled(end, 1 + 1e-5)]
    points, tols = [end, *near], np.array([np.nan, 0.0, *TOLERANCES])
    at_each = stacked(points * len(tols)), jnp.asarray(np.repeat(tols, len(points)))
    found = jax.tree.map(np.asarray, certified_at_once(problem, *at_each))
    verdict = found.verdict.reshape(len(tols), len(points))
    assert not np.any(verdict == Verdict.STRICT_SADDLE)
    np.testing.assert_array_equal(verdict.ravel() == Verdict.GLOBAL_MINIMUM, found.gap <= found.tol)
    # NaN is the default tolerance.
    assert np.all(verdict[~(tols < 1e-11), 0] == Verdict.GLOBAL_MINIMUM)
    assert verdict[1, 0] == Verdict.UNDECIDED
    assert found.reason[len(points)] == Reason.TOLERANCE_BELOW_ROUNDING


def test_the_tolerance_is_relative_to_the_depth():
    problem = make(CrossEntropy(), SKEWED)
    end = minimiser(problem)
    depth = float(wide_objective(problem, origin(problem)) - wide_objective(problem, end))
    assert float(certified(problem, [end])[0].tol) == pytest.approx(1e-6 * depth, rel=1e-9)
    assert float(certified(problem, [end], 1e-4)[0].tol) == pytest.approx(1e-4 * depth, rel=1e-9)
    # f − f* = 0.5 % of the depth, by a longer W: a minimum for a tolerance of 5 %, not of 0.1 %.
    longer = Params(1.1 * end.W, end.H, end.b)
    excess = float(wide_objective(problem, longer) - wide_objective(problem, end)) / depth
    assert 1e-3 < excess < 1e-2
    assert verdicts(problem, [longer], 0.2) == [Verdict.GLOBAL_MINIMUM]
    assert verdicts(problem, [longer], 1e-3) == [Verdict.NOT_CRITICAL]


def test_tolerances_that_mean_nothing_are_refused():
    problem = make(CrossEntropy(), BALANCED)
    for tol in (-1e-3, 1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tol"):
            certify(problem, origin(problem), tol=tol)


UNKNOWN = CustomLoss(softmax_entropy)
CONVEX_CUSTOM = CustomLoss(softmax_entropy, convex=True)
BOUNDED = CustomLoss(softmax_entropy, convex=True, lower_bound=0.0)


@pytest.mark.parametrize(
    ("loss", "lam_b", "reason"),
    [
        (UNKNOWN, 1e-2, Reason.CONVEXITY_UNKNOWN),
        (CONVEX_CUSTOM, 1e-2, Reason.CONVEXITY_UNKNOWN),
        (BOUNDED, 0.0, Reason.BIAS_UNBOUNDED),
        (BOUNDED, 1e-2, Reason.GAP_CLOSED),
    ],
    ids=["unknown", "no infimum", "free bias", "known"],
)
def test_custom_losses_are_believed_only_as_far_as_declared(loss, lam_b, reason):
    known = make(CrossEntropy(), SKEWED, lam_b)
    problem = make(loss, SKEWED, lam_b)
    found = certified(problem, [minimiser(known)])[0]
    assert int(found.reason) == reason
    proved = reason is Reason.GAP_CLOSED
    assert int(found.verdict) == (Verdict.GLOBAL_MINIMUM if proved else Verdict.UNDECIDED)
    assert bool(np.isfinite(found.gap)) is proved


def test_without_decay_nothing_is_proved():
    for decays in ({"lam_w": 0.0, "lam_h": 1e-2}, {"lam_w": 1e-2, "lam_h": 0.0}):
        problem = Problem(loss=MSE(), class_counts=BALANCED, dim=4, lam_b=None, **decays)
        fitted = minimiser(make(MSE(), BALANCED, None, 1e-5))
        for found in certified(problem, [fitted, rescaled(fitted, 1e4), rescaled(fitted, 1e-4)]):
            assert int(found.verdict) == Verdict.NOT_CRITICAL
            assert float(found.gap) == np.inf
    # A perfect fit is critical, and as low as f can be; but that is not what is proved here.
    problem = Problem(loss=MSE(), class_counts=BALANCED, dim=4, lam_w=0.0, lam_h=0.0, lam_b=None)
    targets = jnp.repeat(jnp.eye(4, 3), 2, axis=1)
    found = certified(problem, [Params(jnp.eye(3, 4), targets, None)])[0]
    assert float(found.value) == float(found.grad_norm) == 0.0
    assert int(found.verdict) == Verdict.UNDECIDED
    assert int(found.reason) == Reason.NO_DECAY


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_points_that_are_not_finite(bad):
    for problem in (make(CrossEntropy(), BALANCED, 1e-2), make(MSE(), BALANCED)):
        point = gaussian(problem, 0, 1.0)
        broken = Params(point.W.at[0, 0].set(bad), point.H, point.b)
        found = certified(problem, [broken, point])
        assert int(found[0].verdict) != Verdict.GLOBAL_MINIMUM
        if not np.isfinite(bad):
            assert int(found[0].verdict) == Verdict.UNDECIDED
            assert int(found[0].reason) == Reason.NON_FINITE
        assert int(found[1].verdict) == Verdict.NOT_CRITICAL


def test_single_precision_says_so_and_refuses_what_it_cannot_resolve():
    problem = make(LabelSmoothing(0.1), BALANCED, 1e-2)
    low = cast(minimiser(problem), np.float32)
    found = certify(problem, low, tol=1e-3)
    assert found.dtype == np.float32
    assert found.verdict is Verdict.GLOBAL_MINIMUM
    assert "float32" in found.explain()
    for tol in (None, 1e-9):
        refused = certify(problem, low, tol)
        assert (refused.verdict, refused.reason) == (
            Verdict.UNDECIDED,
            Reason.TOLERANCE_BELOW_ROUNDING,
        )
        assert "use float64" in refused.explain()
    # Logits of 1e8 have no digits left: the remedy is float64 here too, whatever the gradient.
    lost = certify(problem, cast(gaussian(problem, 0, 1e4), np.float32))
    assert lost.verdict in (Verdict.NOT_CRITICAL, Verdict.UNDECIDED)
    assert "run a solver" in lost.explain() or "use float64" in lost.explain()


def test_a_batch_equals_its_points():
    problem = make(CrossEntropy(), SKEWED)
    end = minimiser(problem)
    points = [end, perturbed(end, 0, 0.1), gaussian(problem, 0, 1.0), origin(problem)]
    batch = quick_jit(jax.vmap(lambda point: certify(problem, point)))(stacked(points))
    for i, point in enumerate(points):
        mapped = jax.tree.map(lambda x, i=i: x[i], batch)
        single = certify(problem, point)
        assert isinstance(single.verdict, Verdict)
        assert isinstance(single.reason, Reason)
        assert mapped.verdict.dtype == mapped.reason.dtype == np.int32
        assert (int(mapped.verdict), int(mapped.reason)) == (single.verdict, single.reason)
        for name in ("value", "lower_bound", "gap", "grad_norm", "dual_norm", "tol", "rounding"):
            assert float(getattr(mapped, name)) == pytest.approx(
                float(getattr(single, name)), rel=1e-9, abs=1e-14
            ), name
        text = single.explain()
        assert single.verdict.name in text
        assert f"{float(single.gap):.2e}" in text


def test_one_trace_serves_every_hyperparameter():
    traces = []

    def counting(z, label, sharpness):
        traces.append(1)
        return jax.nn.logsumexp(sharpness * z) - sharpness * z[label]

    def run(sharpness, mu, lam_b, tol, scale):
        loss = CustomLoss(counting, {"sharpness": sharpness}, convex=True, lower_bound=0.0)
        problem = make(loss, BALANCED, lam_b, mu)
        return certify(problem, gaussian(problem, 0, scale), tol)

    first = run(1.0, 1e-2, 1e-2, None, 1.0)
    count = len(traces)
    second = run(2.0, 1e-4, 0.0, 1e-3, 0.1)
    assert count == len(traces) > 0
    assert float(first.value) != float(second.value)
