r"""Test whether losses reach equal test accuracy: paired equivalence tests with a preset margin.

Two networks that differ only in the loss and share a seed (order of data, initial weights) form a
pair. With the differences D_1, …, D_n of their accuracies in points, mean D̄, standard deviation s
and SE = s/√n, two one-sided t tests (TOST; Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987) reject

    H₀: δ ≤ −m  by  (D̄ + m)/SE ≥ t_{n−1, 1−α},     H₀: δ ≥ m  by  (D̄ − m)/SE ≤ −t_{n−1, 1−α},

and together, at level α, the hypothesis that the mean difference δ is at least m in size. Both
reject iff the 1 − 2α interval D̄ ± t_{n−1,1−α} SE, 90 % for α = 5 %, lies inside (−m, m). The usual
two-sided test of δ = 0 at level α is added. The four outcomes are those of Lakens (Soc. Psychol.
Personal. Sci. 8, 2017):

| | δ = 0 not rejected | δ = 0 rejected |
|---|---|---|
| equivalent | EQUIVALENT | EQUIVALENT_THOUGH_DIFFERENT |
| not shown equivalent | INCONCLUSIVE | DIFFERENT |

EQUIVALENT_THOUGH_DIFFERENT means a difference smaller than the margin. DIFFERENT means only that δ
is not 0; `beyond_margin` means that the whole interval lies outside the margin. A wide interval is
INCONCLUSIVE, never agreement.

**Several losses.** "All agree" claims that every comparison is equivalent. Its null hypothesis is a
union, rejected at level α if each part is rejected at level α, without correction for their number
(intersection–union test; Berger, Technometrics 24, 1982). "At least one differs" would need a
correction: the p values `p_difference` are those of single comparisons.

**Few seeds.** Fewer than 5 pairs are TOO_FEW_SEEDS for any interval, and nothing is claimed. With 5
pairs a distribution-free test can first reach 5 %: the smallest p value of the sign test is
(1/2)⁵ = 0.031.

**No spread.** Accuracy changes in steps of one test image, so that all differences may be equal.
Then s = 0 means that the spread is below the resolution, not that it is 0, and t = ∞ proves
nothing. The sign test of the median difference, which needs no spread, replaces the t tests:
p = 2⁻ⁿ for each side on which all differences lie (see `method`).

    >>> paired_equivalence([90.1, 90.3, 89.9, 90.4, 90.0], [90.2, 90.2, 90.1, 90.3, 90.1]).outcome
    <Outcome.EQUIVALENT: 'equivalent'>
"""

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

#: Preset margin, 1 point of accuracy, and the usual level.
MARGIN, ALPHA = 1.0, 0.05
#: Fewest pairs for a claim; see the module.
LEAST_SEEDS = 5
#: A standard deviation below this many points is rounding: no test set has 1e11 images.
_NO_SPREAD = 1e-9


class Outcome(enum.StrEnum):
    """The joint outcome of both tests, or TOO_FEW_SEEDS; see the module."""

    EQUIVALENT = "equivalent"
    EQUIVALENT_THOUGH_DIFFERENT = "equivalent though different"
    DIFFERENT = "different"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW_SEEDS = "too few seeds"


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """A paired comparison, first minus second, in points of accuracy.

    `low`, `high` are the ends of the 1 − 2α interval of the mean difference; `p_lower` and
    `p_upper` belong to H₀: δ ≤ −margin and δ ≥ margin, `p_difference` to δ = 0, two-sided. `method`
    is "t" or, if the differences have no spread, "sign" (the interval is then a single number, not
    a confidence interval). Numbers are NaN if there are too few pairs for them.
    """

    difference: float
    standard_deviation: float
    low: float
    high: float
    p_lower: float
    p_upper: float
    p_difference: float
    n: int
    margin: float
    alpha: float
    method: str
    outcome: Outcome
    beyond_margin: bool
    reason: str

    @property
    def p_equivalence(self) -> float:
        """The p value of the equivalence test: the larger of the two one-sided p values."""
        return math.nan if math.isnan(self.p_lower) else max(self.p_lower, self.p_upper)

    @property
    def is_equivalent(self) -> bool:
        return self.outcome in (Outcome.EQUIVALENT, Outcome.EQUIVALENT_THOUGH_DIFFERENT)

    def row(self) -> dict[str, Any]:
        """All fields by name, for tables and `ufm.report`."""
        return dataclasses.asdict(self) | {
            "outcome": str(self.outcome),
            "p_equivalence": self.p_equivalence,
        }


@dataclasses.dataclass(frozen=True)
class Agreement:
    """All losses against a reference: `against_reference[loss]` is loss − reference."""

    reference: str
    against_reference: dict[str, Equivalence]

    @property
    def all_agree_with_reference(self) -> bool:
        """Whether every loss is equivalent to the reference at level α, by intersection–union."""
        return all(each.is_equivalent for each in self.against_reference.values())


def paired_equivalence(
    first: Sequence[float] | Float[np.ndarray, " n"],
    second: Sequence[float] | Float[np.ndarray, " n"],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    are_points: bool = False,
) -> Equivalence:
    """Compare accuracies of matched seeds, in points (0 to 100), in the same order.

    Raises `ValueError` for accuracies that are not finite or not in points, lists that are empty or
    of different length, a margin that is not positive, and alpha outside (0, 0.5).
    """
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"margin must be positive, in points of accuracy, got {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), got {alpha}")
    x, y = (_points(values, are_points) for values in (first, second))
    if len(x) != len(y):
        raise ValueError(
            f"{len(x)} accuracies against {len(y)}: pairs are needed, one of each for every seed"
        )
    differences = x - y
    n, mean = len(differences), float(np.mean(differences))
    spread = float(np.std(differences, ddof=1)) if n > 1 else math.nan
    if n > 1 and spread < _NO_SPREAD:
        method, numbers = "sign", _sign_test(mean, n, margin)
    else:
        method, numbers = "t", _t_tests(mean, spread, n, margin, alpha)
    p_equivalence = max(numbers["p_lower"], numbers["p_upper"])
    outcome, reason = _decide(n, p_equivalence, numbers["p_difference"], alpha)
    if method == "sign" and n >= LEAST_SEEDS:
        reason = "all differences are equal: exact sign tests of their median"
        if outcome is Outcome.INCONCLUSIVE:
            reason += f", which {n} seeds leave open: more seeds"
    beyond = numbers["low"] > margin or numbers["high"] < -margin
    return Equivalence(
        difference=mean,
        standard_deviation=spread,
        **numbers,
        n=n,
        margin=float(margin),
        alpha=float(alpha),
        method=method,
        outcome=outcome,
        beyond_margin=outcome is Outcome.DIFFERENT and beyond,
        reason=reason,
    )


def agreement(accuracies: Mapping[str, Mapping[int, float]], reference: str = "ce") -> Agreement:
    """Test all losses against the reference; `accuracies[loss][seed]` in points.

    Comparisons use the seeds that both losses have. Raises `ValueError` like
    `paired_equivalence`, for a reference that is missing or the only loss, and for losses without
    a common seed.
    """
    if reference not in accuracies or len(accuracies) < 2:
        raise ValueError(
            f"the reference {reference!r} and at least one other loss are needed, got "
            f"{', '.join(accuracies) or 'none'}"
        )

    def compared(loss: str) -> Equivalence:
        seeds = sorted(accuracies[loss].keys() & accuracies[reference].keys())
        if not seeds:
            raise ValueError(f"{loss} and {reference} have no seed in common: train them with one")
        values = ([accuracies[each][seed] for seed in seeds] for each in (loss, reference))
        return paired_equivalence(*values, are_points=True)

    return Agreement(reference, {loss: compared(loss) for loss in accuracies if loss != reference})


def _points(values: Any, are_points: bool) -> Float[np.ndarray, " n"]:
    points = np.asarray(values, np.float64)
    if points.ndim != 1 or not points.size:
        raise ValueError(f"accuracies must be a list of numbers, got shape {points.shape}")
    if not np.all((points >= 0) & (points <= 100)):
        raise ValueError("accuracies must be finite and lie in 0..100 (points of accuracy)")
    # Zeros are the same in both units.
    if not are_points and 0 < np.max(points) <= 1:
        raise ValueError("accuracies of at most 1 look like fractions: multiply them by 100")
    return points


def _t_tests(mean: float, spread: float, n: int, margin: float, alpha: float) -> dict[str, float]:
    """The interval, both one-sided p values and the two-sided one, as fields of `Equivalence`."""
    if n < 2:
        return dict.fromkeys(("low", "high", "p_lower", "p_upper", "p_difference"), math.nan)
    error, freedom = spread / math.sqrt(n), n - 1
    reach = float(special.stdtrit(freedom, 1 - alpha)) * error

    def below(t: float) -> float:
        return float(special.stdtr(freedom, t))

    return {
        "low": mean - reach,
        "high": mean + reach,
        "p_lower": below(-(mean + margin) / error),
        "p_upper": below((mean - margin) / error),
        "p_difference": 2 * below(-abs(mean) / error),
    }


def _sign_test(mean: float, n: int, margin: float) -> dict[str, float]:
    """Exact sign tests of the median if all differences equal `mean`; the fields of `_t_tests`."""
    side = 0.5**n
    return {
        "low": mean,
        "high": mean,
        "p_lower": side if mean > -margin + _NO_SPREAD else 1.0,
        "p_upper": side if mean < margin - _NO_SPREAD else 1.0,
        "p_difference": 1.0 if abs(mean) < _NO_SPREAD else 2 * side,
    }


def _decide(n: int, p_equivalence: float, p_difference: float, alpha: float) -> tuple[Outcome, str]:
    if n < LEAST_SEEDS:
        return Outcome.TOO_FEW_SEEDS, f"{n} seeds, fewer than {LEAST_SEEDS}: train more"
    equivalent, different = p_equivalence < alpha, p_difference < alpha
    if equivalent and different:
        return Outcome.EQUIVALENT_THOUGH_DIFFERENT, "a difference, smaller than the margin"
    if equivalent:
        return Outcome.EQUIVALENT, "the interval lies inside the margin"
    if different:
        return Outcome.DIFFERENT, "the mean difference is not 0, nor shown to be in the margin"
    return Outcome.INCONCLUSIVE, "the interval holds 0 and reaches beyond the margin: more seeds"
