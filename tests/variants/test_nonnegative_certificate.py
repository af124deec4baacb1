"""Certificates on H ≥ 0: no bound above an attained value, and verdicts against brute force."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cone_oracle import feasible, make, nearby
from convex_oracle import wide_objective
from model_oracle import dense_hessian, objective_and_gradient

import ufm
from ufm.model.params import Params
from ufm.variants.nonnegative.second_order import is_local_minimum, orbit_tangents

COUNTS, DIM, MU = (2, 2, 2, 2), 8, 0.04
PLAIN = make(ufm.CrossEntropy(), COUNTS, DIM, MU)
#: Declared convex, with the value of CE: the bound without a conjugate.
CUSTOM = ufm.CustomLoss(lambda z, k: jax.nn.logsumexp(z) - z[k], convex=True, lower_bound=0.0)
CASES = {
    "CE": PLAIN,
    "CE, skewed": make(ufm.CrossEntropy(), (4, 2, 1, 1), DIM, MU, None, 3.0),
    "LS, skewed, free bias": make(ufm.LabelSmoothing(0.1), (4, 2, 1, 1), DIM, MU, 0.0),
    "MSE, bias": make(ufm.MSE(), COUNTS, DIM, MU, 1e-2),
    "MSE, skewed, free bias": make(ufm.MSE(), (4, 2, 1, 1), DIM, MU, 0.0),
    "FL, skewed": make(ufm.Focal(3.0), (4, 2, 1, 1), DIM, MU),
    "FL, free bias": make(ufm.Focal(3.0), COUNTS, DIM, MU, 0.0),
    "FL, bias": make(ufm.Focal(2.0), COUNTS, DIM, 0.1, 1e-2),
    "custom": make(CUSTOM, (4, 2, 1, 1), DIM, MU, 1e-1),
}


@functools.cache
def best_point(name: str) -> Params:
    """The point of lowest value known: the reported minimiser, or the best of some runs."""
    problem = CASES[name]
    minimum = ufm.global_minimum(problem)
    assert np.isfinite(minimum.value)
    return minimum.params(None)


def entry(batch, i):
    return jax.tree.map(lambda x: x[i], batch)


def together(points):
    return jax.tree.map(lambda *x: jnp.stack(x), *points)


def points_of(name: str, count: int, seed: int = 0) -> list[Params]:
    best = best_point(name)
    scattered = [
        feasible(CASES[name], seed + i, scale)
        for i, scale in enumerate(np.geomspace(1e-3, 5.0, count))
    ]
    close = [nearby(best, seed + i, r) for i, r in enumerate(np.geomspace(1e-9, 0.5, count))]
    return [*scattered, *close, best]


def fuzzed(name: str, count: int, seed: int = 0) -> float:
    """The largest excess of a lower bound over the attained value, relative to 1 + f."""
    problem = CASES[name]
    attained = float(wide_objective(problem, best_point(name)))
    found = together([ufm.certify(problem, x) for x in points_of(name, count, seed)])
    lower = np.asarray(found.lower_bound)
    assert np.all(np.isfinite(lower) | np.isneginf(lower))
    # Every point with a verdict of a global minimum is as low as the best.
    claimed = np.asarray(found.verdict) == int(ufm.Verdict.GLOBAL_MINIMUM)
    excess = np.asarray(found.value) - np.asarray(found.tol) - attained
    assert not np.any(claimed & (excess > 0))
    return float(np.max(lower - attained))


@pytest.mark.parametrize("name", CASES)
def test_no_bound_exceeds_an_attained_value(name, full):
    assert fuzzed(name, 15 if full else 5) <= 0.0


@pytest.mark.parametrize("name", [n for n in CASES if n != "custom"])
def test_minima_are_certified(name):
    problem = CASES[name]
    found = ufm.certify(problem, best_point(name))
    assert found.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(found.gap) < 1e-9
    assert float(found.dual_norm / found.threshold) == pytest.approx(1.0, abs=1e-6) or (
        "FL" in name
    )


@functools.cache
def stuck() -> Params:
    """A local minimum in which no coordinate serves class 1."""
    batch = ufm.init_params(PLAIN, jax.random.key(0), num_starts=1)
    start = entry(batch, 0)
    # A coordinate pair for each of the other classes, and the invisible class on none.
    W, H = np.zeros((4, DIM)), np.zeros((DIM, 8))
    for r, k in enumerate((0, 2, 3, 0, 2, 3, 0, 2)):
        W[:, r] = np.eye(4)[k] - 0.25
        H[r, 2 * k : 2 * k + 2] = 1.0 + 0.1 * r
    start = Params(jnp.asarray(W), jnp.asarray(H), None)
    return ufm.solve(PLAIN, start).params


def test_a_class_without_coordinate_is_a_local_minimum(full):
    found = ufm.certify(PLAIN, stuck())
    assert found.verdict is ufm.Verdict.LOCAL_MINIMUM
    assert np.asarray(found.invisible).tolist() == [False, True, False, False]
    star, origin = ufm.global_minimum(PLAIN).value, np.log(4)
    assert float(found.value) == pytest.approx(star + (origin - star) / 4, rel=1e-10)
    assert float(found.lift) == pytest.approx((origin - star) / 4, rel=1e-9)
    said = found.explain()
    assert "No coordinate serves class 1: f = f* + " in said
    assert "f* + (1/4)(f(0) − f*)" in said
    assert "γ°/μ" in said
    # In many feasible directions f rises, or stays as it is along a rotation.
    rng = np.random.default_rng(0)
    base = wide_objective(PLAIN, stuck())
    for _ in range(400 if full else 80):
        t = 10.0 ** rng.uniform(-4, -2)
        W = np.asarray(stuck().W) + t * rng.standard_normal((4, DIM))
        H = np.maximum(np.asarray(stuck().H) + t * rng.standard_normal((DIM, 8)), 0.0)
        assert wide_objective(PLAIN, Params(jnp.asarray(W), jnp.asarray(H), None)) > base


def padded(params: Params) -> Params:
    """One coordinate more, which nothing uses."""
    W, H = np.pad(params.W, ((0, 0), (0, 1))), np.pad(params.H, ((0, 1), (0, 0)))
    return Params(jnp.asarray(W), jnp.asarray(H), params.b)


@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_with_an_unused_coordinate_it_is_a_strict_saddle(ratio):
    balance = ratio**0.5
    at = Params(stuck().W / balance, stuck().H * balance, None)
    problem = make(ufm.CrossEntropy(), COUNTS, DIM + 1, MU, None, ratio)
    point = padded(at)
    found = ufm.certify(problem, point)
    assert found.verdict is ufm.Verdict.STRICT_SADDLE
    # Its zero entries have no gradient: complementarity is not strict.
    assert is_local_minimum(PLAIN, stuck(), 1e-14)
    assert not is_local_minimum(problem, point, 1e-14)
    direction = found.escape.direction
    assert float(direction.H.min()) >= 0
    # The curvature of the theory, and that of f itself by differences.
    expected = -2 * (found.dual_norm - found.threshold) * MU / (MU * ratio + MU / ratio)
    assert float(found.escape.curvature) == pytest.approx(float(expected), rel=1e-8)
    there = [
        wide_objective(problem, jax.tree.map(lambda x, d, t=t: x + t * d, point, direction))
        for t in (0.0, 1e-3)
    ]
    assert 2e6 * float(there[1] - there[0]) == pytest.approx(
        float(found.escape.curvature), rel=1e-3
    )


def test_a_used_coordinate_is_no_way_down():
    # Along it the Hessian is negative, too, but zero entries of H have positive gradients.
    found = ufm.certify(PLAIN, stuck())
    assert float(found.escape.curvature) < 0
    assert found.verdict is not ufm.Verdict.STRICT_SADDLE


def test_on_free_variables_the_hessian_is_that_of_the_oracle():
    problem, params = PLAIN, stuck()
    whole = dense_hessian(problem, params)
    _, gradient = objective_and_gradient(problem, params)
    H = np.asarray(params.H).ravel()
    held = np.zeros(len(whole), bool)
    held[32 : 32 + H.size] = (H == 0) & (gradient[32 : 32 + H.size] >= 0)
    assert held.sum() == 8 * 8 - 8 * 2  # one class of two samples a coordinate
    found = ufm.dense_hessian(problem, params)
    np.testing.assert_allclose(found, whole[np.ix_(~held, ~held)], atol=1e-13)
    # The zeros are splittings of coordinates: r_k − 1 for each class, with 3, 3 and 2 of them.
    values = np.linalg.eigvalsh(found)
    assert np.sum(np.abs(values) < 1e-12) == 2 + 2 + 1
    assert np.sort(values)[0] > -1e-12
    rng = np.random.default_rng(0)
    direction = Params(
        jnp.asarray(rng.standard_normal((4, DIM))), jnp.asarray(rng.standard_normal((DIM, 8))), None
    )
    product = ufm.hvp(problem, params, direction)
    flat = np.concatenate([np.ravel(direction.W), np.ravel(direction.H)])
    expected = np.where(held, 0.0, whole @ np.where(held, 0.0, flat))
    together_ = np.concatenate([np.ravel(product.W), np.ravel(product.H)])
    np.testing.assert_allclose(together_, expected, atol=1e-13)


def test_points_that_are_not_critical_or_minima_are_not_called_so():
    start = ufm.init_params(PLAIN, jax.random.key(0))
    assert ufm.certify(PLAIN, start).verdict is ufm.Verdict.NOT_CRITICAL
    # Critical, but for a free entry that is held at zero although its gradient is negative.
    best = best_point("CE")
    W, H = np.asarray(best.W), np.asarray(best.H).copy()
    H[:, 0] = 0.0
    found = ufm.certify(PLAIN, Params(jnp.asarray(W), jnp.asarray(H), None))
    assert found.verdict is ufm.Verdict.NOT_CRITICAL


def test_the_cone_decides_and_not_the_plain_dual_norm():
    best = best_point("CE")
    plain = dataclasses.replace(PLAIN, features=None)
    free = ufm.certify(plain, best)
    # An orthogonal frame is no minimum of the plain model: ‖G‖₂ = μ √(K/(K−1)) there.
    assert free.verdict is not ufm.Verdict.GLOBAL_MINIMUM
    assert float(free.dual_norm / free.threshold) == pytest.approx(np.sqrt(4 / 3), rel=1e-9)


def test_negative_features_are_refused_and_never_certified():
    best = best_point("CE")
    below = dataclasses.replace(best, H=best.H - 1e-15)
    with pytest.raises(ValueError, match=r"params\.H must be ≥ 0"):
        ufm.certify(PLAIN, below)
    codes = jax.vmap(lambda x: ufm.certify(PLAIN, x).verdict)(together([best, below]))
    assert codes.tolist() == [int(ufm.Verdict.GLOBAL_MINIMUM), int(ufm.Verdict.UNDECIDED)]


@pytest.mark.parametrize("name", ["CE, skewed", "FL, free bias"])
def test_single_precision_is_bounded_or_undecided(name):
    problem, best = CASES[name], best_point(name)
    attained = float(wide_objective(problem, best))
    rough = jax.tree.map(lambda x: x.astype(jnp.float32), best)
    found = ufm.certify(problem, rough)
    assert float(found.lower_bound) <= attained
    assert found.verdict is ufm.Verdict.UNDECIDED
    assert found.reason is ufm.Reason.TOLERANCE_BELOW_ROUNDING
    wide = ufm.certify(problem, rough, tol=1e-2)
    assert wide.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(wide.lower_bound) <= attained


def test_a_false_declaration_is_no_proof():
    # CE of all the logits that the constructor tries, and with a dent where runs arrive.
    dent = ufm.CustomLoss(
        lambda z, k, depth: jax.nn.logsumexp(z) - z[k]
        - depth * jnp.exp(-1e4 * (z[k] - jnp.mean(z) - 1.49) ** 2),
        params={"depth": jnp.asarray(0.1)}, convex=True, lower_bound=-1.0,
    )  # fmt: skip
    problem = make(dent, COUNTS, DIM, MU)
    W, H = np.zeros((4, DIM)), np.zeros((DIM, 8))
    W[:, :4], H[:4] = 2.0 * (np.eye(4) - 0.25), np.repeat(np.eye(4), 2, axis=1)
    found = ufm.certify(problem, Params(jnp.asarray(W), jnp.asarray(H), None))
    assert found.reason is ufm.Reason.DECLARATION_REFUTED


@pytest.mark.parametrize(("of_w", "of_h"), [(1.0, 1.0), (1.0, 1e-9), (1e-9, 1e-9), (1e-3, 1e4)])
def test_rotations_that_move_zeros_are_no_tangents_at_any_scale(of_w, of_h):
    """An orthogonal frame in five dimensions: f is constant along none, as all of them move one."""
    W, H = np.zeros((4, 5)), np.zeros((5, 4))
    W[:, :4], H[:4] = of_w * (np.eye(4) - 0.25), of_h * np.eye(4)
    found = orbit_tangents(Params(jnp.asarray(W), jnp.asarray(H), None), H <= 0)
    assert len(found) == 0


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_rotations_of_positive_features_are_tangents_at_any_scale(scale):
    """Of rank 4 in five dimensions: 6 planes within, and 4 with the fifth."""
    W, H = scale * np.eye(4, 5) - 0.25 * scale * np.eye(4, 5).mean(0), scale * np.ones((5, 4))
    W[:, 4] = 0.0
    found = orbit_tangents(Params(jnp.asarray(W), jnp.asarray(H), None), H <= 0)
    assert len(found) == 10
