"""The singular values and ranks of the layers of a deep linear model.

>>> deep = Problem.balanced(loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=5e-3,
...                         lam_h=5e-3, lam_b=None, lam_hidden=(5e-3,))
>>> layer_spectra(deep, global_minimum(deep).params(key)).ranks
(3, 3, 3, 3)
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from ufm._support.pytree import pytree, static
from ufm._support.rank import numerical_rank
from ufm._support.shown import Shown
from ufm.model.params import Params
from ufm.model.problem import Problem, check_shapes
from ufm.model.variant import by_variant
from ufm.variants.deep.factors import chain, decays_of, factors_of


@pytree()
class LayerSpectra(Shown):
    """Singular values of W, F_1, …, F_L, H and of their product Z, descending, and their ranks.

    `imbalance` is the largest ‖λ_l F_lᵀF_l − λ_{l+1} F_{l+1}F_{l+1}ᵀ‖ relative to the larger term,
    which is 0 at every critical point; NaN at the origin.
    """

    singular_values: tuple[Float[Array | np.ndarray, " _"], ...]
    imbalance: float
    names: tuple[str, ...] = static()
    ranks: tuple[int, ...] = static()

    _printed = ("names", "ranks", "imbalance", "singular_values")


@by_variant
def layer_spectra(problem: Problem, params: Params) -> LayerSpectra:
    """Compute the singular values of every layer at a point.

    Args:
        problem: A problem, with or without hidden layers.
        params: The point: W, F_1, …, F_L in `hidden`, H, and b or None.

    Returns:
        Singular values and numerical ranks of the factors and of Z, and how far the factors are
        from balanced.

    Raises:
        ValueError: The shapes do not fit the problem, or the point is not finite.
    """
    check_shapes(problem, params)
    factors = [np.asarray(F) for F in factors_of(params)]
    if not all(np.all(np.isfinite(F)) for F in factors):
        raise ValueError("the point is not finite: it has no singular values")
    names = ("W", *(f"hidden[{i}]" for i in range(len(params.hidden))), "H", "Z")
    matrices = [*factors, chain(factors)]
    sizes = [np.linalg.svd(x, compute_uv=False) for x in matrices]
    decays = [float(x) for x in decays_of(problem)]
    worst = np.nan
    for i in range(len(factors) - 1):
        left = decays[i] * factors[i].T @ factors[i]
        right = decays[i + 1] * factors[i + 1] @ factors[i + 1].T
        size = max(np.linalg.norm(left), np.linalg.norm(right))
        if size > 0:
            worst = float(np.fmax(worst, np.linalg.norm(left - right) / size))
    return LayerSpectra(
        singular_values=tuple(jax.device_put(x) for x in sizes),
        imbalance=float(worst),
        names=names,
        ranks=tuple(numerical_rank(x) for x in sizes),
    )
