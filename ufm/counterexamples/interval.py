r"""The interval of decays at which a point is a local minimum that is not global.

With everything but μ√n fixed (λ_W and λ_H change by one factor), the branch of the point is
followed in both directions (`ufm.counterexamples.branch`) until one of these quantities changes
sign:

    becomes unstable   `Branch.stability`: the smallest curvature, or μ − σ, σ singular values of G
    becomes global     f − the least value of the other symmetric points, the origin and the frame
    falls below the other symmetric points: the same, where no bound proves the best of them global
    disappears         ṫ, the progress of the decay along the branch: a fold, where the point meets
                       a saddle and both are gone
    loses rank         a part of W: the point becomes one of lower rank. That one changes stability
                       there, and its μ − σ says where: ṫ is zero too, and nearly so all around

An end is the first zero of these quantities, by Brent's method. All of them are smooth there, so
that neither the position nor the kind of an end depends on the accuracy of the search. The error is
that of rounding, divided by the slope of the quantity.

Without a bias, and for the focal loss with a trained bias if (K−1)μ√n ≤ 1, the best symmetric point
is proven to be global. For the origin and the simplex ETF without a bias,
`ufm.counterexamples.phases` gives the ends.

    spurious_interval(hunt(space, key).found[0])
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from ufm._support.shown import Shown
from ufm._support.threads import one_blas_thread
from ufm.collapse.origin import origin
from ufm.collapse.symmetric_solution import symmetric_frame
from ufm.counterexamples.branch import Branch, Located, gradient_error, scaled, value_error
from ufm.counterexamples.found import SpuriousMinimum
from ufm.minimum.global_minimum import global_minimum
from ufm.model.objective import objective
from ufm.model.params import Params

#: Decays beyond these multiples of the first are not followed.
_FARTHEST = 20.0
#: Lengths of the first, the longest and the shortest step, as relative changes of the point and of
#: the decay; and the longest step relative to the length of the branch so far.
_FIRST_STEP, _LONGEST, _SHORTEST, _GROWTH = 1e-3, 0.1, 1e-9, 0.125
#: A corrected step differs from the tangent by at most this fraction of its length, and the tangent
#: turns by at most 45 degrees: otherwise the step may have reached another branch.
_STRAIGHT, _ALONG = 0.3, 0.5**0.5
#: Zeros within this fraction of a step are the same: at a fold a curvature vanishes too.
_TOGETHER = 1e-4
#: Fraction of a step over which slopes at zeros are estimated.
_PROBE = 1e-3
#: Where the rank falls: the longest step across, the fraction of Z's largest singular value below
#: which others count as zero (not the numerical rank: one vanishes there, known as well as the
#: decay is), and the range of decays in which the point of lower rank is examined.
_FINE, _NOTHING, _REACHES = 1e-4, 1e-5, (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
_EPS = float(np.finfo(float).eps)

LOSES_RANK, DISAPPEARS = "loses rank", "disappears"
GLOBAL, UNSTABLE = "becomes global", "becomes unstable"
LOWEST = "falls below the other symmetric points"
UNDECIDED, NOT_REACHED = "is no longer decided", "not reached"


class End(NamedTuple):
    """One end of an interval of μ√n: it lies between `inside` and `outside`.

    `event` says what happens there: one of the module's events, "is no longer decided", or "not
    reached" if nothing happens up to twenty times the first decay, or down to a twentieth. In the
    last case `outside` is infinity or 0, and nothing is known beyond `inside`.
    """

    inside: float
    outside: float
    event: str

    @property
    def reached(self) -> bool:
        """Whether the interval is known to end here."""
        return self.event != NOT_REACHED

    @property
    def rate(self) -> float:
        """The middle of the bracket; NaN for an end that was not reached."""
        return 0.5 * (self.inside + self.outside) if self.reached else math.nan

    @property
    def error(self) -> float:
        """Half the width of the bracket over its middle."""
        return 0.5 * abs(self.outside - self.inside) / self.rate


@dataclasses.dataclass(frozen=True, repr=False)
class Interval(Shown):
    """The ends, the requested relative error, and the number of computed points of the branch."""

    lower: End
    upper: End
    accuracy: float
    problems: int

    @property
    def is_accurate(self) -> bool:
        """Whether the ends that were reached have the requested accuracy."""
        return all(end.error <= self.accuracy for end in (self.lower, self.upper) if end.reached)


def spurious_interval(minimum: SpuriousMinimum, accuracy: float = 1e-6) -> Interval:
    """Compute the interval of decays at which a point is a local minimum that is not global.

    Ends are computed as accurately as float64 allows. `accuracy` affects only
    `Interval.is_accurate`, which says whether they are that accurate.

    Args:
        minimum: From `hunt`.
        accuracy: The requested relative error of both ends, in [1e-9, 1).

    Returns:
        Both ends, in μ√n, and the events there.

    Raises:
        ValueError: There are hidden layers, the accuracy is out of range, the point is not a local
            minimum at its own decay, or its value is below those of the origin and the frame.
    """
    if not 1e-9 <= accuracy < 1:
        raise ValueError(f"accuracy must be in [1e-9, 1), got {accuracy}")
    if minimum.problem.lam_hidden:
        raise ValueError("minima are followed for two factors, not with hidden layers")
    with one_blas_thread():
        search = _Search(minimum)
        lower, upper = (search.end(direction) for direction in (-1, 1))
    return Interval(lower, upper, accuracy, search.problems)


Margins = dict[str, Callable[[Located], float]]


class _Lost(Exception):
    """Newton's method left the branch."""


class _Search:
    def __init__(self, minimum: SpuriousMinimum) -> None:
        self.rate, self.problems = minimum.rate, 0
        self.branch = Branch(minimum.problem, minimum.means)
        small = self.branch.small
        self.origin = float(objective(small, origin(small)))
        self.is_origin = minimum.rank == 0
        first = self.branch.first
        frame = self._frame(first)
        self.is_frame = not self.is_origin and abs(frame - first.value) <= 1e-9 * abs(frame)
        if not self.branch.stability(first) > 0:
            raise ValueError("the point is not a local minimum at its own decay")
        if not self._excess(first) > 0:
            raise ValueError(
                "the value is below those of the symmetric points, the origin and the frame: no "
                "point with a lower value is followed, so that the interval cannot be computed"
            )

    def _margins(self, direction: int) -> Margins:
        """Quantities positive inside the interval; if two vanish together, the first counts."""
        return {
            LOSES_RANK: self.branch.least_part,
            DISAPPEARS: lambda at: direction * float(at.tangent[-1]),
            GLOBAL: self._excess,
            UNSTABLE: self.branch.stability,
        }

    def _frame(self, at: Located) -> float:
        return float(symmetric_frame(scaled(self.branch.problem, math.exp(at.t))).value)

    def _excess(self, at: Located) -> float:
        """f minus the least value of the other symmetric points; −f if there are none."""
        others = [] if self.is_origin else [self.origin]
        frame = math.nan if self.is_frame else self._frame(at)
        if not math.isnan(frame):
            others.append(frame)
        return at.value - min(others, default=2.0 * at.value)

    def end(self, direction: int) -> End:
        """Step along the branch until a quantity changes sign, and locate the sign change."""
        first, step, length = self.branch.first, _FIRST_STEP, 0.0
        at = first._replace(tangent=direction * first.tangent)
        while abs(at.t) < math.log(_FARTHEST):
            try:
                ahead = self._moved(at, step)
                bad = {e: m for e, m in self._margins(direction).items() if not m(ahead) > 0}
                if LOSES_RANK in bad and step > _FINE:
                    raise _Lost  # on the spot the equations are singular: step over it closely
                if bad:
                    t, error, event = self._crossing(at, step, bad)
                    return self._bracket(t - direction * error, t + direction * error, event)
            except _Lost:
                step *= 0.5
                if step < _SHORTEST:
                    return self._bracket(at.t, at.t + direction * step, UNDECIDED)
                continue
            length += step
            at, step = ahead, min(2.0 * step, max(_FIRST_STEP, _GROWTH * length), _LONGEST)
        return End(self.rate * math.exp(at.t), 0.0 if direction < 0 else math.inf, NOT_REACHED)

    def _crossing(self, at: Located, step: float, bad: Margins) -> tuple[float, float, str]:
        """The t at which the first of some margins changes sign, its error, and that margin."""
        if LOSES_RANK in bad:
            return *self._merger(at), LOSES_RANK
        zeros = {event: self._zero(at, step, margin) for event, margin in bad.items()}
        first = min(zeros.values()) + _TOGETHER * step
        event = next(event for event, zero in zeros.items() if zero <= first)
        error = self._error(event, bad[event], at, zeros[event], step)
        t = self._moved(at, zeros[event]).t
        if event == GLOBAL and not self._is_proven(t):
            event = LOWEST
        return t, error, event

    def _is_proven(self, t: float) -> bool:
        """Whether the best symmetric point is proven to be the global minimum."""
        problem = scaled(self.branch.problem, math.exp(t))
        return not problem.has_bias or global_minimum(problem).is_exact

    def _moved(self, at: Located, length: float) -> Located:
        """The point of the branch a length along the tangent."""
        self.problems += 1
        aim = at.y + length * at.tangent
        found = self.branch.corrected(aim, at.tangent)
        if found is None or float(np.linalg.norm(found.y - aim)) > _STRAIGHT * length:
            raise _Lost
        if float(found.tangent @ at.tangent) < _ALONG:
            raise _Lost
        return found

    def _zero(self, at: Located, step: float, margin: Callable[[Located], float]) -> float:
        """The distance along the tangent at which a margin, positive at first, is zero."""
        return _root(lambda length: margin(self._moved(at, length) if length else at), 0.0, step)

    def _error(
        self,
        event: str,
        margin: Callable[[Located], float],
        at: Located,
        length: float,
        step: float,
    ) -> float:
        """Bound the effect of rounding on the t of the zero."""
        there = self._moved(at, length)
        if event == DISAPPEARS:
            # Near a fold uᵀ∇f = (t − t₀) uᵀ∂_t∇f + O(ẋ²), with the null vector u = ẋ.
            along = there.tangent[:-1]
            pull = abs(float(along @ there.by_decay)) / float(np.linalg.norm(along))
            return gradient_error(there) / pull + 4 * _EPS
        near = _PROBE * step
        sides = [self._moved(at, length + x) for x in (-near, near)]
        slope = (margin(sides[1]) - margin(sides[0])) / (sides[1].t - sides[0].t)
        if event == GLOBAL:
            return value_error(there) / abs(slope) + 4 * _EPS
        curvature, decay = self.branch.errors(margin, there)
        return curvature / abs(slope) + decay

    def _merger(self, there: Located) -> tuple[float, float]:
        """The t at which the remaining point of lower rank changes stability, and its error."""
        point = there.point
        left, sizes, right = np.linalg.svd(point.W @ point.H)
        kept = sizes > _NOTHING * sizes[0]
        roots = np.sqrt(sizes[kept])
        balance = float(point.problem.lam_h / point.problem.lam_w) ** 0.25
        W, H = balance * left[:, kept] * roots, roots[:, None] * right[kept] / balance
        spare = ((0, 0), (0, len(W) - len(roots)))
        W, H = np.pad(W, spare), np.pad(H, spare[::-1])
        bias = None if point.b is None else jnp.asarray(point.b)
        means = Params(jnp.asarray(W), jnp.asarray(H), bias)
        lower = Branch(scaled(self.branch.problem, math.exp(there.t)), means)
        which = int(np.argmin(np.abs(lower.outside(lower.first))))

        def margin(at: Located) -> float:
            return lower.outside(at)[which]

        def at(t: float) -> Located:
            found = lower.corrected(lower.first.y + t * unit, unit)
            if found is None:
                raise _Lost
            return found

        unit = np.zeros_like(lower.first.y)
        unit[-1] = 1.0
        for reach in _REACHES:
            ends = margin(at(-reach)), margin(at(reach))
            if ends[0] * ends[1] < 0:
                t = _root(lambda t: margin(at(t)), -reach, reach)
                curvature, decay = lower.errors(margin, at(t))
                return there.t + t, curvature * 2 * reach / abs(ends[1] - ends[0]) + decay
        raise _Lost

    def _bracket(self, inside: float, outside: float, event: str) -> End:
        return End(self.rate * math.exp(inside), self.rate * math.exp(outside), event)


def _root(of: Callable[[float], float], low: float, high: float) -> float:
    """Find the zero of a function between two numbers at which its signs differ, to rounding."""
    return cast(float, brentq(of, low, high, xtol=1e-15, rtol=np.float64(4 * _EPS)))
