r"""All critical points for squared error, with two factors or more.

With the singular values σ_i of √n_k y_k (`ufm.minimum.squared_error_minimum`) a critical point
keeps some directions i, at most as many as the smallest width, each with a root s_i > 0 of

    s + NΛ s^{p−1} = σ,   p = 2/M:   σ − Nμ for two factors, a small or a large one for M ≥ 3.

Nothing else is critical: G shares the singular vectors of Z there, so that A = Z + N G does. Hence

    f = Σ_kept [(s_i−σ_i)²/2N + (M/2) Λ s_i^p] + Σ_left σ_j²/2N,
    index = #{i kept, j left: σ_j > σ_i} + #{small roots} + #{i, j kept: (σ_i−σ_j)(s_i−s_j) < 0}
            + #{i, j kept: σ_i = σ_j, both small},
    zeros = Σ_widths [r(d−r) + r(r−1)/2] + #{i kept, j left: σ_i = σ_j}
            + #{i, j kept: σ_i = σ_j, one small},

and if M = 2, (d−r) #{j left: σ_j > Nμ} more for the index, and for the zeros the same of σ_j = Nμ,
at which a point is born. All other zeros are the dimension of the set of such points, all with one
value: rotations of inner spaces, and of directions with equal σ. So a point of index 0 is a local
minimum. For M = 2 that is the global one; for M ≥ 3 it is every choice
of the r largest σ with large roots, the origin included.

    >>> deep = Problem(loss=MSE(), class_counts=(4, 3, 1), dim=4, lam_w=2e-2, lam_h=2e-2,
    ...                lam_b=None, lam_hidden=(2e-2,))
    >>> [(x.rank, round(x.value, 6)) for x in critical_points(deep) if x.index == 0]
    [(3, 0.117021), (2, 0.151219), (1, 0.296592), (0, 0.5)]
"""

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Array, Float, Key

from ufm._support.shown import Shown
from ufm.certificates.verdicts import Verdict
from ufm.minimum.squared_error_minimum import TargetDirections, target_directions
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant
from ufm.variants.deep.factors import inner_widths, largest_rank, mean_decay, number_of_factors
from ufm.variants.deep.minimiser import balanced_factors
from ufm.variants.deep.squared_error import roots, spinodal

#: Singular values that differ by less than this fraction of the largest are equal.
_EQUAL = 1e-9
#: The longest list: seconds.
_LONGEST = 20_000


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ListedPoint(Shown):
    """A set of critical points of one value, up to rotations and choices among equal classes.

    `kept` are the singular values s_i of Z, with those σ_i of the targets that they belong to, and
    `small` counts the small roots among them. `index` and `zero_modes` count the negative and the
    zero eigenvalues of ∇²f over all parameters; rotations of inner spaces force `gauge_modes` of
    the zeros. `logits` are those of one of the points, for the classes.
    """

    problem: Problem
    value: float
    rank: int
    small: int
    index: int
    zero_modes: int
    gauge_modes: int
    verdict: Verdict
    kept: Float[np.ndarray, " r"]
    targets: Float[np.ndarray, " r"]
    dual_norm: float
    logits: Float[np.ndarray, "K m"]
    bias: Float[np.ndarray, " K"] | None

    _printed = ("verdict", "value", "rank", "small", "index", "zero_modes", "kept")

    def params(self, key: Key[Array, ""] | None = None) -> Params:
        """Build one of the points, with balanced factors, in a random orientation given a key."""
        return balanced_factors(self.problem, self.logits, self.bias, key, self.rank)


@by_variant
def critical_points(problem: Problem) -> tuple[ListedPoint, ...]:
    """List all critical points for squared error, with their indices and zeros, by theory.

    Two factors or more (`lam_hidden`), any class counts or targets, widths and decays; no bias, a
    free one, or a decayed one if the targets have mean 0.

    Args:
        problem: The problem, with `MSE(1.0, target)` or targets with `MSE()`.

    Returns:
        The points by ascending f. Each entry is a whole set of points of one value.

    Raises:
        ValueError: Another loss, a decayed bias and targets that have a mean, a batch, a decay of
            0, one at which two roots meet, or a list of more than 20,000 entries.
    """
    found, points = choices(problem)
    lowest = min(_value(problem, found, s) for s, _ in points)
    listed = [_entry(problem, found, s, small, lowest) for s, small in points]
    return tuple(sorted(listed, key=lambda x: x.value))


def _groups(found: TargetDirections) -> list[np.ndarray]:
    """Directions with σ > 0 by equal σ, descending."""
    sigma, cut = found.sizes, _EQUAL * float(found.sizes[0])
    live = np.flatnonzero(sigma > cut)
    return np.split(live, np.flatnonzero(-np.diff(sigma[live]) > cut) + 1)


def choices(problem: Problem) -> tuple[TargetDirections, list[tuple[np.ndarray, np.ndarray]]]:
    """s of every direction, and which of them are small roots, for each entry of the list.

    Raises `ValueError` as `critical_points`.
    """
    if np.ndim(mean_decay(problem)):
        raise ValueError("the problem is a batch: list the points of each of its entries")
    if not float(mean_decay(problem)) > 0:
        raise ValueError("critical points are listed for positive decays only")
    found = target_directions(problem)
    if found is None:
        raise ValueError(
            "all critical points are known for squared error (MSE with scale 1) without a bias or "
            f"with lam_b=0, got {problem.loss.label()} and lam_b={problem.lam_b}"
        )
    M, decay = number_of_factors(problem), float(mean_decay(problem))
    rate = found.total * decay
    groups = [each for each in _groups(found) if len(each)]
    options: list[list[tuple[int, int]]] = []
    values: list[tuple[float, float]] = []
    for each in groups:
        sigma = float(np.mean(found.sizes[each]))
        end = float(spinodal(sigma, found.total, M)) if M > 2 else np.inf
        if abs(end - decay) <= _EQUAL * decay:
            raise ValueError(
                f"two critical points meet at the decay (∏λ)^(1/M) = {end:.10g}, in one that is "
                "neither a minimum nor a strict saddle: take a decay beside it"
            )
        small, large = roots(sigma, rate, 2 / M)
        if M == 2 and sigma - rate <= _EQUAL * float(found.sizes[0]):
            large = np.nan  # born at the point without it
        values.append((large, small))
        many = 0 if np.isnan(large) else len(each)
        pairs = itertools.product(range(many + 1), range((many if M > 2 else 0) + 1))
        options.append([(a, b) for a, b in pairs if a + b <= many])
    count, most = math.prod(map(len, options)), largest_rank(problem)
    if count > _LONGEST:
        raise ValueError(
            f"the list would have {count:,} entries, and {_LONGEST:,} are the most: take fewer "
            "different class sizes"
        )
    chosen = []
    for numbers in itertools.product(*options):
        if sum(map(sum, numbers)) > most:
            continue
        s, small = np.zeros(len(found.sizes)), np.zeros(len(found.sizes), bool)
        for each, (a, b), (large, low) in zip(groups, numbers, values, strict=True):
            s[each[:a]], s[each[a : a + b]] = large, low
            small[each[a : a + b]] = True
        chosen.append((s, small))
    return found, chosen


def _value(problem: Problem, found: TargetDirections, s: np.ndarray) -> float:
    M = number_of_factors(problem)
    penalty = 0.5 * M * float(mean_decay(problem)) * np.sum(s ** (2 / M))
    return float(np.sum((s - found.sizes) ** 2) / (2 * found.total) + penalty)


def _entry(
    problem: Problem, found: TargetDirections, s: np.ndarray, small: np.ndarray, lowest: float
) -> ListedPoint:
    sigma, kept = found.sizes, s > 0
    cut, rank, widths = _EQUAL * float(sigma[0]), int(np.sum(kept)), inner_widths(problem)
    above = sigma[None, :] - sigma[:, None]  # σ_j − σ_i
    equal = np.abs(above) <= cut
    beside = kept[:, None] & ~kept[None, :]
    pairs = np.triu(kept[:, None] & kept[None, :], 1)
    crossed = above * (s[None, :] - s[:, None]) < 0
    both, either = small[:, None] & small[None, :], small[:, None] != small[None, :]
    index = beside & (above > cut) | pairs & (~equal & crossed | equal & both)
    idle = born = 0
    if number_of_factors(problem) == 2:
        beyond = (sigma - found.total * problem.mu())[~kept]
        idle, born = (
            (widths[0] - rank) * int(np.sum(x)) for x in (beyond > cut, np.abs(beyond) <= cut)
        )
    turns = sum(rank * (d - rank) + rank * (rank - 1) // 2 for d in widths)
    negative, value = int(np.sum(index)) + int(np.sum(small)) + idle, _value(problem, found, s)
    verdict = Verdict.STRICT_SADDLE if negative else Verdict.LOCAL_MINIMUM
    if not negative and value <= lowest * (1 + 4 * len(s) * float(np.finfo(float).eps)):
        verdict = Verdict.GLOBAL_MINIMUM
    order = np.argsort(-s, kind="stable")[:rank]
    return ListedPoint(
        problem=problem,
        value=value,
        rank=rank,
        small=int(np.sum(small)),
        index=negative,
        zero_modes=turns + born + int(np.sum(equal & (beside | pairs & either))),
        gauge_modes=turns,
        verdict=verdict,
        kept=s[order],
        targets=sigma[order],
        dual_norm=float(np.max(np.abs(s - sigma))) / found.total,
        logits=(found.left * s) @ found.right / found.roots,
        bias=found.bias,
    )
