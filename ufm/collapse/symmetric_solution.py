r"""The symmetric minimum of a balanced problem, computed from scalars.

With K balanced classes of n samples, the candidates for a global minimum are

    Z = (ρ P + (τ/K) 11ᵀ) ⊗ 1_nᵀ,   b = b₀ 1,   P = I − 11ᵀ/K,

on which f is a function of three scalars. For shift-invariant losses with the contrastive property
of [Z22] (CE, LS, FL, bounded losses, hinges, …), τ = b₀ = 0. With φ(s) the loss at margin
s = z_k − z_j for all j ≠ k, the best symmetric value is

    min_{s≥0} φ(s) + c s,   c = μ √n (K−1),   μ = √(λ_W λ_H),   ρ* = argmin.

Without a bias this is the global minimum, even if the loss is not convex: ‖Z‖_* ≥ √n (K−1) mean_i
|s_i| for the mean margins s_i, and L ≥ φ(mean margin). For a bias see `margin_lower_bound`. The
other property of [Z22], that ρ* is unique for every c, holds if φ is convex for s ≥ 0: for CE and
LS, and for FL only if 1/K ≥ p*(γ) (K ≤ 23, 17, 17 at γ = 1, 2, 3). Otherwise the origin and a frame
tie where ρ* jumps.

See `ufm.collapse.margin_loss` for φ and `ufm.collapse.squared_error` for MSE. Computations are
NumPy on the host, where nothing is compiled, and JAX within a transformation.

    >>> large = Problem.balanced(loss=CrossEntropy(), num_classes=10, per_class=100, dim=16,
    ...                          lam_w=5e-4, lam_h=5e-4, lam_b=None)
    >>> round(float(symmetric_minimum(large).rho), 6), round(float(collapse_threshold(large).mu), 6)
    (5.252273, 0.01)
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from ufm._support.namespace import namespace, settled
from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.collapse.margin_loss import LARGEST_MARGIN, MarginLoss, margin_bound
from ufm.collapse.squared_error import SquaredError
from ufm.losses import MSE
from ufm.model.problem import Problem
from ufm.model.variant import by_variant

#: A profile that is straight from the margin 0 to this one is that of a hinge.
_STRAIGHT = 1e-3
#: An inflection below this margin is one at 0 to rounding.
_AT_ZERO = 1e-12

_Number = Float[np.ndarray | Array, "*batch"]


@pytree()
class SymmetricMinimum(Shown):
    """ρ, τ, b₀ and the value of f at the best symmetric point (see the module)."""

    rho: _Number
    tau: _Number
    bias_level: _Number
    value: _Number

    def rank(self, num_classes: int) -> int:
        """The rank of the point; on the host."""
        return (num_classes - 1) * bool(self.rho > 0) + bool(self.tau > 0)


@pytree()
class CollapseThreshold(Shown):
    """The decay √(λ_W λ_H) at and above which ρ* = 0, and whether ρ* jumps there from a tie."""

    mu: _Number
    jumps: Any


def supported(problem: Problem) -> bool:
    """Whether classes are balanced and the symmetric minimum of the loss is known."""
    loss, plain = problem.loss, problem.variant is None
    return plain and problem.per_class is not None and (loss.contrastive or isinstance(loss, MSE))


def _balanced_size(problem: Problem) -> int:
    if problem.per_class is None or not supported(problem):
        raise ValueError(
            "the symmetric minimum is known for balanced, unweighted classes and MSE or the "
            f"contrastive losses of the library; got {problem.loss.label()} with class counts "
            f"{problem.class_counts}. Use global_minimum for other problems"
        )
    return problem.per_class


@by_variant
def symmetric_minimum(problem: Problem) -> SymmetricMinimum:
    """Compute the best point of a balanced problem that is symmetric in the classes.

    Args:
        problem: A balanced problem with a loss of the library.

    Returns:
        Its value and scalars: Z = (ρP + (τ/K) 11ᵀ) ⊗ 1ᵀ, b = b₀ 1.

    Raises:
        ValueError: The problem is imbalanced or weighted, or its loss is a custom one.
    """
    rate, problem = _rate(problem), settled(problem)
    if isinstance(problem.loss, MSE):
        return SymmetricMinimum(*map(_array, _squared(problem, rate).minimum()))
    phi, slope = _margin_loss(problem), rate * (problem.num_classes - 1)
    return _at_margin(phi, slope, phi.argmin(slope, 0.0 * slope))


def _at_margin(phi: MarginLoss, slope: Any, rho: Any) -> SymmetricMinimum:
    zero = 0.0 * rho
    return SymmetricMinimum(*map(_array, (rho, zero, zero, phi.value(rho) + slope * rho)))


def _rate(problem: Problem) -> Any:
    """μ√n, through which alone n, λ_W and λ_H enter the scalars."""
    problem, root = settled(problem), _balanced_size(problem) ** 0.5
    return problem.mu(problem.lam_w.dtype) * root  # pyright: ignore[reportAttributeAccessIssue]  # settled: an array


def _margin_loss(problem: Problem) -> MarginLoss:
    assert problem.loss.contrastive
    return MarginLoss(problem.loss, problem.num_classes)


def _squared(problem: Problem, rate: Any) -> SquaredError:
    assert isinstance(problem.loss, MSE)
    return SquaredError(problem.loss, problem.num_classes, rate, problem.lam_b)


def _array(x: Any) -> Any:
    return namespace(x).asarray(x)


def symmetric_frame(problem: Problem) -> SymmetricMinimum:
    """The symmetric critical point with ρ > 0 that is a local minimum in ρ; NaN if there is none.

    It is the global minimum below the collapse threshold. If φ is concave at 0, it exists beyond
    the threshold, up to the decay −φ'(s_c)/(√n (K−1)), since φ is steepest at s_c. Raises as
    `symmetric_minimum`.
    """
    rate, problem, low = _rate(problem), settled(problem), 0.0
    if problem.loss.contrastive and not problem.loss.is_convex():
        phi, slope = _margin_loss(problem), rate * (problem.num_classes - 1)
        low = namespace(slope).maximum(phi.inflection(slope), 0.0)
        found = _at_margin(phi, slope, phi.stationary(slope, low))
    else:
        found = symmetric_minimum(problem)
    there, xp = found.rho > low, namespace(found.rho)
    return jax.tree.map(lambda x: xp.where(there, x, xp.nan), found)


@by_variant
def collapse_threshold(problem: Problem) -> CollapseThreshold:
    """Compute the decay from which on the origin is the global minimum, as μ = √(λ_W λ_H).

    Args:
        problem: A balanced problem; its decays are not used.

    Returns:
        `mu`, in units of the loss, and whether the minimiser `jumps` there.

    Raises:
        ValueError: The problem is imbalanced or weighted, or its loss has no known threshold.
    """
    root, problem = _balanced_size(problem) ** 0.5, settled(problem)
    if isinstance(problem.loss, MSE):
        return CollapseThreshold(
            _array(_squared(problem, _rate(problem)).threshold() / root), np.asarray(False)
        )
    phi, zero = _margin_loss(problem), 0.0 * _rate(problem)
    tie = phi.tie(zero)
    if phi.loss.heavy_tailed and namespace(tie) is np and np.any(tie >= LARGEST_MARGIN):
        raise ValueError(
            f"the threshold of {problem.loss.label()} with {problem.num_classes} classes is not "
            f"known: its minimiser jumps beyond the margin {LARGEST_MARGIN:g}"
        )
    slope = -phi.slope(tie)
    # From a concave start, or along a straight one, as of a plain hinge.
    jumps = (phi.inflection(zero) > _AT_ZERO) | (phi.slope(zero + _STRAIGHT) <= phi.slope(zero))
    return CollapseThreshold(_array(slope / ((problem.num_classes - 1) * root)), _array(jumps))


def known_threshold(problem: Problem) -> CollapseThreshold | None:
    """`collapse_threshold`, or None where none is known."""
    try:
        return collapse_threshold(problem)
    except ValueError:
        return None


def margin_lower_bound(problem: Problem) -> Float[np.ndarray | Array, "*batch"]:
    """A lower bound on f up to rounding, for balanced contrastive losses and every d.

    It equals the symmetric minimum without a bias. With a bias it does if c = μ √n (K−1) ≤ −φ'(−∞),
    which is 1 for CE, LS and FL, and beyond the collapse threshold if φ is convex for s ≥ 0. See
    `margin_bound`. Raises `ValueError` for other losses.
    """
    rate = _rate(problem)
    if isinstance(problem.loss, MSE):
        raise ValueError(f"the margin bound needs a contrastive loss, got {problem.loss.label()}")
    problem = settled(problem)
    c = rate * (problem.num_classes - 1)
    return _array(margin_bound(_margin_loss(problem), c, problem.lam_b))


def proven_lower_bound(problem: Problem) -> tuple[float, float]:
    """A lower bound on f, and the rounding that it allows for; on the host.

    It equals the symmetric minimum up to rounding, except with a bias at large c if φ is not
    convex: see `margin_lower_bound`.
    """
    if isinstance(problem.loss, MSE):
        return _squared(settled(problem), _rate(problem)).lower_bound()
    bound = float(margin_lower_bound(problem))
    # No term of the bound exceeds φ(0), and the error of each is 1 + γ roundings.
    size = abs(bound) + float(_margin_loss(settled(problem)).value(np.float64(0.0)))
    steep = float(problem.loss.smoothness()[0])
    rounding = 64 * float(np.finfo(float).eps) * steep * size
    return bound - rounding, rounding


def is_tied(problem: Problem) -> bool:
    """Whether the origin and a frame with ρ > s_c have the same value up to rounding.

    This happens if φ is concave at 0, at the decay where the minimiser jumps.
    """
    if not problem.loss.contrastive or problem.loss.is_convex():
        return False
    phi, zero = _margin_loss(settled(problem)), np.float64(0.0)
    origin, frame = float(phi.value(zero)), float(symmetric_frame(problem).value)
    near = 64 * float(np.finfo(float).eps) * (1.0 + origin)
    return bool(phi.inflection(zero) > 0) and abs(frame - origin) <= near
