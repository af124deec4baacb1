"""Paired equivalence tests against SciPy, by hand, and by their size and power in simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from ufm.networks.sweeps.equivalence import Outcome, agreement, paired_equivalence

#: Differences of 0, −0.2, 0.4, 0.1, 0.2: mean 0.1, variance 0.05, SE = 0.1.
FIRST = [90.0, 89.8, 90.4, 90.1, 90.2]
SECOND = [90.0] * 5


def pairs(differences):
    return 50 + np.asarray(differences, float), np.full(len(differences), 50.0)


def spread(mean, error, n=8) -> list[float]:
    """Differences of that mean with that standard error."""
    x = np.linspace(-1, 1, n)
    return list(mean + x * error * math.sqrt(n) / np.std(x, ddof=1))


def test_numbers_by_hand():
    found = paired_equivalence(FIRST, SECOND)
    assert found.difference == pytest.approx(0.1, abs=1e-12)
    assert found.standard_deviation == pytest.approx(math.sqrt(0.05), rel=1e-12)
    # t_{4, 0.95} = 2.13185 of any table.
    assert (found.low, found.high) == pytest.approx((0.1 - 0.213185, 0.1 + 0.213185), abs=1e-6)
    # t = 11 and −9 with four degrees of freedom, whose distribution function is elementary.
    for p, t in ((found.p_lower, 11.0), (found.p_upper, 9.0)):
        s = t / math.sqrt(4 + t**2)
        assert p == pytest.approx(0.5 - 0.75 * (s - s**3 / 3), rel=1e-9)
    assert found.outcome is Outcome.EQUIVALENT
    assert found.p_equivalence == found.p_upper


@pytest.mark.parametrize("seed", range(5))
def test_every_p_value_against_scipy(seed):
    rng = np.random.default_rng(seed)
    x = 90 + rng.standard_normal(7)
    y = x + 0.4 + 0.7 * rng.standard_normal(7)
    found = paired_equivalence(x, y, margin=0.8, alpha=0.1)
    expected = {
        "p_lower": stats.ttest_rel(x + 0.8, y, alternative="greater").pvalue,
        "p_upper": stats.ttest_rel(x - 0.8, y, alternative="less").pvalue,
        "p_difference": stats.ttest_rel(x, y).pvalue,
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name
    interval = stats.ttest_rel(x, y).confidence_interval(0.8)
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "error", "outcome", "beyond"),
    [
        (0.0, 0.1, Outcome.EQUIVALENT, False),
        (0.1, 0.3, Outcome.EQUIVALENT, False),
        (0.5, 0.1, Outcome.EQUIVALENT_THOUGH_DIFFERENT, False),
        (-0.5, 0.1, Outcome.EQUIVALENT_THOUGH_DIFFERENT, False),
        (0.9, 0.1, Outcome.DIFFERENT, False),
        (2.0, 0.1, Outcome.DIFFERENT, True),
        (-2.0, 0.1, Outcome.DIFFERENT, True),
        (0.0, 1.0, Outcome.INCONCLUSIVE, False),
        (1.5, 1.5, Outcome.INCONCLUSIVE, False),
    ],
)
def test_the_four_outcomes(mean, error, outcome, beyond):
    found = paired_equivalence(*pairs(spread(mean, error)))
    assert found.outcome is outcome
    assert found.beyond_margin is beyond
    # The interval inside the margin is the test.
    assert found.is_equivalent == (found.low > -1 and found.high < 1)


def test_seeds_are_matched():
    # Seeds differ by points, losses by next to nothing: unpaired, this were inconclusive.
    base = np.array([80.0, 85.0, 90.0, 83.0, 87.0])
    found = paired_equivalence(base + np.array([0.1, -0.1, 0.0, 0.2, -0.2]), base)
    assert found.outcome is Outcome.EQUIVALENT
    assert stats.ttest_ind(base - 1, base, alternative="less").pvalue > 0.05


@pytest.mark.parametrize("n", [1, 2, 4])
def test_few_seeds_are_too_few_however_near(n):
    found = paired_equivalence(*pairs(np.linspace(0, 1e-3, n)))
    assert found.outcome is Outcome.TOO_FEW_SEEDS
    assert "fewer than 5" in found.reason
    assert math.isnan(found.low) == math.isnan(found.p_equivalence) == (n == 1)


def test_no_spread_is_no_proof_but_the_sign_test():
    for n in (2, 4):
        assert paired_equivalence(*pairs([0.0] * n)).outcome is Outcome.TOO_FEW_SEEDS
    found = paired_equivalence(*pairs([0.25] * 5))
    assert (found.method, found.low, found.high) == ("sign", 0.25, 0.25)
    assert found.p_lower == found.p_upper == stats.binomtest(5, 5, alternative="greater").pvalue
    assert found.p_difference == stats.binomtest(5, 5).pvalue == 0.0625
    assert found.outcome is Outcome.EQUIVALENT
    # Five signs cannot show a level of 1 %, whatever t = ∞ says.
    assert paired_equivalence(*pairs([0.0] * 5), alpha=0.01).outcome is Outcome.INCONCLUSIVE
    assert paired_equivalence(*pairs([0.25] * 6)).outcome is Outcome.EQUIVALENT_THOUGH_DIFFERENT
    beyond = paired_equivalence(*pairs([-3.0] * 6))
    assert beyond.outcome is Outcome.DIFFERENT
    assert beyond.beyond_margin
    # Equal up to the rounding of percentages.
    rounded = paired_equivalence([98.3, 97.1, 96.7, 98.8, 97.7], [98.2, 97.0, 96.6, 98.7, 97.6])
    assert rounded.method == "sign"


def test_size_at_the_margin_and_power_at_zero():
    rng, n = np.random.default_rng(0), 6

    def rejections(runs, mean, sigma) -> float:
        noise = sigma * rng.standard_normal((runs, n))
        found = (paired_equivalence(*pairs(mean + x)) for x in noise)
        return float(np.mean([each.is_equivalent for each in found]))

    # At either margin the level is exact where the variance is small: four standard errors of a
    # share of 5 % in 1,600 runs are 0.022.
    assert 0.028 < (rejections(800, 1.0, 0.3) + rejections(800, -1.0, 0.3)) / 2 < 0.072
    assert rejections(400, 1.0, 2.0) < 0.05  # and less where the interval is wide
    # Power at 0: each one-sided test by the noncentral t; both at once fail next to never.
    power = stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, math.sqrt(n) / 0.5)
    assert rejections(600, 0.0, 0.5) == pytest.approx(2 * power - 1, abs=0.03)


def test_all_agree_with_the_reference_though_two_others_differ():
    seeds = range(6)
    noise = np.random.default_rng(1).standard_normal((3, 6)) * 0.1
    accuracies = {
        loss: {seed: 90 + seed + shift + float(noise[i, seed]) for seed in seeds}
        for i, (loss, shift) in enumerate((("ce", 0.0), ("ls:0.05", 0.7), ("mse:1,15", -0.7)))
    }
    found = agreement(accuracies)
    assert set(found.against_reference) == {"ls:0.05", "mse:1,15"}
    assert found.all_agree_with_reference
    assert found.against_reference["ls:0.05"].difference == pytest.approx(0.7, abs=0.2)
    # LS and MSE are 1.4 points apart.
    other = agreement(accuracies, "mse:1,15")
    assert not other.all_agree_with_reference
    assert other.against_reference["ls:0.05"].outcome is Outcome.DIFFERENT
    assert other.against_reference["ce"].difference == pytest.approx(
        -found.against_reference["mse:1,15"].difference, rel=1e-12
    )


def test_only_common_seeds_are_compared():
    found = agreement({"ce": {0: 90.0, 1: 91.0, 2: 89.0}, "mse": {2: 89.0, 1: 91.5, 7: 10.0}})
    each = found.against_reference["mse"]
    assert (each.n, each.difference) == (2, 0.25)
    assert not found.all_agree_with_reference


def test_a_row_is_plain_data():
    row = paired_equivalence(FIRST, SECOND).row()
    assert row["outcome"] == "equivalent"
    assert type(row["outcome"]) is str
    assert row["p_equivalence"] == row["p_upper"]


@pytest.mark.parametrize(
    ("first", "second", "options", "complaint"),
    [
        ([90.0, 91.0], [90.0], {}, "pairs are needed"),
        ([], [], {}, "list of numbers"),
        ([90.0, math.nan], [90.0, 90.0], {}, "finite"),
        ([0.9, 0.91], [0.9, 0.92], {}, "multiply them by 100"),
        ([101.0], [90.0], {}, "0..100"),
        (FIRST, SECOND, {"margin": 0.0}, "margin must be positive"),
        (FIRST, SECOND, {"alpha": 0.5}, "alpha must lie in"),
    ],
)
def test_complaints(first, second, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        paired_equivalence(first, second, **options)


def test_complaints_about_losses():
    with pytest.raises(ValueError, match="the reference 'ce'"):
        agreement({"mse": {0: 90.0}, "fl": {0: 90.0}})
    with pytest.raises(ValueError, match="no seed in common"):
        agreement({"ce": {0: 90.0}, "fl": {1: 90.0}})


def test_equal_differences_at_the_margin_are_not_within_it():
    """100·0.28 − 100·0.29 is −1 + 7e-15."""
    found = paired_equivalence([100 * 0.28] * 5, [100 * 0.29] * 5)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.p_lower == 1.0


def test_few_equal_differences_are_said_to_be_what_they_are():
    found = paired_equivalence([95.0] * 5, [90.0] * 5)
    assert found.outcome is Outcome.INCONCLUSIVE  # 2 · 2⁻⁵ = 0.0625
    assert found.reason == (
        "all differences are equal: exact sign tests of their median, which 5 seeds leave open: "
        "more seeds"
    )
    assert paired_equivalence([95.0] * 6, [90.0] * 6).outcome is Outcome.DIFFERENT


def test_one_point_and_less_can_be_meant():
    with pytest.raises(ValueError, match="look like fractions"):
        paired_equivalence([1.0] * 5, [0.5] * 5)
    assert paired_equivalence([1.0] * 5, [0.5] * 5, are_points=True).difference == 0.5


def test_zeros_are_zeros_in_both_units_and_fractions_beside_points_are_refused():
    assert paired_equivalence([100.0] * 8, [0.0] * 8).difference == 100.0
    assert paired_equivalence([0.0] * 8, [100.0] * 8).outcome is Outcome.DIFFERENT
    assert paired_equivalence([0.0] * 8, [0.0] * 8).outcome is Outcome.EQUIVALENT
    for fractions in ([0.99] * 8, [1.0] * 8, [0.0] * 7 + [0.5]):
        with pytest.raises(ValueError, match="look like fractions"):
            paired_equivalence([95.0] * 8, fractions)
