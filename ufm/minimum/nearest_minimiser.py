r"""Find the nearest predicted minimiser of a point by an orthogonal Procrustes problem.

If (W*, H*, b*) is a minimiser, so is (W*Q, QᵀH*, b*) for every rotation or reflection Q (d×d). If
the bias is free and the loss ignores a common shift of the logits, so is b* + c1 for every c. The
distance to this family is

    min_{Q,c}  √( ‖W − W*Q‖² + ‖H − QᵀH*‖² + ‖b − b* − c1‖² ).

A minimiser of rank r has W* = A Tᵀ, H* = T B with orthonormal T (d×r). The cross terms are
tr(TᵀQ (WᵀA + HBᵀ)), so that with the singular value decomposition WᵀA + HBᵀ = U S Vᵀ the best TᵀQ
is V Uᵀ (Schönemann, 1966), jointly for W and H. With weighted
columns H holds √c_i h_i, and the distance is that of the repeated columns. If the minimiser is the
origin, the distance is the norm of the point.

    >>> float(nearest_minimiser(problem, solution.params).relative) < 1e-6
    True
"""

import jax
import numpy as np
from jaxtyping import Float

from ufm._support.pytree import pytree
from ufm._support.shown import Shown
from ufm.hessian.symmetry_zeros import shift_is_free
from ufm.minimum.global_minimum import GlobalMinimum, global_minimum
from ufm.model.problem import Params, Problem, check_shapes
from ufm.model.variant import by_variant


@pytree()
class NearestMinimiser(Shown):
    """The minimiser nearest to a point, and its distance.

    `distance` is Euclidean over W, H and b. `relative` is `distance` over √(‖W*‖² + ‖H*‖²), NaN if
    the minimiser is the origin. `params` is the minimiser in its nearest orientation.
    """

    distance: Float[np.ndarray, ""]
    relative: Float[np.ndarray, ""]
    params: Params


@by_variant
@np.errstate(over="ignore", invalid="ignore")
def nearest_minimiser(
    problem: Problem,
    params: Params,
    minimum: GlobalMinimum | None = None,
    within: float = 0.0,
) -> NearestMinimiser | None:
    """Find the predicted minimiser that is nearest to a point, over all rotations.

    Args:
        problem: The problem.
        params: The point: W (K, d), H (d, N), samples ordered by class, b (K,) or None.
        minimum: `global_minimum(problem)`, computed if None.
        within: Squared norm of deviations from class means, if H holds only those.

    Returns:
        The distances, NaN for a point that is not finite, and the minimiser; None if no minimiser
        is known or two tie.

    Raises:
        ValueError: The shapes do not fit the problem.
    """
    check_shapes(problem, params)
    minimum = minimum or global_minimum(problem)
    if not minimum.is_exact or minimum.tied:
        return None
    target = minimum.params(None, params.W.dtype)
    point, target = (jax.tree.map(np.asarray, x) for x in (params, target))
    if not all(np.all(np.isfinite(x)) for x in jax.tree.leaves(point)):
        nan = np.full((), np.nan, target.W.dtype)
        return NearestMinimiser(nan, nan, jax.device_put(target))
    A, B, b = target.W[:, : minimum.rank], target.H[: minimum.rank], target.b
    U, _, Vt = np.linalg.svd(point.W.T @ A + point.H @ B.T, full_matrices=False)
    turn = U @ Vt
    W, H = A @ turn.T, turn @ B
    if b is not None and shift_is_free(problem):
        b = b + np.mean(point.b - b)
    pairs = zip((point.W, point.H, point.b), (W, H, b), strict=True)
    distance = np.sqrt(within + sum(np.sum((x - y) ** 2) for x, y in pairs if y is not None))
    size = np.hypot(np.linalg.norm(target.W), np.linalg.norm(target.H))
    relative = distance / size if size > 0 else np.full_like(distance, np.nan)
    return NearestMinimiser(
        np.asarray(distance), np.asarray(relative), Params(*jax.device_put((W, H, b)))
    )
