"""Verdicts for the focal loss, where ‖G‖₂ ≤ μ proves nothing by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import newton
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, certified, make, origin, perturbed
from scipy.special import softmax

from ufm import (
    Focal,
    Params,
    Problem,
    Reason,
    Verdict,
    certify,
    collapse_threshold,
    global_minimum,
    solve,
)
from ufm.model.start import init_params


def focal_jump(mu, classes=100) -> Problem:
    return Problem.balanced(
        loss=Focal(3.0),
        num_classes=classes,
        per_class=1,
        dim=classes - 1,
        lam_w=mu,
        lam_h=mu,
        lam_b=None,
    )


def test_spurious_focal_minima_are_never_called_global(full):
    problem = focal_jump(0.0114)
    minimum = global_minimum(problem)
    frame = minimum.params(jax.random.key(0))
    for dead in (0, 1, 5, 100) if full else (0, 1, 100):
        # Classes without a vector of their own stay so: minima for ‖G‖₂ ≤ μ, the convex criterion.
        alive = np.arange(100) >= dead
        W, H = np.asarray(frame.W) * alive[:, None], np.asarray(frame.H) * alive
        start = Params(jnp.asarray(W), jnp.asarray(H), None)
        end = solve(problem, start).params
        found = certify(problem, end)
        assert float(found.dual_norm) <= (1 + 1e-6) * float(found.threshold)
        assert float(found.grad_norm) <= 1e-8
        p = np.diagonal(softmax(np.asarray(end.W) @ np.asarray(end.H), axis=0))
        assert np.sum(p < 0.0575) == dead  # outside the region of convexity
        if dead:
            assert float(found.value) > float(minimum.value) + 5e-4
            expected = (Verdict.LOCAL_MINIMUM, Reason.ALL_CURVATURES_POSITIVE)
            assert (found.verdict, found.reason) == expected
        else:
            assert found.verdict is Verdict.GLOBAL_MINIMUM


def test_numbers_of_the_problem_alone_are_those_of_a_batch():
    for lam_b in (0.0, 1e-2):
        # Computed on the host for a known problem, and in the program for one in a batch.
        problem = make(Focal(3.0), BALANCED, lam_b)
        end = global_minimum(problem).params(jax.random.key(0))
        for point in (end, perturbed(end, 0, 1e-2)):
            found, (other,) = certify(problem, point), certified(problem, [point])
            size = 64 * np.finfo(float).eps * float(other.depth + other.value)
            for field in ("lower_bound", "gap", "region_gap", "rounding", "tol"):
                np.testing.assert_allclose(
                    getattr(found, field), getattr(other, field), rtol=1e-6, atol=size
                )


def test_the_origin_of_the_focal_loss_within_its_window():
    # Saddle below 0.01106, spurious minimum up to 0.01175, the global one beyond.
    expected = {0.0110: Verdict.STRICT_SADDLE, 0.0111: Verdict.LOCAL_MINIMUM}
    expected |= {0.0117: Verdict.LOCAL_MINIMUM, 0.0118: Verdict.GLOBAL_MINIMUM}
    for mu, verdict in expected.items():
        problem = focal_jump(mu)
        assert certify(problem, origin(problem)).verdict is verdict


@pytest.mark.slow  # as the spurious origin in test_curvature.py, of 20 classes
def test_a_spurious_minimum_of_moderate_size_is_counted_as_local():
    # K = 24: 1/K < p* = 0.0575, so the origin is still a minimum just below the collapse threshold.
    limit = 0.999 * float(collapse_threshold(focal_jump(1e-2, 24)).mu)
    problem = focal_jump(limit, 24)
    point = origin(problem)
    found = certify(problem, point)
    assert (found.verdict, found.reason) == (Verdict.LOCAL_MINIMUM, Reason.ALL_CURVATURES_POSITIVE)
    assert np.linalg.eigvalsh(dense_hessian(problem, point))[0] > 0
    assert float(global_minimum(problem).value) < float(found.value) - 1e-4


def test_minimum_on_the_convex_region_of_the_focal_loss():
    for lam_b in (0.0, 1e-2):
        # Imbalanced: no scalar bound. All p_y are near 1 at small decays.
        problem = make(Focal(2.0), SKEWED, lam_b, mu=1e-3)
        end = solve(problem, init_params(problem, jax.random.key(0), scale=0.5), tol=1e-13).params
        found = certify(problem, end)
        assert found.verdict is Verdict.MINIMUM_ON_CONVEX_REGION
        assert found.reason is Reason.REGION_GAP_CLOSED
        assert float(found.lower_bound) == -np.inf
        threshold = float(problem.loss.convex_above())
        for other in certified(problem, [perturbed(end, i, 0.3) for i in range(12)]):
            # Everything inside lies above the bound; outside, nothing is said.
            assert float(other.value) >= float(found.value - found.region_gap)
        # A class pushed below p*: silence.
        W = np.array(end.W) * np.array([[1.0], [1.0], [-5.0]])
        V = W @ np.asarray(end.H) + np.asarray(end.b)[:, None]
        assert np.min(softmax(V, axis=0)[problem.labels, np.arange(7)]) < threshold
        flipped = Params(jnp.asarray(W), end.H, end.b)
        assert float(certified(problem, [flipped])[0].region_gap) == np.inf


def test_the_convex_region_ends_at_its_threshold():
    problem = make(Focal(2.0), BALANCED, mu=1e-3)
    threshold = float(problem.loss.convex_above())
    for p, inside in ((threshold * 1.001, True), (threshold * 0.9999, False), (threshold, False)):
        margin = np.log(p / (1 - p) * 2)
        W = jnp.asarray(np.pad(margin * np.eye(3), ((0, 0), (0, 1))))
        H = jnp.asarray(np.pad(np.repeat(np.eye(3), 2, axis=1), ((0, 1), (0, 0))))
        found = certified(problem, [Params(W, H, None)])[0]
        assert bool(np.isfinite(found.region_gap)) is inside
        assert int(found.verdict) != Verdict.MINIMUM_ON_CONVEX_REGION


def test_imbalanced_focal_loss_outside_its_region_is_undecided():
    problem = make(Focal(2.0), SKEWED, 1e-2, mu=1.0)
    found = certified(problem, [newton(problem, origin(problem))])[0]
    assert int(found.verdict) in (Verdict.UNDECIDED, Verdict.MINIMUM_ON_CONVEX_REGION)
    assert float(found.lower_bound) == -np.inf
