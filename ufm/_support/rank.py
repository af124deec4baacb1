"""The rank of a matrix that a solver found: one rule for points, logits, tangents and means.

At a critical point whose unused direction has σ(G) = (1 − δ)μ, a gradient of norm 1e-9 μ may leave
parts of size 1e-9/δ in W and H there, the square of that in Z, while a singular value of Z that
vanishes at a threshold is of the order of the distance δ from it. Above a cutoff c the first is
taken for rank if δ < 1e-9/√c, and below it the second is missed if δ < c: at c = 1e-6 either needs
a decay within a millionth of the threshold. Leaving such a σ out of Z then changes f by the order
of σ², less than solvers see: along it the slopes of g and of the penalty cancel.
"""

import numpy as np
from jaxtyping import Float

#: Singular values up to this fraction of the largest are zero.
NEGLIGIBLE = 1e-6
#: So are those up to this size, which is far below that of logits: of a point at the origin nothing
#: is left, and the orbit of a part of size s has curvature ‖∇f‖/s, which is not small for less.
_SMALLEST = 1e-7


def matrix_rank(matrix: Float[np.ndarray, "p q"]) -> int:
    """The number of its singular values that are not zero."""
    return numerical_rank(np.linalg.svd(matrix, compute_uv=False))


def numerical_rank(sizes: Float[np.ndarray, " m"]) -> int:
    """The number of these singular values that are not zero.

    >>> numerical_rank(np.array([2.0, 1e-3, 1e-9])), numerical_rank(np.array([1e-8, 1e-9]))
    (2, 0)
    """
    return int(np.sum(sizes > max(NEGLIGIBLE * np.max(sizes, initial=0.0), _SMALLEST)))
