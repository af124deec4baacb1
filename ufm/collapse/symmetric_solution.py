r"""The one-dimensional side of a balanced problem: what the symmetric minimum is, in scalars.

With K balanced classes of n samples, the candidates for a global minimum are

    Z = (ρ P + (τ/K) 11ᵀ) ⊗ 1_nᵀ,   b = b₀ 1,   P = I − 11ᵀ/K,

and on them f is a function of three scalars. For shift-invariant losses with the contrastive
property of [Z22] (CE, LS, FL) τ = b₀ = 0 and, with φ(s) the loss at margin s = z_k − z_j for all
j ≠ k, the best symmetric value is

    min_{s≥0} φ(s) + c s,   c = μ √n (K−1),   μ = √(λ_W λ_H),   ρ* = argmin.

Without a bias it is the global minimum, convex loss or not: ‖Z‖_* ≥ √n (K−1) mean_i |s_i| for the
mean margins s_i, and L ≥ φ(mean margin). With one see `margin_lower_bound`. That ρ* is unique for
every c, the other property of [Z22], holds for CE and LS, but for FL only where 1/K ≥ p*(γ)
(K ≤ 23, 17, 17 at γ = 1, 2, 3): beyond, the origin and a frame tie where ρ* jumps.

φ is convex for CE and LS; for FL it is concave below the margin s_c at which p_k = p*(γ) and convex
above it, so that a global minimum of φ + c s over an interval is one of its ends, s_c, or the
single stationary point beyond s_c: no scan is needed to be sure.

    >>> symmetric_minimum(problem).rho     # CE, K=10, n=100, λ=5e-4: 5.25227342804663
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.pytree import pytree, static
from ufm._support.shown import Shown
from ufm.losses import MSE, Focal, Loss
from ufm.model.problem import Problem

Scalar = Float[Array, ""]
#: Halvings that shrink brackets of margins below 1e4 to neighbouring float64 numbers.
_BISECTIONS = 80


@pytree()
class SymmetricMinimum(Shown):
    """ρ, τ, b₀ and the value of f at the best symmetric point (see the module)."""

    rho: Float[Array, "*batch"]
    tau: Float[Array, "*batch"]
    bias_level: Float[Array, "*batch"]
    value: Float[Array, "*batch"]


@pytree()
class CollapseThreshold(Shown):
    """The decay √(λ_W λ_H) at and above which ρ* = 0, and whether ρ* jumps there from a tie."""

    mu: Float[Array, "*batch"]
    jumps: Any


def supported(problem: Problem) -> bool:
    """Balanced classes and a loss whose symmetric minimum is known."""
    loss = problem.loss
    return problem.per_class is not None and (loss.contrastive or isinstance(loss, MSE))


def _balanced_size(problem: Problem) -> int:
    if problem.per_class is None or not supported(problem):
        raise ValueError(
            "the symmetric minimum is known for balanced, unweighted classes and the losses "
            f"CE, LS, FL and MSE; got {problem.loss.label()} with class counts "
            f"{problem.class_counts}. Use global_minimum for other problems"
        )
    return problem.per_class


def symmetric_minimum(problem: Problem) -> SymmetricMinimum:
    """The best symmetric point of a balanced problem, in closed form or by bisection.

    Raises `ValueError` for imbalanced or weighted problems and custom losses.
    """
    return _minimum(_one_per_class(problem))


def _one_per_class(problem: Problem) -> Problem:
    """The problem with n = d = 1 and the same scalars: only μ√n enters, n and d compile nothing."""
    root = _balanced_size(problem) ** 0.5
    return dataclasses.replace(
        problem,
        class_counts=(1,) * problem.num_classes,
        dim=1,
        lam_w=problem.lam_w * root,
        lam_h=problem.lam_h * root,
    )


@jax.jit
def _minimum(problem: Problem) -> SymmetricMinimum:
    rate = problem.mu()
    if isinstance(problem.loss, MSE):
        return _mse_minimum(problem, rate)
    phi, slope = MarginLoss(problem.loss, problem.num_classes), rate * (problem.num_classes - 1)
    rho = phi.argmin(slope, jnp.zeros_like(slope))
    zero = jnp.zeros_like(rho)
    return SymmetricMinimum(rho, zero, zero, phi.value(rho) + slope * rho)


def symmetric_frame(problem: Problem) -> SymmetricMinimum:
    """The symmetric critical point with ρ > 0 that is a minimum in ρ, global or not; else NaN.

    The global minimum below the collapse threshold. The focal loss keeps it beyond, up to the decay
    −φ'(s_c)/(√n (K−1)): φ is nowhere steeper. Raises as `symmetric_minimum`.
    """
    return _frame(_one_per_class(problem))


@jax.jit
def _frame(problem: Problem) -> SymmetricMinimum:
    found, low = _minimum(problem), 0.0
    if not isinstance(problem.loss, MSE):
        phi = MarginLoss(problem.loss, problem.num_classes)
        slope, low = problem.mu() * (problem.num_classes - 1), jnp.maximum(phi.inflection(), 0.0)
        rho = phi.stationary(slope, low)
        found = dataclasses.replace(found, rho=rho, value=phi.value(rho) + slope * rho)
    return jax.tree.map(lambda x: jnp.where(found.rho > low, x, jnp.nan), found)


@jax.jit
def collapse_threshold(problem: Problem) -> CollapseThreshold:
    """Decay μ at which ρ* leaves 0, all else fixed; whether it does so with a jump.

    CE, LS: (1−α)/(K√n), continuous. FL: continuous iff 1/K ≥ p*(γ), else where the origin and
    the frame tie. MSE: 1/(K√n); rescaled MSE by bisection on ρ*.
    """
    n, classes = _balanced_size(problem), problem.num_classes
    if isinstance(problem.loss, MSE):
        return CollapseThreshold(_mse_threshold(problem, n), jnp.asarray(False))
    phi = MarginLoss(problem.loss, classes)
    slope, jumps = phi.critical_slope()
    return CollapseThreshold(slope / ((classes - 1) * n**0.5), jumps)


@pytree()
class MarginLoss:
    """φ(s) = L(s e_k, k): the loss at equal margins s, for a shift-invariant contrastive loss."""

    loss: Loss
    num_classes: int = static()

    def _at(self, s: Scalar) -> tuple[Array, int]:
        return jnp.zeros(self.num_classes, s.dtype).at[0].set(s), 0

    def value(self, s: Scalar) -> Scalar:
        """φ(s)."""
        return self.loss.value(*self._at(s))

    def slope(self, s: Scalar) -> Scalar:
        """φ'(s)."""
        return self.loss.gradient(*self._at(s))[0]

    def inflection(self) -> Scalar:
        """s_c: φ is convex on [s_c, ∞) and concave on (−∞, s_c]; −1e4 where convex throughout."""
        dtype = jnp.result_type(float)
        if not isinstance(self.loss, Focal):
            return jnp.asarray(-1e4, dtype)
        p = jnp.asarray(self.loss.convex_above(), dtype)
        safe = jnp.where(p > 0, p, 0.5)
        margin = jnp.log(self.num_classes - 1.0) + jnp.log(safe) - jnp.log1p(-safe)
        return jnp.where(p > 0, margin, -1e4)

    def stationary(self, slope: Scalar, low: Scalar) -> Scalar:
        """The s ≥ low with φ'(s) = −slope, φ convex on [low, ∞); `low` where φ' > −slope there."""
        start = (low, jnp.full_like(low, 1e4))
        return bisect(lambda s: self.slope(s) + slope >= 0.0, *start)

    def argmin(self, slope: Scalar, low: Scalar) -> Scalar:
        """argmin over s ≥ low of φ(s) + slope·s: exact, see the module."""
        top = self.stationary(slope, jnp.maximum(low, self.inflection()))
        better = self.value(top) + slope * top < self.value(low) + slope * low
        return jnp.where(better, top, low)

    def critical_slope(self) -> tuple[Scalar, Array]:
        """The c above which argmin_{s≥0} φ + cs is 0, and whether the argmin jumps there."""
        zero = jnp.zeros((), jnp.result_type(float))
        bend = self.inflection()

        # Tie of the origin with a stationary point: φ(s) − s φ'(s) = φ(0), s on the convex
        # branch, where the left side decreases in s.
        def beyond(s: Scalar) -> Any:
            return self.value(s) - s * self.slope(s) <= self.value(zero)

        tie = bisect(beyond, jnp.maximum(bend, 0.0), jnp.asarray(1e4, zero.dtype))
        return jnp.where(bend > 0, -self.slope(tie), -self.slope(zero)), bend > 0


def bisect(reached: Any, low: Scalar, high: Scalar) -> Scalar:
    """The point of [low, high] where the monotone predicate turns true; `low` if it starts so."""

    def halve(_: Any, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        a, b = bracket
        mid = 0.5 * (a + b)
        hit = reached(mid)
        return jnp.where(hit, a, mid), jnp.where(hit, mid, b)

    a, b = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    return jnp.where(reached(low), low, 0.5 * (a + b))


def margin_lower_bound(problem: Problem) -> Scalar:
    r"""A number that f never falls below, for balanced classes under CE, LS and FL.

    Without bias: min_{s≥0} φ(s) + c s. With a trained bias, for every multiplier ν,

        f ≥ min_s φ(s) + m_ν(s),   m_ν(s) = min_δ c|s−δ| + νδ + aδ²,   a = λ_b (K−1)²/(2K),

    m_ν convex with slope clip(ν + 2as, −c, c). Returned is the best over a fixed grid of ν, with
    ν = c, for which it equals the neural-collapse value whenever c ≤ 1. Holds for every d. Raises
    `ValueError` for other losses.
    """
    alone = _one_per_class(problem)
    if not problem.loss.contrastive:
        raise ValueError(f"the margin bound needs CE, LS or FL, got {problem.loss.label()}")
    return _margin_bound(alone)


@jax.jit
def _margin_bound(problem: Problem) -> Scalar:
    classes = problem.num_classes
    phi = MarginLoss(problem.loss, classes)
    c = problem.mu() * (classes - 1)
    zero = jnp.zeros_like(c)
    if not problem.has_bias:
        s = phi.argmin(c, zero)
        return phi.value(s) + c * s
    a = jnp.asarray(problem.lam_b, c.dtype) * ((classes - 1) ** 2 / (2 * classes))
    # ν = c is exact for c ≤ 1; −φ'(0) is exact where the origin is the minimum; 1 is the last
    # bounded choice for a free bias. The grid catches what lies between.
    grid = jnp.concatenate(
        [
            jnp.stack([c, jnp.minimum(c, 1.0), jnp.minimum(c, -phi.slope(zero))]),
            jnp.linspace(0.0, 1.0, 62) * c,
        ]
    )
    return jnp.max(jax.vmap(lambda nu: _bound_at(phi, c, a, nu))(grid))


def _bound_at(phi: MarginLoss, c: Scalar, a: Scalar, nu: Scalar) -> Scalar:
    """min_s φ(s) + m_ν(s), never too high: exact on the convex branch, below s_c by intervals."""
    free, safe = a <= 0, jnp.where(a <= 0, 1.0, a)
    # Where the slope of m_ν reaches c and −c; never, for a free bias.
    upper = jnp.where(free, jnp.inf, (c - nu) / (2 * safe))
    lower = jnp.where(free, -jnp.inf, (-c - nu) / (2 * safe))

    def m(s: Scalar) -> Scalar:
        delta = jnp.where(free, s, jnp.clip(s, lower, upper))
        return c * jnp.abs(s - delta) + nu * delta + a * delta**2

    def rising(s: Scalar) -> Any:
        return phi.slope(s) + jnp.clip(nu + 2 * a * s, -c, c) >= 0.0

    bend = phi.inflection()
    top = bisect(rising, bend, jnp.asarray(1e4, c.dtype))
    convex_part = phi.value(top) + m(top)
    # Below s_c, φ decreases, so on [s, t] the sum is at least φ(t) + min m; left of both −1e4 and
    # `lower` the slope of m is −c, and the sum decreases too.
    nodes = bend - (bend + 1e4) * jnp.linspace(1.0, 0.0, 4097) ** 3
    values = jax.vmap(phi.value)(nodes)
    vertex = jnp.where(free, jnp.inf, -nu / (2 * safe))
    inside = jnp.clip(vertex, nodes[:-1], nodes[1:])
    smallest = jax.vmap(m)(inside)
    interval_part = jnp.min(values[1:] + smallest)
    interval_part = jnp.where(free | (lower < -1e4), -jnp.inf, interval_part)
    # For ν ≤ 1 no intervals are needed: m_ν(s) ≥ νs, and the slope of φ, concave below s_c, falls
    # from −1 at −∞, so that φ + νs decreases up to s_c.
    sloped_part = jnp.where(nu <= 1, phi.value(bend) + nu * bend, -jnp.inf)
    left_part = jnp.maximum(interval_part, sloped_part)
    everywhere_convex = bend <= -1e4
    return jnp.where(everywhere_convex, convex_part, jnp.minimum(convex_part, left_part))


@pytree()
class _SquaredScalars:
    """The stationarity conditions of rescaled MSE at symmetric points, as functions of m.

    m = τ/K + b₀, the mean level of the logits, is split between τ (cost μ√n |τ|) and b₀ (cost
    λ_b K b₀²/2) by b₀ = min(m, μ√n/λ_b).
    """

    scale: Scalar
    target: Scalar
    num_classes: int = static()
    rate: Scalar
    level_cap: Scalar
    bias_cost: Scalar

    def rho(self, m: Scalar) -> Scalar:
        """Best ρ ≥ 0 for a given mean level."""
        share = 1.0 / self.num_classes
        curvature = self.scale * (1.0 - share) + share
        pull = self.scale * self.target - self.rate * self.num_classes - (self.scale - 1.0) * m
        return jnp.maximum(pull / curvature, 0.0)

    def level_slope(self, m: Scalar) -> Scalar:
        """Derivative of min_ρ f in m > 0; increasing."""
        k = self.num_classes
        rho = self.rho(m)
        label_part = self.scale * (rho * (1.0 - 1.0 / k) + m - self.target)
        cost = jnp.where(m < self.level_cap, self.bias_cost * m, self.rate * k)
        return label_part + (k - 1.0) * (m - rho / k) + cost


def _squared_scalars(problem: Problem, rate: Scalar) -> _SquaredScalars:
    loss = problem.loss
    assert isinstance(loss, MSE)
    scale, target = (jnp.asarray(x, rate.dtype) for x in (loss.scale, loss.target))
    if problem.has_bias:
        lam_b = jnp.asarray(problem.lam_b, rate.dtype)
        cap = jnp.where(lam_b > 0, rate / jnp.where(lam_b > 0, lam_b, 1.0), jnp.inf)
        cost = lam_b * problem.num_classes
    else:
        cap, cost = jnp.zeros_like(rate), jnp.zeros_like(rate)
    return _SquaredScalars(scale, target, problem.num_classes, rate, cap, cost)


def _mse_level(scalars: _SquaredScalars) -> Scalar:
    low = jnp.zeros_like(scalars.rate)
    return bisect(lambda m: scalars.level_slope(m) >= 0.0, low, low + scalars.target)


def _mse_minimum(problem: Problem, rate: Scalar) -> SymmetricMinimum:
    scalars, classes = _squared_scalars(problem, rate), problem.num_classes
    m = _mse_level(scalars)
    rho = scalars.rho(m)
    bias = jnp.minimum(m, scalars.level_cap)
    tau = classes * (m - bias)
    on_label = rho * (1.0 - 1.0 / classes) + m - scalars.target
    off_label = m - rho / classes
    fit = 0.5 * (scalars.scale * on_label**2 + (classes - 1.0) * off_label**2)
    cost = rate * ((classes - 1.0) * rho + tau) + 0.5 * scalars.bias_cost * bias**2
    return SymmetricMinimum(rho, tau, bias, fit + cost)


def _mse_threshold(problem: Problem, n: int) -> Scalar:
    """ρ* decreases in the decay: bisect on ρ* = 0."""
    base = _squared_scalars(problem, problem.mu())
    high = jnp.maximum(base.scale, 1.0) * base.target / problem.num_classes

    def gone(rate: Scalar) -> Any:
        scalars = _squared_scalars(problem, rate)
        return scalars.rho(_mse_level(scalars)) <= 0.0

    return bisect(gone, jnp.zeros_like(high), high) / n**0.5
