r"""How far a point is from the predicted minimisers: one orthogonal Procrustes problem.

If (W*, H*, b*) is a minimiser, so is (W*Q, QᵀH*, b*) for every rotation or reflection Q (d×d), and,
where a free bias meets a loss that ignores a common shift of the logits, b* + c1 for every c. The
distance to that family of the predicted minimiser is

    min_{Q,c}  √( ‖W − W*Q‖² + ‖H − QᵀH*‖² + ‖b − b* − c1‖² ).

The cross terms are tr(Q(WᵀW* + HH*ᵀ)), so that with the singular value decomposition
WᵀW* + HH*ᵀ = U S Vᵀ the best Q is V Uᵀ (Schönemann, 1966), jointly for W and H. With weighted
columns H holds √c_i h_i, and the distance is that of the repeated columns. Where the minimiser is
the origin, no direction is left to turn and the distance is the norm of the point.

    >>> nearest_minimiser(problem, params).relative
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.params import Params, finite_or_zero, norm
from ufm.model.problem import Problem, check_shapes, matmul


@pytree()
class NearestMinimiser(Shown):
    """The minimiser closest to a point, and how close it is.

    `distance` is Euclidean over all of W, H and b, `relative` the same over √(‖W*‖² + ‖H*‖²): NaN
    where the minimiser is the origin. `params` is the minimiser itself, turned to face the point.
    """

    distance: Float[Array, ""]
    relative: Float[Array, ""]
    params: Params


def nearest_minimiser(
    problem: Problem, params: Params, minimum: GlobalMinimum | None = None
) -> NearestMinimiser | None:
    """The predicted minimiser nearest to the point, or None where none is known or two tie.

    `minimum` saves computing `global_minimum(problem)` again. Raises `ValueError` for shapes that
    do not belong to the problem. All distances are NaN for a point that is not finite.
    """
    check_shapes(problem, params)
    minimum = minimum or global_minimum(problem)
    if not minimum.is_exact or minimum.tied:
        return None
    target = minimum.params(jax.random.key(0), params.W.dtype)
    turned = align(params, target)
    if params.b is not None and turned.b is not None and _shifts_freely(problem):
        turned = Params(turned.W, turned.H, turned.b + jnp.mean(params.b - turned.b))
    distance = norm(jax.tree.map(lambda x, y: x - y, params, turned))
    size = norm(Params(target.W, target.H, None))
    relative = jnp.where(size > 0, distance / jnp.where(size > 0, size, 1.0), jnp.nan)
    return NearestMinimiser(distance, relative, turned)


def align(params: Params, target: Params) -> Params:
    """(W*Q, QᵀH*, b*) for the rotation or reflection Q that brings the target nearest."""
    # LAPACK never returns from an infinite entry; the distance is NaN all the same.
    point = finite_or_zero(params)
    U, _, Vt = jnp.linalg.svd(matmul(point.W.T, target.W) + matmul(point.H, target.H.T))
    Q = matmul(Vt.T, U.T)
    return Params(matmul(target.W, Q), matmul(Q.T, target.H), target.b)


def _shifts_freely(problem: Problem) -> bool:
    """Does f not change when b moves along 1?"""
    return problem.loss.shift_invariant and float(problem.lam_b or 0) == 0
