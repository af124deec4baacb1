r"""Lead runs out of the local minima of H ≥ 0, in which no coordinate serves some class.

If coordinates i and j have the same direction, (w_i, h_i) ∥ (w_j, h_j), the rotation of the two
that makes w_j = 0 and h_j = 0 leaves f as it is. Where γ° > μ, the freed coordinate leads down:

    w_j = −t (λ_H/λ_W)^¼ Gv/γ°,   h_j = t (λ_W/λ_H)^¼ v,   f falls by t²(γ° − μ) + O(t⁴).

    >>> relu = Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=3e-2,
    ...                         lam_h=3e-2, lam_b=None, features=NonNegative())
    >>> stuck = solve(relu, init_params(relu, jax.random.key(3)))
    >>> certify(relu, stuck.params).verdict
    <Verdict.LOCAL_MINIMUM: 3>
    >>> certify(relu, merged_solve(relu, stuck.params).params).verdict
    <Verdict.GLOBAL_MINIMUM: 0>
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ufm.model.objective import data_loss, logits, penalty
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.solvers import DEFAULT_METHOD, Solution, solve
from ufm.solvers._solution import continued
from ufm.variants.nonnegative.bounds import cone_state

#: Directions are equal, and a coordinate is unused, to this accuracy.
_EQUAL = 1e-6
#: γ° exceeds μ by more than this fraction where it leads down.
_ABOVE = 1e-8
#: Steps t that are tried, relative to the norm of the longest coordinate, or to 1 at the origin.
_LENGTHS = 2.0 ** np.arange(1.0, -14.0, -1.0)


class _Point(NamedTuple):
    """W and H on the host."""

    W: Float[np.ndarray, "K d"]
    H: Float[np.ndarray, "d N"]


def merged_solve(
    problem: Problem,
    params: Params,
    *,
    method: str = DEFAULT_METHOD,
    tol: float | None = None,
    max_steps: int | None = None,
) -> Solution:
    """Minimise f with H ≥ 0, and go on from local minima while merging coordinates leads down.

    Args:
        problem: A problem with `features=NonNegative()`.
        params: The start: W (K, d), H (d, N) ≥ 0, samples ordered by class, b (K,) or None.
        method: As for `ufm.solve`.
        tol: As for `ufm.solve`.
        max_steps: Of each of the runs, as for `ufm.solve`.

    Returns:
        The last run, with the steps, products and history of all.

    Raises:
        ValueError: As for `ufm.solve`.
    """
    found = solve(problem, params, method=method, tol=tol, max_steps=max_steps)
    # Each turn lowers f; no more classes can be missing than there are.
    for _ in range(2 * problem.num_classes):
        way = way_down(problem, found.params)
        if way is None:
            break
        then = solve(problem, way, method=method, tol=tol, max_steps=max_steps)
        found = dataclasses.replace(
            then,
            num_steps=then.num_steps + found.num_steps,
            num_products=then.num_products + found.num_products,
            history=continued(found, then),
        )
    return found


def way_down(problem: Problem, params: Params) -> Params | None:
    """A point below a critical point, by an unused coordinate or one that merging frees; or None.

    None means that γ° ≤ μ, or that no two coordinates have the same direction.
    """
    state = cone_state(problem, params)
    if not float(state.dual_norm) > (1.0 + _ABOVE) * float(state.mu):
        return None
    balance = (float(problem.lam_h) / float(problem.lam_w)) ** 0.25
    freed = _with_unused(_Point(np.asarray(params.W), np.asarray(params.H)), balance)
    if freed is None:
        return None
    (W, H), unused = freed
    u, v = np.asarray(state.top_left) * balance, np.asarray(state.top_right) / balance
    size = max(float(np.max(np.sum(W**2, axis=0))) ** 0.5 / balance, float(np.max(H)), 0.0)
    best, lowest = None, float(state.value)
    for t in _LENGTHS * (size or 1.0):
        there = _Point(W.copy(), H.copy())
        there.W[:, unused], there.H[unused] = -t * u, t * v
        moved = Params(jnp.asarray(there.W), jnp.asarray(there.H), params.b)
        value = float(data_loss(problem, logits(problem, moved)) + penalty(problem, moved))
        if value < lowest:
            best, lowest = moved, value
    return best


def _with_unused(point: _Point, balance: float) -> tuple[_Point, int] | None:
    """The point with an unused coordinate, after merging two of equal direction if need be."""
    W, H = point
    X = np.vstack([W / balance, (balance * H).T])  # columns of equal halves at critical points
    sizes = np.linalg.norm(X, axis=0)
    unused = int(np.argmin(sizes))
    if sizes[unused] <= _EQUAL * np.max(sizes):
        return _Point(W.copy(), H.copy()), unused
    cosines = X.T @ X / np.outer(sizes, sizes) - 2.0 * np.eye(len(sizes))
    i, j = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
    if cosines[i, j] < 1.0 - _EQUAL**2:
        return None
    length = np.hypot(sizes[i], sizes[j])
    W, H = W.copy(), H.copy()
    W[:, i] = (sizes[i] * W[:, i] + sizes[j] * W[:, j]) / length
    H[i] = (sizes[i] * H[i] + sizes[j] * H[j]) / length
    W[:, j], H[j] = 0.0, 0.0
    return _Point(W, H), int(j)
