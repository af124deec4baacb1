r"""Points at which some classes are dead, and the m live ones form a smaller simplex ETF.

With a trained bias the features of a class may vanish. Then Z is 0 on this dead class, and a low
bias lowers its probability on the other samples. At such points f is a function of two scalars: the
margin s of the live classes, and the difference β between the biases of live and dead classes,

    f_m(s, β) = (m/K) L(live) + ((K−m)/K) L(dead) + μ√n (m−1) |s| + λ_b m(K−m) β²/(2K),

with logits ((m−1)s/m on the label, −s/m on other live classes, −β on dead ones) for a live sample
and (0 on live classes, −β on dead ones, including the label) for a dead one. Its minimum over m is
an upper bound on f*. For losses with a profile that is concave at 0, such as bounded ones, the
bound is below the value of collapse at decays close to the collapse threshold.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ufm._support.quick_jit import quick_jit
from ufm.losses import Loss
from ufm.model.problem import Problem

#: Margins and biases of the first grid, up to saturation of the loss.
_MARGINS = np.concatenate([np.linspace(0.0, 12.0, 49), np.geomspace(14.0, 60.0, 6)])
_BIASES = np.concatenate([np.linspace(-2.0, 12.0, 15), np.geomspace(14.0, 60.0, 6)])
#: Each round of the search halves the grid's mesh about the best point; 32 rounds reach 1e-9.
_ROUNDS, _HALF_WIDTH = 32, 2
#: Up to this number of classes all numbers of live classes are tried, beyond it a selection.
_MOST_SIZES = 40


@dataclasses.dataclass(frozen=True)
class LiveClasses:
    """A point with m live classes at margin s, dead ones at a bias lower by β, and its f."""

    num_live: int
    margin: float
    bias_gap: float
    value: float


def live_classes(problem: Problem) -> LiveClasses:
    """The best point with 2 ≤ m < K live classes, for balanced classes and equivariant losses."""
    classes, per_class = problem.num_classes, problem.per_class
    if per_class is None or classes < 3 or problem.lam_b is None:
        raise ValueError("dead classes are looked for among 3 or more balanced ones with a bias")
    sizes = np.arange(2, classes)
    if len(sizes) > _MOST_SIZES:
        sizes = np.unique(np.geomspace(2, classes - 1, _MOST_SIZES).round().astype(int))
    rate = float(problem.mu()) * per_class**0.5
    lam_b = float(problem.lam_b)
    # (sizes, points) of margins and biases.
    grid = np.stack(np.meshgrid(_MARGINS, _BIASES, indexing="ij"), -1).reshape(-1, 2)
    at = np.broadcast_to(grid, (len(sizes), *grid.shape))
    values = _values(problem.loss, classes, sizes, at, rate, lam_b)
    best, lowest = _best(at, values)
    mesh = np.array([1.0, 1.0])
    offsets = np.arange(-_HALF_WIDTH, _HALF_WIDTH + 1)
    pattern = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
    for _ in range(_ROUNDS):
        at = best[:, None, :] + mesh * pattern
        values = _values(problem.loss, classes, sizes, at, rate, lam_b)
        best, lowest = _best(at, values)
        mesh = 0.5 * mesh
    i = int(np.argmin(lowest))
    return LiveClasses(int(sizes[i]), float(best[i, 0]), float(best[i, 1]), float(lowest[i]))


def _best(at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.argmin(values, axis=1)
    rows = np.arange(len(at))
    return at[rows, chosen], values[rows, chosen]


def _values(
    loss: Loss, classes: int, sizes: np.ndarray, at: np.ndarray, rate: float, lam_b: float
) -> np.ndarray:
    s, beta = at[..., 0], at[..., 1]
    m = sizes[:, None].astype(float)
    index = np.arange(classes)
    alive = index < m[..., None]
    dead_logits = np.where(alive, 0.0, -beta[..., None])
    live_logits = dead_logits - np.where(alive, (s / m)[..., None], 0.0)
    live_logits[..., 0] += s
    live = _losses(loss, live_logits.reshape(-1, classes), np.int32(0))
    dead = _losses(loss, dead_logits.reshape(-1, classes), np.int32(classes - 1))
    share = m / classes
    fit = share * np.reshape(live, s.shape) + (1.0 - share) * np.reshape(dead, s.shape)
    penalty = rate * (m - 1.0) * np.abs(s) + 0.5 * lam_b * m * (1.0 - share) * beta**2
    found = fit + penalty
    return np.where(np.isfinite(found), found, np.inf)


@quick_jit
def _losses(loss: Loss, logits: Float[Any, "points K"], label: Any) -> Float[Any, " points"]:
    return jax.vmap(lambda z: loss.value(z, label))(logits)
