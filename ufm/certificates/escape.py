"""Descent directions at a saddle: the Hessian's lowest eigenvector, and the theory's direction.

>>> found = saddle(problem, origin(problem), key)
>>> [round(float(x), 6) for x in (found.smallest, found.escape.predicted)]
[-0.106803, -0.106803]
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Key

from ufm._support.shown import Shown
from ufm.certificates.dual_state import dual_state
from ufm.certificates.second_order import Escape, escape_direction
from ufm.hessian import extremal_eigenpairs, rank_of
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.variant import by_variant


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Saddle(Shown):
    """The smallest eigenvalue of ∇²f with its eigenvector, and the escape direction of the theory.

    `residual` is ‖∇²f v − λ v‖. No direction has less curvature than `smallest`. The theory's
    direction has `escape.curvature`, which at critical points with rank W < d equals
    `escape.predicted` = −2(‖G‖₂−μ)μ/(λ_W+λ_H). Between the two lies the pair of ‖G‖₂ outside the
    row space, `outside` = (λ_W+λ_H)/2 − √(((λ_W−λ_H)/2)² + ‖G‖₂²), the best combination of the
    theory's two vectors. It is None if W and the features span all d dimensions.
    """

    smallest: float
    direction: Params
    residual: float
    converged: bool
    outside: float | None
    escape: Escape

    @property
    def _caution(self) -> str:
        return "" if self.converged else "NOT CONVERGED: there may be directions of lower curvature"


@by_variant
def saddle(problem: Problem, params: Params, key: Key[Array, ""]) -> Saddle:
    """Compute the direction of least curvature at a point, and the theory's escape direction.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        key: Random key of the search for eigenvectors.

    Returns:
        The least curvature with its direction, and the theory's escape direction.

    Raises:
        ValueError: The point or its Hessian is not finite.
    """
    pairs = extremal_eigenpairs(problem, params, key, count=1, end="smallest")
    state = dual_state(problem, params)
    lam_w, lam_h = float(problem.lam_w), float(problem.lam_h)
    free = rank_of(params) < problem.dim
    spread = np.hypot((lam_w - lam_h) / 2, float(state.dual_norm))
    return Saddle(
        smallest=float(pairs.values[0]),
        direction=jax.tree.map(lambda x: x[0], pairs.vectors),
        residual=float(pairs.residuals[0]),
        converged=pairs.converged,
        outside=(lam_w + lam_h) / 2 - float(spread) if free else None,
        escape=escape_direction(problem, state)[0],
    )
