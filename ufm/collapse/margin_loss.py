r"""φ(s): a contrastive loss at equal margins s = z_k − z_j, j ≠ k, and the resulting bound on f.

φ is convex for convex losses. For others, such as FL, it is concave below a margin s_c and convex
above it. A global minimum of φ + c s over an interval is therefore one of its ends, s_c, or the
single stationary point beyond s_c, so that no scan is needed.

All functions are elementwise, in NumPy on the host and in JAX within a program.
"""

import dataclasses
from typing import Any

import numpy as np

from ufm._support.bisection import bisect
from ufm._support.namespace import namespace
from ufm.losses import Loss

#: End of every bracket, at which φ has reached its limits, unless its tails are heavy.
LARGEST_MARGIN = 1e4


@dataclasses.dataclass(frozen=True)
class MarginLoss:
    """φ(s) = L(s e_k, k) for a shift-invariant contrastive loss and K classes."""

    loss: Loss
    num_classes: int

    def value(self, s: Any) -> Any:
        """φ(s)."""
        return self.loss.profile(s, self.num_classes)

    def slope(self, s: Any) -> Any:
        """φ'(s)."""
        return self.loss.profile_slope(s, self.num_classes)

    def inflection(self, like: Any) -> Any:
        """s_c: φ is convex on [s_c, ∞) and concave on (−∞, s_c]; −1e4 if φ is convex everywhere."""
        if self.loss.is_convex():
            return namespace(like).full_like(like, -LARGEST_MARGIN)
        p = self.loss.profile_convex_above(self.num_classes)
        xp = namespace(p, like)
        safe = xp.where(p > 0, p, 0.5)
        margin = xp.minimum(self.loss.margin_at(safe, self.num_classes), LARGEST_MARGIN)
        return xp.where(p > 0, margin, -LARGEST_MARGIN) + xp.zeros_like(like)

    def stationary(self, slope: Any, low: Any) -> Any:
        """The s ≥ low with φ'(s) = −slope, for φ convex on [low, ∞); `low` if φ'(low) > −slope."""
        far = namespace(low).full_like(low, LARGEST_MARGIN)
        return bisect(lambda s: self.slope(s) + slope >= 0.0, low, far)

    def argmin(self, slope: Any, low: Any) -> Any:
        """argmin over s ≥ low of φ(s) + slope·s, exact (see the module)."""
        xp = namespace(slope, low)
        top = self.stationary(slope, xp.maximum(low, self.inflection(low)))
        better = self.value(top) + slope * top < self.value(low) + slope * low
        return xp.where(better, top, low)

    def tie(self, zero: Any) -> Any:
        """The s ≥ s_c whose tangent of φ meets φ(zero) at `zero`; `zero` if s_c is below it.

        At the decay for which s is critical, f is equal at s and `zero`. On the convex branch
        φ(s) − (s − zero) φ'(s) decreases in s.
        """
        if self.loss.is_convex():
            return zero
        bend = self.inflection(zero)
        xp = namespace(bend)

        def beyond(s: Any) -> Any:
            return self.value(s) - (s - zero) * self.slope(s) <= self.value(zero)

        found = bisect(beyond, xp.maximum(bend, zero), xp.full_like(bend, LARGEST_MARGIN))
        return xp.where(bend > zero, found, zero)


def margin_bound(phi: MarginLoss, c: Any, lam_b: Any) -> Any:
    r"""A lower bound on f for balanced classes, c = μ √n (K−1).

    Without bias: min_{s≥0} φ(s) + c s. With a trained bias, for every multiplier ν,

        f ≥ min_s φ(s) + m_ν(s),   m_ν(s) = min_δ c|s−δ| + νδ + aδ²,   a = λ_b (K−1)²/(2K),

    with m_ν convex of slope clip(ν + 2as, −c, c). The bound is the best over a fixed grid of ν. The
    grid contains ν = c, exact for c ≤ s∞ = −φ'(−∞); −φ'(0), exact where the origin is the minimum;
    and s∞, the largest ν with a finite bound for a free bias. Its other points cover the range in
    between.
    """
    xp, zero = namespace(c), namespace(c).zeros_like(c)
    far = xp.asarray(phi.loss.far_slope(), c.dtype)
    if lam_b is None:
        s = phi.argmin(c, zero)
        bound = phi.value(s) + c * s
        if not phi.loss.heavy_tailed:
            return bound
        # Beyond the bracket φ + cs may still fall, but not below c times its end plus inf L.
        end = zero + LARGEST_MARGIN
        inside = (phi.slope(end) + c >= 0) & (phi.inflection(zero) < LARGEST_MARGIN)
        return xp.where(
            inside, bound, xp.minimum(bound, c * LARGEST_MARGIN + (phi.loss.infimum() or 0.0))
        )
    a = xp.asarray(lam_b, c.dtype) * ((phi.num_classes - 1) ** 2 / (2 * phi.num_classes))
    special = xp.stack([c, xp.minimum(c, far), xp.minimum(c, -phi.slope(zero))])
    bound = xp.max(_bounds_at(phi, c, a, special[None, :]))
    if xp is np and bound >= margin_bound(phi, c, None) * (1.0 - 4 * np.finfo(float).eps):
        return bound  # the value at the symmetric minimum, which no multiplier exceeds
    grid = xp.linspace(0.0, 1.0, 62, dtype=c.dtype) * c
    return xp.maximum(bound, xp.max(_bounds_at(phi, c, a, grid[None, :])))


def _bounds_at(phi: MarginLoss, c: Any, a: Any, nu: Any) -> Any:
    """Bound min_s φ(s) + m_ν(s) from below: exact on the convex branch, by intervals below s_c."""
    xp = namespace(c)
    free, safe = a <= 0, xp.where(a <= 0, 1.0, a)
    # The points at which the slope of m_ν reaches c and −c; infinite for a free bias.
    upper = xp.where(free, xp.inf, (c - nu) / (2 * safe))
    lower = xp.where(free, -xp.inf, (-c - nu) / (2 * safe))

    def m(s: Any) -> Any:
        delta = xp.where(free, s, xp.clip(s, lower, upper))
        return c * xp.abs(s - delta) + nu * delta + a * delta**2

    def rising(s: Any) -> Any:
        return phi.slope(s) + xp.clip(nu + 2 * a * s, -c, c) >= 0.0

    bend = phi.inflection(c)
    top = bisect(rising, xp.full_like(nu, bend), xp.full_like(nu, LARGEST_MARGIN))
    convex_part = phi.value(top) + m(top)
    if phi.loss.heavy_tailed:
        end = xp.full_like(nu, LARGEST_MARGIN)
        convex_part = xp.where(rising(end) & (bend < LARGEST_MARGIN), convex_part, -xp.inf)
    if phi.loss.is_convex():
        return convex_part
    # Below s_c, φ decreases, so on [s, t] the sum is at least φ(t) + min m. Left of both −1e4 and
    # `lower` the slope of m is −c, so that the sum decreases.
    shares = np.linspace(1.0, 0.0, 4097)[:, None] ** 3
    nodes = bend - (bend + LARGEST_MARGIN) * xp.asarray(shares, c.dtype)
    vertex = xp.where(free, xp.inf, -nu / (2 * safe))
    smallest = m(xp.clip(vertex, nodes[:-1], nodes[1:]))
    interval_part = xp.min(phi.value(nodes[1:]) + smallest, axis=0, keepdims=True)
    interval_part = xp.where(free | (lower < -LARGEST_MARGIN), -xp.inf, interval_part)
    # For ν ≤ s∞ no intervals are needed: m_ν(s) ≥ νs, and the slope of φ, concave below s_c, falls
    # from −s∞ at −∞, so that φ + νs decreases up to s_c.
    far = xp.asarray(phi.loss.far_slope(), c.dtype)
    sloped_part = xp.where(nu <= far, phi.value(bend) + nu * bend, -xp.inf)
    left_part = xp.maximum(interval_part, sloped_part)
    return xp.where(bend <= -LARGEST_MARGIN, convex_part, xp.minimum(convex_part, left_part))
