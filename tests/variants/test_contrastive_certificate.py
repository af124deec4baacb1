"""Certificates of contrastive problems: no bound above an attained value, saddles, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contrastive_oracle import along_geodesic, loss, semidefinite_minimum
from scipy.optimize import minimize_scalar

import ufm
from ufm import Reason, Verdict
from ufm._support.pytree import entry
from ufm.variants.contrastive.dual_bound import (
    best_bound,
    cosines,
    same_class,
    slopes_at,
    tangent_bound,
)
from ufm.variants.contrastive.second_order import _hessian, _tangent_basis

BATCHES = ((0, 1, 2, 4, 5), (2, 3, 5, 6, 8), (4, 5, 6, 7, 8), (0, 3, 7, 8, 1))
#: Full batch, batches and imbalance: counts, d, τ, batches.
CASES = [
    ((4, 4, 4), 3, 0.5, None),
    ((4, 4, 4), 2, 0.1, None),
    ((6, 3, 1), 3, 1.0, None),
    ((5, 2, 2, 1), 2, 0.2, None),
    ((3, 3, 3), 4, 0.5, BATCHES),
]


def lowest(problem, count=4):
    """The ends of some runs."""
    runs = ufm.solve_many(problem, jax.random.key(0), num_starts=count)
    return [entry(runs.params, i) for i in range(count)]


@pytest.mark.parametrize("case", CASES)
def test_no_bound_exceeds_an_attained_value(case, full):
    """At many points: far from collapse, collapsed, near minima, and at the ends of runs."""
    counts, dim, tau, batches = case
    problem = ufm.ContrastiveProblem(counts, dim, tau, batches=batches)
    ends = lowest(problem)
    attained = min(loss(np.asarray(end.H), counts, tau, batches) for end in ends)
    rng, highest = np.random.default_rng(0), -np.inf
    for i in range(200 if full else 48):
        H = rng.standard_normal((dim, sum(counts)))
        if i % 4 == 1:
            H = H[:, problem.labels]
        if i % 4 > 1:
            size = 10.0 ** rng.uniform(-9, 0) if i >= 8 else 0.0
            H = np.asarray(ends[i % len(ends)].H) + size * H
        point = np.asarray(problem.point(H).H)
        highest = max(highest, best_bound(problem, point).lower)
    assert highest <= attained
    # They are sharp where d ≥ rank X*: nothing is subtracted but rounding and the solver's error.
    if dim >= 3:
        assert highest >= attained - 1e-10


@pytest.mark.parametrize("case", [CASES[0], CASES[4]])
def test_the_bound_holds_at_matrices_that_no_point_has(case):
    """The tangent may touch anywhere: at any symmetric matrix, of any sign."""
    counts, dim, tau, batches = case
    problem = ufm.ContrastiveProblem(counts, dim, tau, batches=batches)
    best = min(loss(np.asarray(end.H), counts, tau, batches) for end in lowest(problem))
    rng = np.random.default_rng(1)
    for _ in range(50):
        X = rng.uniform(-1, 1, (problem.num_columns,) * 2)
        X = X + X.T
        assert tangent_bound(problem, X).lower <= best


def test_the_bound_is_that_of_the_formula():
    """f − N(−λ_min(diag β + Γ))₊ with Γ from differences of f in the entries of X."""
    counts, dim, tau, batches = CASES[4]
    problem = ufm.ContrastiveProblem(counts, dim, tau, batches=batches)
    X = cosines(np.asarray(problem.point(np.random.default_rng(2).standard_normal((4, 9))).H))
    gamma = np.zeros((9, 9))
    for i, j in np.ndindex(9, 9):
        step = np.zeros((9, 9))
        step[i, j] += 5e-6
        step[j, i] += 5e-6
        up, down = (slopes_at(problem, X + s * step).value for s in (1, -1))
        gamma[i, j] = (up - down) / 2e-5
    M = gamma - np.diag(np.sum(gamma * X, axis=1))
    expected = slopes_at(problem, X).value + 9 * np.linalg.eigvalsh(M)[0]
    found = tangent_bound(problem, X)
    np.testing.assert_allclose(found.lower, expected, rtol=1e-8)
    assert 1e-15 < found.rounding < 1e-11


@pytest.mark.parametrize("close", [False, True], ids=["any cosines", "close rivals, very cold"])
def test_rounding_is_covered(close):
    """f and Γ at a low temperature are within their bounds of those in 40 digits."""
    mpmath = pytest.importorskip("mpmath")
    rng, counts, tau = np.random.default_rng(3), (3, 2), 1e-3 if close else 0.03
    problem = ufm.ContrastiveProblem(counts, 3, tau)
    X = cosines(np.asarray(problem.point(rng.standard_normal((3, 5))).H))
    if close:  # large exponents, whose errors are those of probabilities
        X = cosines(np.zeros((3, 5))) + 0.3 * (1 - np.eye(5)) + 1e-4 * X
    at = slopes_at(problem, X)
    with mpmath.workdps(40):
        t, total = mpmath.mpf(tau), mpmath.mpf(0)
        gamma = mpmath.zeros(5)
        for i in range(5):
            others = [a for a in range(5) if a != i]
            positives = [a for a in others if problem.labels[a] == problem.labels[i]]
            powers = {a: mpmath.exp(mpmath.mpf(X[i, a]) / t) for a in others}
            weight = sum(powers.values())
            total += mpmath.log(weight) / 5
            for a in others:
                share = mpmath.mpf(a in positives) / len(positives)
                total -= share * mpmath.mpf(X[i, a]) / t / 5
                slope = (powers[a] / weight - share) / t / 10
                gamma[i, a] += slope
                gamma[a, i] += slope
        assert abs(total - at.value) <= at.value_rounding
        error = sum(
            abs(gamma[i, j] - mpmath.mpf(at.gamma[i, j])) * (1 + abs(X[i, j]))
            for i, j in np.ndindex(5, 5)
        )
        assert 0 < error <= at.tangent_rounding


@pytest.mark.parametrize(
    ("counts", "tau", "batches"),
    [((3, 2, 1), 1.0, None), ((2, 3, 4), 0.2, None), ((3, 3, 3), 0.5, BATCHES)],
)
def test_minima_are_those_of_a_semidefinite_program(counts, tau, batches):
    """Over all Gram matrices, without the assumption of collapse."""
    problem = ufm.ContrastiveProblem(counts, 4, tau, batches=batches)
    value, X = semidefinite_minimum(counts, tau, batches)
    minimum = ufm.global_minimum(problem)
    assert minimum.is_exact
    assert minimum.value - minimum.lower_bound <= 1e-11
    np.testing.assert_allclose(minimum.value, value, rtol=0, atol=1e-7)
    certificate = ufm.certify(problem, lowest(problem, 1)[0])
    assert certificate.verdict is Verdict.GLOBAL_MINIMUM
    np.testing.assert_allclose(certificate.value, value, rtol=0, atol=1e-7)
    within = X[same_class(problem) > 0].min()
    assert bool(within > 1 - 1e-6) is (batches is None)


# Saddles and open gaps ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "directions",
    [np.array([[1.0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]), np.array([[1.0, 1, -1, -1]] * 3)],
    ids=["all coincide", "pairs of classes"],
)
def test_a_strict_saddle_has_a_direction_of_descent(directions):
    problem = ufm.ContrastiveProblem((5, 5, 5, 5), 3, 0.5)
    params = problem.point(directions[:, problem.labels])
    found = ufm.certify(problem, params)
    assert found.verdict is Verdict.STRICT_SADDLE
    assert "curvature" in found.explain()
    H, B = np.asarray(params.H), np.asarray(found.escape.direction.H)
    np.testing.assert_allclose(np.linalg.norm(B), 1.0, rtol=1e-12)
    along = [loss(along_geodesic(H, B, t), (5,) * 4, 0.5) for t in (-1e-3, 0.0, 1e-3)]
    assert max(along[0], along[2]) < along[1]
    second = (along[0] - 2 * along[1] + along[2]) / 1e-6
    np.testing.assert_allclose(float(found.escape.curvature), second, rtol=1e-4)
    np.testing.assert_allclose(found.escape.predicted, found.escape.curvature, rtol=1e-10)


def test_a_saddle_that_uses_every_dimension():
    """Two classes share a direction of the plane, two others stand symmetrically about it."""
    problem = ufm.ContrastiveProblem((2, 2, 2, 2), 2, 0.5)

    def point(angle):
        angles = np.array([0.0, 0.0, angle, -angle])[problem.labels]
        return np.stack([np.cos(angles), np.sin(angles)])

    best = minimize_scalar(lambda x: loss(point(x), (2,) * 4, 0.5), (1.5, 2.2), tol=1e-12)
    end = ufm.solve(problem, problem.point(point(best.x)), max_steps=2)
    found = ufm.certify(problem, end.params)
    assert np.linalg.matrix_rank(end.params.H) == 2
    assert found.verdict is Verdict.STRICT_SADDLE
    H, B = np.asarray(end.params.H), np.asarray(found.escape.direction.H)
    along = [loss(along_geodesic(H, B, t), (2,) * 4, 0.5) for t in (-1e-3, 0.0, 1e-3)]
    assert max(along[0], along[2]) < along[1]
    second = (along[0] - 2 * along[1] + along[2]) / 1e-6
    np.testing.assert_allclose(float(found.escape.curvature), second, rtol=1e-4)
    np.testing.assert_allclose(found.escape.predicted, found.escape.curvature, rtol=1e-8)


@pytest.mark.parametrize("case", [CASES[2], CASES[4]])
def test_the_dense_hessian_has_the_second_differences_of_the_definition(case):
    counts, dim, tau, batches = case
    problem = ufm.ContrastiveProblem(counts, dim, tau, batches=batches)
    H = np.asarray(problem.point(np.random.default_rng(7).standard_normal((dim, sum(counts)))).H)
    basis = _tangent_basis(H)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-14)
    dense = basis.T @ _hessian(problem, H, slopes_at(problem, cosines(H))) @ basis
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(basis.shape[1])
        B = (basis @ x).reshape(H.shape)
        up, here, down = (
            loss(along_geodesic(H, B, t), counts, tau, batches) for t in (1e-4, 0.0, -1e-4)
        )
        np.testing.assert_allclose(x @ dense @ x, (up - 2 * here + down) / 1e-8, rtol=1e-5)


def test_a_local_minimum_that_is_not_global():
    """In d = rank X* there are some: here two classes of one sample end far apart."""
    counts = (12, 12, 2, 1, 1)
    problem = ufm.ContrastiveProblem(counts, 3, 1.0)
    ends = lowest(problem, 5)
    found = ufm.certify(problem, ends[4])
    assert (found.verdict, found.reason) == (
        Verdict.LOCAL_MINIMUM,
        Reason.ALL_CURVATURES_POSITIVE,
    )
    assert float(found.value) > ufm.global_minimum(problem).value + 1e-3
    H, rng = np.asarray(ends[4].H), np.random.default_rng(0)
    here = loss(H, counts, 1.0)
    for _ in range(50):
        B = rng.standard_normal(H.shape)
        B -= H * (H * B).sum(axis=0)
        B /= np.linalg.norm(B)
        assert loss(along_geodesic(H, B, 1e-2), counts, 1.0) > here


def test_more_classes_than_a_simplex_has_corners_are_not_proven():
    """Six classes in three dimensions: an octahedron, above the value of an ETF in d = 5."""
    problem = ufm.ContrastiveProblem((3,) * 6, 3, 0.5)
    minimum = ufm.global_minimum(problem)
    assert not minimum.is_exact
    np.testing.assert_allclose(
        minimum.lower_bound, np.log(2 + 15 * np.exp(-6 / (5 * 0.5))), rtol=1e-12
    )
    pairs = np.sort(minimum.cosines[~np.eye(6, dtype=bool)])
    np.testing.assert_allclose(pairs, [-1.0] * 6 + [0.0] * 24, atol=1e-8)
    octahedron = np.log(2 + 3 * np.exp((-1 - 1) / 0.5) + 12 * np.exp((0 - 1) / 0.5))
    np.testing.assert_allclose(minimum.value, octahedron, rtol=1e-12)
    found = ufm.certify(problem, minimum.params(jax.random.key(0)))
    assert found.verdict is Verdict.LOCAL_MINIMUM
    assert 0.01 < float(found.gap) < 0.5


def test_verdicts_of_points_that_are_not_critical_or_not_resolved():
    problem = ufm.ContrastiveProblem((5, 5, 5, 5), 3, 0.5)
    start = ufm.init_params(problem, jax.random.key(0))
    assert ufm.certify(problem, start).verdict is Verdict.NOT_CRITICAL
    end = lowest(problem, 1)[0]
    tight = ufm.certify(problem, end, tol=1e-16)
    assert tight.reason is Reason.TOLERANCE_BELOW_ROUNDING
    assert "resolves the gap" in tight.explain()
    loose = ufm.certify(problem, start, tol=0.99)
    assert float(loose.tol) == pytest.approx(0.99 * float(loose.depth))
    near = problem.point(end.H + 1e-2 * np.random.default_rng(0).standard_normal((3, 20)))
    found = ufm.certify(problem, near)
    assert found.verdict is Verdict.NOT_CRITICAL
    true = loss(np.asarray(near.H), (5,) * 4, 0.5) - 1.617852761740
    assert float(found.gap) == pytest.approx(true, abs=1e-10)


def test_low_temperatures_are_undecided_rather_than_wrong():
    """f* − inf f is below rounding: nothing can be told."""
    problem = ufm.ContrastiveProblem((5, 5), 3, 0.03)
    found = ufm.certify(problem, lowest(problem, 1)[0])
    assert found.verdict in (Verdict.UNDECIDED, Verdict.NOT_CRITICAL)


def test_certificates_need_double_precision_and_single_points():
    problem = ufm.ContrastiveProblem((5, 5, 5, 5), 3, 0.5)
    params = lowest(problem, 1)[0]
    single = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    found = ufm.certify(problem, single)
    assert found.value.dtype == jnp.float64
    assert 0 <= float(found.gap) < 1e-9
    with pytest.raises(ValueError, match="one point at a time"):
        jax.vmap(lambda H: ufm.certify(problem, ufm.Params(params.W, H, None)))(params.H[None])
    with jax.enable_x64(False), pytest.raises(ValueError, match="certificates need float64"):
        ufm.certify(problem, single)


# H ≥ 0 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(5, 5, 5, 5), (6, 3, 2, 1)])
def test_non_negative_features_form_an_orthogonal_frame(counts):
    total, tau = sum(counts), 0.5
    problem = ufm.ContrastiveProblem(counts, 5, tau, features=ufm.NonNegative())
    anchors = [n for n in counts if n > 1]
    rows = [n * np.log(n - 1 + (total - n) * np.exp(-1 / tau)) for n in anchors]
    value = sum(rows) / sum(anchors)
    minimum = ufm.global_minimum(problem)
    assert (minimum.kind, minimum.rank, minimum.is_exact) == ("orthogonal frame", 4, True)
    np.testing.assert_allclose(minimum.value, value, rtol=1e-14)
    for key in (None, jax.random.key(1)):
        H = np.asarray(minimum.params(key).H)
        assert H.min() == 0.0
        np.testing.assert_allclose(loss(H, counts, tau), value, rtol=1e-14)
    ends = lowest(problem, 6)
    verdicts = [ufm.certify(problem, end).verdict for end in ends]
    assert verdicts.count(Verdict.GLOBAL_MINIMUM) >= 4
    rng = np.random.default_rng(0)
    for i in range(40):
        moved = 10.0 ** rng.uniform(-6, 0) * rng.random((5, total))
        point = problem.point(np.asarray(ends[i % 6].H) + moved)
        attained = loss(np.asarray(point.H), counts, tau)
        assert float(ufm.certify(problem, point).lower_bound) <= attained


def test_too_few_dimensions_for_an_orthogonal_frame():
    problem = ufm.ContrastiveProblem((3, 3, 3, 3), 3, 0.5, features=ufm.NonNegative())
    minimum = ufm.global_minimum(problem)
    assert not minimum.is_exact
    assert minimum.lower_bound < minimum.value - 0.01
    found = ufm.certify(problem, minimum.params(jax.random.key(0)))
    assert found.verdict is Verdict.UNDECIDED


def test_batches_of_non_negative_features_collapse():
    problem = ufm.ContrastiveProblem((3, 3, 3), 4, 0.5, batches=BATCHES, features=ufm.NonNegative())
    minimum = ufm.global_minimum(problem)
    assert minimum.is_exact
    H = np.eye(4, 3)[:, problem.labels]
    np.testing.assert_allclose(minimum.value, loss(H, (3, 3, 3), 0.5, BATCHES), rtol=1e-14)
    end = lowest(problem, 1)[0]
    assert ufm.certify(problem, end).verdict is Verdict.GLOBAL_MINIMUM


def test_rounding_along_a_rotation_is_no_way_down():
    """At the square along the axes the gradient is exactly 0, and a rotation's curvature is not."""
    counts, tau = (2, 2, 2, 2), 0.5
    problem = ufm.ContrastiveProblem(counts, 2, tau)
    H = np.repeat([[1.0, 0, -1, 0], [0, 1, 0, -1]], 2, axis=1)
    found = ufm.certify(problem, problem.point(H))
    assert float(found.grad_norm) == 0.0
    assert found.verdict is Verdict.LOCAL_MINIMUM
    rng, here = np.random.default_rng(0), loss(H, counts, tau, None)
    for size in (1e-3, 1e-2):
        for _ in range(300):
            near = H + size * rng.standard_normal(H.shape)
            assert loss(near / np.linalg.norm(near, axis=0), counts, tau, None) > here
