"""Compare the prediction of theory at a decay with runs from random starts."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ufm.collapse.live_classes import live_classes
from ufm.loss_check.levels import Levels
from ufm.loss_check.profile import Profile
from ufm.losses import Loss
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.solvers import Status, solve, solve_many

#: Largest distance of a run from the best known value, relative to 1 + |f|, to have reached it.
REACHED = 1e-7
#: Sizes of starts, from near the origin, a local minimum of bounded losses, to beyond the minimum.
_SCALES = (0.05, 2.0)
#: Newton steps of a run: losses that are smooth and have a minimum need 30.
_STEPS = 60
#: Steps of L-BFGS, which gets on at the kinks of plain hinges, too.
_SMALL_STEPS = 500
#: Columns of Z below this norm, relative to the longest, are dead, and its singular values zero: no
#: numerical rank, since runs that end at kinks have gradients which are not small.
_DEAD = 1e-3
#: Kinds of symmetric points with τ ≠ 0: with ρ = 0, and with ρ ≠ 0, of rank K.
_EQUAL, _SHIFTED = "all features equal", "shifted frame"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction of the profile at one decay: values of f, and the lowest of them."""

    #: K√nμ, and its ratio to the collapse threshold.
    decay: float
    share: float
    #: The best point at equal margins: min_s φ(s) + c|s|, its margin, and a lower bound by branch
    #: and bound (−∞ if φ may increase).
    nc_value: float
    margin: float
    nc_lower_bound: float
    origin_value: float
    #: The best point with dead classes, which needs a bias; NaN without one.
    live_value: float
    num_live: int
    #: τ of the symmetric point, whose ρ is `margin`; 0 for shift-invariant losses.
    level: float = 0.0

    @property
    def value(self) -> float:
        return float(np.nanmin([self.nc_value, self.live_value]))

    @property
    def kind(self) -> str:
        if self.live_value < self.nc_value - 1e-12 * (1.0 + abs(self.nc_value)):
            return f"{self.num_live} live classes"
        if self.margin == 0.0:
            return "origin" if self.level == 0.0 else _EQUAL
        return "simplex ETF" if self.level == 0.0 else _SHIFTED


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The ends of the runs at one decay K√nμ."""

    decay: float
    values: tuple[float, ...]
    converged: int
    kind: str

    @property
    def best(self) -> float:
        return min(self.values)

    @property
    def unfinished(self) -> str:
        """A remark on runs that did not converge: at a kink of the loss, or without a minimum."""
        if self.converged == len(self.values):
            return ""
        return f"; {self.converged or 'none'} of {len(self.values)} runs converged"

    def reached(self, value: float) -> int:
        """The number of runs at this value or below."""
        return sum(x <= value + REACHED * (1.0 + abs(value)) for x in self.values)


def predict(
    loss: Loss,
    profile: Profile,
    decay: float,
    share: float,
    lam_b: float | None,
    *,
    falls: bool,
    levels: Levels | None,
) -> Prediction:
    """Predict at K√nμ = `decay`; `falls` says that the profile is known to be nonincreasing.

    `levels` is given for a convex loss that is not shift-invariant.
    """
    if levels is not None:
        point = levels.minimum(decay)
        return Prediction(
            decay=decay,
            share=share,
            nc_value=float(point.value),
            margin=float(point.rho),
            nc_lower_bound=-np.inf,
            origin_value=levels.origin,
            live_value=np.nan,
            num_live=0,
            level=float(point.tau),
        )
    c = decay / profile.unit
    margin, value = profile.minimum(c)
    bound = profile.bounded_minimum(c).lower if falls else -np.inf
    live = None
    if lam_b is not None and profile.num_classes > 2:
        live = live_classes(_problem(loss, profile.num_classes, decay, lam_b))
    return Prediction(
        decay=decay,
        share=share,
        nc_value=value,
        margin=margin,
        nc_lower_bound=min(bound, value),
        origin_value=float(profile.value[0]),
        live_value=np.nan if live is None else live.value,
        num_live=0 if live is None else live.num_live,
    )


def run(
    loss: Loss,
    num_classes: int,
    decay: float,
    lam_b: float | None,
    *,
    num_starts: int,
    seed: int,
) -> Outcome:
    """Solve from random starts of many sizes, with one sample per class and d = K.

    Where Newton's method does not come to an end from the first, L-BFGS runs from all.
    """
    problem = _problem(loss, num_classes, decay, lam_b)
    drawn = init_params(problem, jax.random.key(seed), 1.0, num_starts)
    scales = np.geomspace(*_SCALES, num_starts)
    starts = jax.tree.map(lambda x: np.asarray(x).T * scales, drawn)
    starts = jax.tree.map(lambda x: jax.device_put(x.T), starts)
    method, steps = "newton", _STEPS
    first = solve(problem, jax.tree.map(lambda x: x[0], starts), max_steps=steps)
    if first.status != Status.CONVERGED:
        method, steps = "lbfgs", _SMALL_STEPS
    found = solve_many(problem, starts=starts, method=method, max_steps=steps)
    values = np.asarray(found.value)
    usable = np.where(np.isfinite(values), values, np.inf)
    best = int(np.argmin(usable))
    Z = np.asarray(found.params.W)[best] @ np.asarray(found.params.H)[best]
    return Outcome(
        decay=decay,
        values=tuple(float(x) for x in np.sort(usable)),
        converged=int(np.sum(found.status == Status.CONVERGED)),
        kind=_kind(Z),
    )


def _kind(Z: np.ndarray) -> str:
    """Classify the logits at the best point."""
    sizes = np.linalg.norm(Z, axis=0)
    if np.max(sizes) < 1e-5:
        return "origin"
    alive = sizes > _DEAD * np.max(sizes)
    count = int(np.sum(alive))
    if count < Z.shape[1]:
        values = np.linalg.svd(Z[:, alive], compute_uv=False)[: max(count - 1, 1)]
        even = values[-1] > 0.99 * values[0]
        return f"{count} live classes" if even else f"{count} live classes, no ETF"
    level, rest = Z.mean(), Z - Z.mean()
    values = np.linalg.svd(rest, compute_uv=False)
    if values[0] < _DEAD * np.max(sizes):
        return _EQUAL
    # ρP, which 1 is a null vector of, and (τ/K) 11ᵀ.
    centred = np.max(np.abs([rest.sum(axis=0), rest.sum(axis=1)])) < _DEAD * values[0]
    if centred and values[-2] > 0.99 * values[0]:
        return "simplex ETF" if abs(level) * count < _DEAD * values[0] else _SHIFTED
    values = np.linalg.svd(Z, compute_uv=False)
    return f"rank {np.sum(values > _DEAD * values[0])}, no ETF"


def _problem(loss: Loss, num_classes: int, decay: float, lam_b: float | None) -> Problem:
    mu: Any = decay / num_classes
    return Problem.balanced(
        loss=loss,
        num_classes=num_classes,
        per_class=1,
        dim=num_classes,
        lam_w=mu,
        lam_h=mu,
        lam_b=lam_b,
    )
