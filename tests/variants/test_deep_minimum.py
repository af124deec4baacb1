"""Global minima of deep linear models, their proofs, and values that no point undercuts."""

import jax
import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize

import ufm
from ufm.collapse.margin_loss import MarginLoss
from ufm.minimum.plane_duals import tangent_planes
from ufm.minimum.structures import TableLoss, minimum_of, structures
from ufm.variants.deep.margin_bound import power_minimum
from ufm.variants.deep.three_classes import Cells, _bounds, lower_bound

BALANCED = ufm.Problem.balanced
CE, LS = ufm.CrossEntropy(), ufm.LabelSmoothing(0.1)
PAIR = "1 pair and 1 dead class (rank 1)"
#: Beside 0.0930145441 and 0.1338547176 of six factors, and 0.0729028394 and 0.1131185919 of eight.
FURTHER_TIES = [
    (6, 0.0929, "simplex ETF"), (6, 0.0931, PAIR), (6, 0.1337, PAIR), (6, 0.1340, "origin"),
    (8, 0.0728, "simplex ETF"), (8, 0.0730, PAIR), (8, 0.1130, PAIR), (8, 0.1132, "origin"),
]  # fmt: skip


def deep(K=3, M=3, e=0.1, n=1, loss=CE, lam_b=None, dim=None, uneven=True):
    """Balanced classes with Λ n^{1/M} = e, and decays that differ."""
    decays = e / n ** (1 / M) * (1.5 if uneven else 1.0) ** (np.arange(M) - (M - 1) / 2)
    return BALANCED(
        loss=loss, num_classes=K, per_class=n, dim=K if dim is None else dim,
        lam_w=float(decays[0]), lam_h=float(decays[-1]), lam_b=lam_b,
        lam_hidden=tuple(map(float, decays[1:-1])),
    )  # fmt: skip


def values_at(Z, M, e, alpha=0.0, rank=None):
    """min over factors of f for Z (…, K, K), one sample for each class, from the definition.

    Singular values beyond a known rank are rounding, which the power p < 1 would enlarge.
    """
    K = Z.shape[-1]
    target = (1 - alpha) * np.eye(K) + alpha / K
    losses = np.logaddexp.reduce(Z, axis=-2) - np.sum(target * Z, axis=-2)
    sizes = np.linalg.svd(Z, compute_uv=False)[..., :rank]
    return losses.mean(axis=-1) + 0.5 * M * e * np.sum(sizes ** (2 / M), axis=-1)


def random_tables(K, count, seed, about=()):
    """Matrices of all ranks and sizes, and such about given ones."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros((1, K, K))]
    for rank in range(1, K + 1):
        left = rng.standard_normal((count, K, rank))
        right = rng.standard_normal((count, rank, K))
        parts.append(left @ right * rng.lognormal(0, 1.5, (count, 1, 1)))
    for Z in about:
        noise = rng.standard_normal((count, K, K)) * 10.0 ** rng.uniform(-6, 0, (count, 1, 1))
        parts.append(Z + noise @ Z)  # of the same rank
        parts.append(Z * (1 + rng.uniform(-0.3, 0.3, (count, 1, 1))))
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("M", "e", "kind"),
    [
        (3, 0.1734, "simplex ETF"),
        (3, 0.1736, PAIR),
        (3, 0.1940, PAIR),
        (3, 0.1944, "origin"),
        (4, 0.1319, "simplex ETF"),
        (4, 0.1321, PAIR),
        (4, 0.1655, PAIR),
        (4, 0.1657, "origin"),
        (6, 0.05, "simplex ETF"),
        *(pytest.param(*case, marks=pytest.mark.repeats) for case in FURTHER_TIES),
    ],
)
def test_three_classes_are_proven_on_both_sides_of_the_ties(M, e, kind, full):
    problem = deep(3, M, e, n=4)
    minimum = ufm.global_minimum(problem)
    assert (minimum.kind, minimum.is_exact) == (kind, True)
    assert 0 <= minimum.value - minimum.lower_bound < 1e-8
    params = minimum.params(jax.random.key(0))
    assert float(ufm.objective(problem, params)) == pytest.approx(minimum.value, rel=1e-13)
    certificate = ufm.certify(problem, params)
    assert certificate.verdict is ufm.Verdict.GLOBAL_MINIMUM
    about = (minimum.logits, np.eye(3) * 3 - 1, 3 * np.array([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0]]))
    found = values_at(random_tables(3, 3000 if full else 600, 1, about), M, e)
    assert np.min(found) >= minimum.lower_bound
    assert np.min(found) < minimum.value + 1e-3


@pytest.mark.parametrize(("M", "e", "alpha"), [(3, 0.15, 0.0), (4, 0.02, 0.1), (6, 0.05, 0.0)])
def test_no_point_of_a_cell_is_below_its_bound(M, e, alpha, full):
    """The minimum over the features, by SciPy, at random W̃ of random cells."""
    rng, count = np.random.default_rng(0), 60 if full else 16
    low = rng.uniform(0, 1, (count, 3)) * [4.0, 4.0, np.pi / 6]
    cells = Cells(low, low + rng.uniform(0, 0.6, (count, 3)) * [1.0, 1.0, np.pi / 12])
    bounds, at_centre = _bounds(cells, e, M, alpha)
    assert np.all(at_centre >= bounds - 1e-12)
    basis = np.array([[2.0, 0.0], [-1.0, 3**0.5], [-1.0, -(3**0.5)]]) / 6**0.5
    target = (1 - alpha) * np.eye(3) + alpha / 3
    closest = np.inf
    for bound, a, b in zip(bounds, *cells, strict=True):
        for _ in range(3):
            t1, t2, angle = rng.uniform(a, b)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            W = basis @ turn * np.array([t1, t2]) ** (0.5 * (M - 1))

            def f(h, W=W):
                Z = W @ h.reshape(2, 3)
                p = np.exp(Z - np.logaddexp.reduce(Z, axis=0))
                value = np.mean(np.logaddexp.reduce(Z, axis=0) - np.sum(target * Z, axis=0))
                gradient = W.T @ (p - target) / 3 + e * h.reshape(2, 3)
                return value + 0.5 * e * h @ h, gradient.ravel()

            best = minimize(f, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-10}).fun
            value = best + 0.5 * (M - 1) * e * (t1 + t2)
            assert value >= bound - 1e-9
            closest = min(closest, value - bound)
    assert closest < 0.02


def test_the_bound_of_a_cell_is_the_least_of_its_plane():
    """The tangent plane at the centre plus the penalty, on a fine grid of the cell."""
    rng, e, M = np.random.default_rng(1), 0.15, 3
    low = rng.uniform(0, 1, (40, 3)) * [4.0, 4.0, np.pi / 6]
    cells = Cells(low, low + rng.uniform(0.1, 1.0, (40, 3)) * [1.0, 1.0, np.pi / 3])
    bounds, _ = _bounds(cells, e, M, 0.0)
    basis = np.array([[2.0, 0.0], [-1.0, 3**0.5], [-1.0, -(3**0.5)]]) / 6**0.5
    for bound, a, b in zip(bounds, *cells, strict=True):
        t1, t2, angle = np.meshgrid(*np.linspace(a, b, 31).T, indexing="ij")
        u = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        v = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
        centre = 0.5 * (a + b)
        axes = np.array(
            [[np.cos(centre[2]), -np.sin(centre[2])], [np.sin(centre[2]), np.cos(centre[2])]]
        )
        table = basis @ (axes * centre[:2] ** (0.5 * (M - 1)))
        gamma, dual, _ = tangent_planes(table[None], e, 0.0)
        square = basis.T @ gamma[0] @ gamma[0].T @ basis
        turned = [np.einsum("...i,ij,...j->...", x, square, x) for x in (u, v)]
        plane = t1 ** (M - 1) * turned[0] + t2 ** (M - 1) * turned[1]
        values = dual[0] - plane / (2 * e) + 0.5 * (M - 1) * e * (t1 + t2)
        assert np.min(values) >= bound - 1e-12
        # Between two angles of the grid the cosine is larger by up to (step)²/2 · 4.
        step = (b[2] - a[2]) / 30
        size = np.max(np.abs(t1 ** (M - 1) - t2 ** (M - 1))) * np.linalg.norm(square)
        assert np.min(values) <= bound + size * step**2 / e + 1e-12


def test_a_proof_does_not_close_above_the_minimum():
    """With a claimed value above f*, the bound stays below f*; with a rank of 1, above it."""
    e, M = 0.1, 3
    loss = TableLoss(CE, 3)
    values = {x.name: minimum_of(x, loss, M, e).value for x in structures(3, 2)}
    etf, pair = values["simplex ETF"], values["1 pair and 1 dead class"]
    proof = lower_bound(e, M, 0.0, pair, 1e-6)
    assert proof.bound <= etf < pair
    narrow = lower_bound(e, M, 0.0, pair, 1e-6, rank=1)
    assert narrow.complete
    assert etf < narrow.bound <= pair
    minimum = ufm.global_minimum(deep(3, M, e, n=2, dim=1))
    assert minimum.is_exact
    assert minimum.value == pytest.approx(pair, rel=1e-12)


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 0.1])
@pytest.mark.parametrize("loss", [CE, LS], ids=lambda x: x.name)
def test_two_classes_are_proven(loss, lam_b):
    """Against the scalar problem at 40 digits."""
    M, e = 4, 0.05
    problem = deep(2, M, e, n=3, loss=loss, lam_b=lam_b)
    minimum = ufm.global_minimum(problem)
    alpha = float(getattr(loss, "alpha", 0.0))
    with mpmath.workdps(40):

        def f(s):
            loss = mpmath.log(1 + mpmath.exp(-s)) + mpmath.mpf(alpha) / 2 * s
            return loss + M * mpmath.mpf(e) / 2 * mpmath.sqrt(s)

        s = mpmath.findroot(lambda s: mpmath.diff(f, s), 3)
        expected = min(f(s), f(0))
    assert minimum.is_exact
    assert minimum.value == pytest.approx(float(expected), rel=1e-13)
    assert 0 <= minimum.value - minimum.lower_bound < 1e-10
    params = minimum.params(jax.random.key(0))
    assert ufm.certify(problem, params).verdict is ufm.Verdict.GLOBAL_MINIMUM


def test_the_scalar_bound_is_the_minimum_of_a_fine_scan():
    for K, loss in ((2, CE), (5, LS), (10, CE)):
        phi = MarginLoss(loss, K)
        for p in (1.0, 2 / 3, 0.5, 1 / 3):
            for factor in (1e-6, 1e-3, 0.03, 0.3, 3.0):
                bound, place = power_minimum(phi, factor, p)
                s = np.concatenate([[0.0], np.geomspace(1e-8, 60.0, 40001)])
                scan = phi.value(s) + factor * s**p
                assert bound <= np.min(scan)
                assert bound > np.min(scan) - 1e-6 * (1e-6 + np.min(scan))
                assert place >= 0


@pytest.mark.parametrize(("K", "M", "e"), [(4, 3, 0.02), (5, 4, 0.05), (4, 3, 0.3)])
def test_the_margin_bound_is_below_every_point(K, M, e, full):
    problem = deep(K, M, e)
    minimum = ufm.global_minimum(problem)
    about = (minimum.logits, 4 * np.eye(K) - 4 / K)
    found = values_at(random_tables(K, 4000 if full else 800, 2, about), M, e)
    assert np.min(found) >= minimum.lower_bound
    if not minimum.is_exact:
        assert minimum.value > minimum.lower_bound
        assert "best known point" in minimum.reason
        assert "not proven" in minimum.reason


def test_unequal_classes_have_a_value_and_a_bound(full):
    counts = (3, 2, 1)
    problem = ufm.Problem(
        loss=CE, class_counts=counts, dim=3, lam_w=0.02, lam_h=0.02, lam_b=None, lam_hidden=(0.02,)
    )
    minimum = ufm.global_minimum(problem)
    assert not minimum.is_exact
    assert minimum.lower_bound < minimum.value
    params = minimum.params(jax.random.key(0))
    assert float(ufm.objective(problem, params)) == pytest.approx(minimum.value, rel=1e-12)
    n = np.array(counts, float)
    Z = random_tables(3, 4000 if full else 800, 3, (minimum.logits * np.sqrt(n),))
    logits = Z / np.sqrt(n)
    losses = np.logaddexp.reduce(logits, axis=-2) - np.einsum("...kk->...k", logits)
    sizes = np.linalg.svd(Z, compute_uv=False)
    values = losses @ (n / 6) + 0.03 * np.sum(sizes ** (2 / 3), axis=-1)
    assert np.min(values) >= minimum.lower_bound
    assert np.min(values) < minimum.value + 1e-6


TABLE = [
    (3, 3, 0.18, "1 pair and 1 dead class", 1.0665225579, 1.0764590725),
    (3, 4, 0.15, "1 pair and 1 dead class", 1.0466214042, 1.0880695060),
    (4, 3, 0.05, "orthoplex", 0.5910679883, 0.6036589862),
    (4, 4, 0.01, "orthoplex", 0.1398987508, 0.1528772781),
    (5, 3, 0.01, "2 pairs and 1 single class", 0.1986253150, 0.2018594241),
    (5, 4, 0.01, "regular polygon", 0.1829795706, 0.2037992109),
    (6, 3, 0.01, "orthoplex", 0.2354634308, 0.2522386656),
    (6, 3, 1e-4, "orthoplex", 0.0034930548, 0.0037081059),
    (10, 3, 5e-4 * 100 ** (1 / 3), "orthoplex", 0.1079982706, 0.1223657320),
]


@pytest.mark.parametrize(("K", "M", "e", "name", "best", "etf"), TABLE)
def test_structures_have_the_values_of_polished_runs(K, M, e, name, best, etf):
    loss = TableLoss(CE, K)
    found = [x for s in structures(K, K) if (x := minimum_of(s, loss, M, e)) is not None]
    lowest = min(found, key=lambda x: x.value)
    assert lowest.name == name
    assert lowest.value == pytest.approx(best, abs=6e-11)
    assert next(x.value for x in found if x.name == "simplex ETF") == pytest.approx(etf, abs=6e-11)
    for each in found:
        assert each.value == pytest.approx(
            float(values_at(each.table, M, e, rank=each.rank)), rel=1e-12
        )
        assert np.linalg.matrix_rank(each.table, tol=1e-6) == each.rank


def test_other_losses_have_the_same_structures(full):
    """The value by the loss's own derivatives is that of the formulas for cross-entropy."""
    K = 5 if full else 4
    direct, general = TableLoss(CE, K), TableLoss(ufm.Focal(0.0), K)
    for each in structures(K, K):
        x, y = (minimum_of(each, loss, 3, 0.03) for loss in (direct, general))
        assert (x is None) == (y is None)
        if x is not None:
            assert y.value == pytest.approx(x.value, rel=1e-12)
    focal = ufm.global_minimum(deep(3, 3, 0.02, loss=ufm.Focal(2.0)))
    assert (focal.is_exact, focal.lower_bound) == (False, 0.0)
    assert "not convex" in focal.reason


def test_a_bound_far_below_a_tiny_value_proves_nothing():
    """Of an ETF the margin bound sees a decay (K−1)^{p−1} of its own, at any decay."""
    found = ufm.global_minimum(deep(K=4, e=1e-12, uneven=False))
    assert 1e-11 < found.value < 1e-10
    share = found.lower_bound / found.value
    assert 3 ** (2 / 3 - 1) <= share < 0.75
    assert not found.is_exact
    assert ufm.global_minimum(deep(K=2, e=1e-12, uneven=False)).is_exact


@pytest.mark.parametrize(("loss", "lam_b"), [(ufm.Focal(2.0), 0.0), (ufm.MSE(5.0), 0.1)])
def test_the_origin_that_is_known_has_its_bias(loss, lam_b):
    """f(0, 0, b) minimised by SciPy; beyond any tie the origin is the best point known."""
    problem = ufm.Problem(
        loss=loss, class_counts=(2, 1), dim=2, lam_w=3.0, lam_h=2.0, lam_b=lam_b, lam_hidden=(1.0,)
    )
    minimum = ufm.global_minimum(problem)

    def f(b):
        if isinstance(loss, ufm.MSE):
            errors = [5 * (b[0] - 1) ** 2 + b[1] ** 2, b[0] ** 2 + 5 * (b[1] - 1) ** 2]
            return (2 * errors[0] + errors[1]) / 6 + lam_b / 2 * b @ b
        log_p = b - np.logaddexp.reduce(b)
        return -np.array([2, 1]) / 3 @ ((1 - np.exp(log_p)) ** 2 * log_p)

    best = minimize(f, [0.1, 0.0], method="BFGS", options={"gtol": 1e-9}).fun
    assert minimum.kind == "origin"
    assert minimum.value == pytest.approx(best, rel=1e-9)
    params = minimum.params(None)
    assert float(ufm.objective(problem, params)) == pytest.approx(best, rel=1e-9)
    assert float(ufm.certify(problem, params).grad_norm) < 1e-9


def test_without_a_decay_nothing_is_known():
    problem = BALANCED(
        loss=CE, num_classes=3, per_class=1, dim=3, lam_w=0.0, lam_h=0.1, lam_b=None,
        lam_hidden=(0.1,),
    )  # fmt: skip
    minimum = ufm.global_minimum(problem)
    assert (minimum.kind, minimum.is_exact) == ("unknown", False)
    with pytest.raises(ValueError, match="no minimiser is known"):
        minimum.params(None)
