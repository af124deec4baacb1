"""Ties of structures over the decay, and where the ETF of a deep linear model stays a minimum."""

import jax
import numpy as np
import pytest

import ufm
from ufm.minimum.structures import TableLoss, minimum_of, structures
from ufm.variants.deep.minimiser import balanced_factors
from ufm.variants.deep.phases import etf_local_limit, spinodal_of, tie_with_origin

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
    np.testing.assert_array_equal(phases.etf_is_local, phases.decays < phases.local_limit)
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
