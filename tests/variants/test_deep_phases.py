"""Ties of structures over the decay, and where the ETF of a deep linear model stays a minimum."""

import functools

import jax
import numpy as np
import pytest
from scipy.optimize import brentq

import ufm
from ufm.minimum.structures import TableLoss, best_structure, minimum_of, structures
from ufm.variants.deep.local_ranges import excess, local_ranges_of_ray, rank_hessian
from ufm.variants.deep.minimiser import balanced_factors
from ufm.variants.deep.phases import etf_local_limit
from ufm.variants.deep.rays import spinodal_of, tie_with_origin

CE, PAIR = ufm.CrossEntropy(), "1 pair and 1 dead class"

TIES = [
    (3, 3, "simplex ETF", PAIR, 0.1734838832),
    (3, 3, PAIR, "origin", 0.1941863740),
    (3, 3, "simplex ETF", "origin", 0.1858377342),
    (3, 4, "simplex ETF", PAIR, 0.1319771434),
    (3, 4, PAIR, "origin", 0.1655715715),
    (3, 4, "simplex ETF", "origin", 0.1518655044),
    (3, 6, "simplex ETF", PAIR, 0.0930145441),
    (3, 6, PAIR, "origin", 0.1338547176),
    (3, 6, "simplex ETF", "origin", 0.1164011438),
    (3, 8, "simplex ETF", PAIR, 0.0729028394),
    (3, 8, PAIR, "origin", 0.1131185919),
    (3, 8, "simplex ETF", "origin", 0.0953678002),
    (4, 3, "simplex ETF", "orthoplex", 0.0117604981),
    (4, 3, "1 pair and 2 dead classes", "orthoplex", 0.1599626527),
    (4, 3, "orthoplex", "origin", 0.1599626527),
    (5, 3, "simplex ETF", "2 pairs and 1 single class", 0.0001235746),
]


@pytest.mark.parametrize(("K", "M"), sorted({x[:2] for x in TIES}))
def test_ties_of_two_structures(K, M):
    listed = [x[2:] for x in TIES if x[:2] == (K, M)]
    ends = np.array([x[2] for x in listed])
    decays = np.unique(np.concatenate([ends * 0.97, ends * 1.03]))
    phases = ufm.deep_phases(K, M, decays)
    found = {(x.first, x.second): x for x in phases.ties}
    for first, second, decay in listed:
        tie = found[first, second]
        assert tie.decay == pytest.approx(decay, abs=6e-11)
        assert tie.is_lowest == ((first, second) != ("simplex ETF", "origin"))
    # What is best on both sides of a tie, from the table of values.
    for i in range(len(decays)):
        values = phases.values[:, i]
        assert phases.best_name(i) == phases.names[int(np.nanargmin(np.round(values, 13)))]


@pytest.mark.parametrize(
    ("K", "M", "loss", "listed"),
    [
        (4, 3, CE, 0.1620100413),
        (4, 4, CE, 0.1361253177),
        (5, 3, CE, 0.1275627920),
        (3, 3, CE, None),
        (3, 4, CE, None),
        (4, 3, ufm.LabelSmoothing(0.2), None),
        (3, 3, ufm.LabelSmoothing(0.2), None),
    ],
)
def test_the_etf_is_a_local_minimum_up_to_the_limit(K, M, loss, listed):
    """By the eigenvalues of the Hessian there, which is no part of the rule."""
    limit = etf_local_limit(K, M, loss)
    if listed is not None:
        assert limit == pytest.approx(listed, abs=6e-11)
        rho = K * (1 - 2 / M)
        q = 1 / (np.exp(rho) + K - 1)
        assert limit == pytest.approx(q * rho ** (1 - 2 / M), rel=1e-12)
    etf, table = next(structures(K, K)), TableLoss(loss, K)
    spinodal = spinodal_of(etf, table, M)
    assert limit < spinodal
    for factor, is_minimum in ((1 - 1e-3, True), (1 + 1e-3, False)):
        e = limit * factor
        found = minimum_of(etf, table, M, e)
        problem = ufm.Problem.balanced(
            loss=loss, num_classes=K, per_class=1, dim=K, lam_w=e, lam_h=e, lam_b=None,
            lam_hidden=(e,) * (M - 2),
        )  # fmt: skip
        params = balanced_factors(problem, found.table, None, None, K - 1)
        eigenvalues = np.linalg.eigvalsh(ufm.dense_hessian(problem, params))
        zeros = (M - 1) * ((K - 1) * (K - 2) // 2 + K - 1)
        assert np.sum(np.abs(eigenvalues) < 1e-9) == zeros
        assert (np.min(eigenvalues) > -1e-9) == is_minimum


def deep(K, M, e, n=1, loss=CE):
    decay = e / n ** (1 / M)
    return ufm.Problem.balanced(
        loss=loss, num_classes=K, per_class=n, dim=K, lam_w=2 * decay, lam_h=0.5 * decay,
        lam_b=None, lam_hidden=(decay,) * (M - 2),
    )  # fmt: skip


#: Structures and the ends of their ranges between 2e-4 and 0.3. The test asks the dense Hessian on
#: both sides of each.
RANGES = [
    (3, 3, PAIR, (0.0277193, 0.2290490)),
    (4, 3, "1 pair and 2 dead classes", ()),
    (5, 3, "2 pairs and 1 dead class", (0.1239041, 0.1623019)),
    (5, 3, "regular polygon", (2e-4, 0.1633936)),
    (5, 3, "simplices of 3 + 2 classes", (0.0163020, 0.1325864)),
    (5, 3, "2 pairs and 1 single class", (2e-4, 0.1435794)),
    (4, 3, "orthoplex", (2e-4, 0.1888919)),  # seventh: what is asked of five classes comes below
]


@functools.cache
def phases_of(K, M):
    return ufm.deep_phases(K, M, np.geomspace(2e-4, 0.3, 8))


@pytest.mark.repeats
@pytest.mark.parametrize(("K", "M", "name", "ends"), RANGES)
def test_a_structure_is_a_local_minimum_between_the_ends(K, M, name, ends):
    """By the dense Hessian over all factors, which shares nothing with that on tables."""
    phases = phases_of(K, M)
    row = phases.names.index(name)
    found = phases.local_ranges[row]
    assert np.ravel(found) == pytest.approx(ends, rel=1e-5)
    structure = next(x for x in structures(K, K) if x.name == name)
    inside, table = (lambda e: any(x <= e <= y for x, y in found)), TableLoss(CE, K)
    assert phases.is_local[row].tolist() == [inside(e) for e in phases.decays]
    near = None
    beside = [e * x for e in (*ends, 0.1) if e > 2e-4 for x in (0.998, 1.002)]
    for e in sorted({*np.geomspace(0.05, 0.3, 20), *beside}):
        point = minimum_of(structure, table, M, e, near)
        near = near if point is None else point.theta
        if e not in beside or point is None:
            continue  # beyond the spinodal
        problem = deep(K, M, e)
        factors = balanced_factors(problem, point.table, None, None, point.rank)
        full = np.linalg.eigvalsh(ufm.dense_hessian(problem, factors))
        small = np.linalg.eigvalsh(rank_hessian(point.table, point.rank, table, M, e))
        index = int(np.sum(full < -1e-9))
        assert index == np.sum(small < 0)
        assert (index == 0) == inside(e)


def test_a_range_between_two_decays_beside_the_end_of_a_branch(monkeypatch):
    """It is not a minimum at 0.1 and has ended at 0.11; in between the dense Hessian is asked."""
    loss, name = ufm.LabelSmoothing(0.2), "2 pairs and 1 single class"
    structure = next(x for x in structures(5, 5) if x.name == name)
    monkeypatch.setattr("ufm.variants.deep.phases.structures", lambda *_: [structure])
    ((low, high),), _ = ufm.deep_phases(5, 3, np.array([0.1, 0.11]), loss).local_ranges
    assert (low, high) == pytest.approx((0.1026105, 0.1092), rel=1e-3)
    table = TableLoss(loss, 5)
    near = minimum_of(structure, table, 3, 0.1).theta
    for e, is_local in ((low * 0.998, False), (low * 1.002, True), (high * 0.998, True)):
        point = minimum_of(structure, table, 3, e, near)
        problem = deep(5, 3, e, loss=loss)
        factors = balanced_factors(problem, point.table, None, None, point.rank)
        eigenvalues = np.linalg.eigvalsh(ufm.dense_hessian(problem, factors))
        assert (np.min(eigenvalues) > -1e-9) == is_local
        near = point.theta
    assert minimum_of(structure, table, 3, high * 1.002, near) is None


@pytest.mark.parametrize(("K", "M"), [(6, 3), (8, 4)])
def test_the_range_of_the_orthoplex_in_closed_form(K, M):
    """Two pairs turn into each other unless 2R > (1 − p)(K − 2 + 2e^{−R})."""
    p = 2 / M
    R = brentq(lambda R: 2 * R - (1 - p) * (K - 2 + 2 * np.exp(-R)), 0.1, 20)
    weights = 1 + (K - 2) * np.exp(-R) + np.exp(-2 * R)
    end = ((K - 2) * np.exp(-R) + 2 * np.exp(-2 * R)) / weights / K * (2 * R) ** (1 - p)
    orthoplex = next(x for x in structures(K, K) if x.name == "orthoplex")
    assert end < spinodal_of(orthoplex, TableLoss(CE, K), M)
    found = local_ranges_of_ray(orthoplex, TableLoss(CE, K), M, 1e-4, 0.3)
    assert np.ravel(found) == pytest.approx([1e-4, end], rel=1e-9)


@pytest.mark.parametrize("loss", [CE, ufm.LabelSmoothing(0.2)])
@pytest.mark.parametrize(("K", "M"), [(3, 3), (4, 4), (6, 3)])
def test_the_range_of_the_etf_is_that_of_its_formula(K, M, loss):
    found = local_ranges_of_ray(next(structures(K, K)), TableLoss(loss, K), M, 1e-4, 0.3)
    assert np.ravel(found) == pytest.approx([1e-4, etf_local_limit(K, M, loss)], rel=1e-9)


def test_certificates_and_runs_agree_on_both_sides_of_an_end():
    """A pair and a dead class, two samples each: runs beside it come back, or leave it."""
    end = phases_of(3, 3).local_ranges[1][0][0]
    pair = next(x for x in structures(3, 3) if x.name == PAIR)
    random = np.random.default_rng(0)
    for e, verdict in ((1.5 * end, "LOCAL_MINIMUM"), (0.7 * end, "STRICT_SADDLE")):
        problem = deep(3, 3, e, n=2)
        point = minimum_of(pair, TableLoss(CE, 3), 3, e)
        factors = balanced_factors(problem, point.table, None, None, 1)
        assert ufm.certify(problem, factors).verdict.name == verdict
        start = jax.tree.map(lambda x: x + 1e-2 * random.normal(size=x.shape), factors)
        run = ufm.solve(problem, start)
        returned = abs(float(run.value) - point.value) < 1e-9
        assert returned == (verdict == "LOCAL_MINIMUM")


def test_the_square_antiprism_of_eight_classes():
    """The polished best of many runs, and no structure of one size."""
    found = best_structure(8, 8, TableLoss(CE, 8), 4, 0.01)
    assert found.name == "antiprism"
    assert found.value == pytest.approx(0.2803420998, abs=6e-11)
    sizes = np.linalg.svd(found.table, compute_uv=False)[:3]
    assert sizes == pytest.approx([19.4672, 19.4672, 15.3042], abs=6e-5)
    assert excess(found.table, 3, TableLoss(CE, 8), 4, 0.01) > 0
    hypercube = next(x for x in structures(8, 8) if x.name == "hypercube")
    saddle = minimum_of(hypercube, TableLoss(CE, 8), 4, 0.01)
    assert excess(saddle.table, 3, TableLoss(CE, 8), 4, 0.01) < 0


def test_the_spinodal_is_where_a_structure_ends():
    for K, M in ((3, 3), (4, 4), (6, 3)):
        table = TableLoss(CE, K)
        for each in structures(K, K):
            if len(each.patterns) > 1:
                continue
            end, tie = spinodal_of(each, table, M), tie_with_origin(each, table, M)
            assert tie < end
            assert minimum_of(each, table, M, end * (1 + 1e-6)) is None
            # Closer to the end the minimum is narrower than the steps of the scan.
            assert minimum_of(each, table, M, end * (1 - 1e-2)) is not None
            found = minimum_of(each, table, M, tie)
            assert found.value == pytest.approx(np.log(K), rel=1e-13)


def test_the_threshold_of_balanced_classes():
    problem = ufm.Problem.balanced(
        loss=CE, num_classes=3, per_class=8, dim=4, lam_w=1e-2, lam_h=1e-2, lam_b=None,
        lam_hidden=(1e-2,),
    )  # fmt: skip
    found = ufm.collapse_threshold(problem)
    assert float(found.mu) == pytest.approx(0.1941863740 / 2, abs=1e-10)
    assert (bool(found.jumps), found.is_exact, found.structure) == (True, False, PAIR)
    two = ufm.Problem.balanced(
        loss=CE, num_classes=2, per_class=1, dim=2, lam_w=1e-2, lam_h=1e-2, lam_b=None,
        lam_hidden=(1e-2,),
    )  # fmt: skip
    found = ufm.collapse_threshold(two)
    assert found.is_exact
    kinds = []
    for factor in (1 - 1e-7, 1 + 1e-7):
        e = float(found.mu) * factor
        near = ufm.Problem.balanced(
            loss=CE, num_classes=2, per_class=1, dim=2, lam_w=e, lam_h=e, lam_b=None,
            lam_hidden=(e,),
        )  # fmt: skip
        minimum = ufm.global_minimum(near)
        kinds.append((minimum.kind, minimum.is_exact))
    assert kinds == [("simplex ETF", True), ("origin", True)]


def test_default_decays_and_refusals():
    phases = ufm.deep_phases(3, 3)
    assert phases.best_name(0) == "simplex ETF"
    assert phases.best_name(-1) == "origin"
    assert [x.decay for x in phases.ties if x.is_lowest] == pytest.approx(
        [0.1734838832, 0.1941863740]
    )
    np.testing.assert_array_equal(phases.is_local[0], phases.decays < etf_local_limit(3, 3, CE))
    assert phases.is_local[-1].all()  # the origin
    with pytest.raises(ValueError, match="num_classes must be a whole number ≥ 3"):
        ufm.deep_phases(2, 3)
    with pytest.raises(ValueError, match="num_factors must be a whole number ≥ 3"):
        ufm.deep_phases(3, 2)
    with pytest.raises(ValueError, match="decays must be ascending positive"):
        ufm.deep_phases(3, 3, np.array([0.2, 0.1]))
    with pytest.raises(TypeError, match="loss must be CrossEntropy"):
        ufm.deep_phases(3, 3, loss=ufm.MSE())
    skewed = ufm.Problem(
        loss=CE, class_counts=(3, 1), dim=2, lam_w=0.1, lam_h=0.1, lam_b=None, lam_hidden=(0.1,)
    )
    with pytest.raises(ValueError, match="known for squared error, and for balanced classes"):
        ufm.collapse_threshold(skewed)
    assert jax.tree.leaves(phases)
