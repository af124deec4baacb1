r"""Softmax codes: K unit vectors in d dimensions, each far from the hull of the others.

With unit classifier rows and features the least margin of all samples is at most

    max_W min_k dist(w_k, conv{w_j : j ≠ k}),

attained by features along the shortest ways from the hulls (Jiang et al., 2023): what cross-entropy
tends to on spheres as the temperature goes to 0. Points with cosines of at most c, whose nearest
ones are balanced around them, have the distance 1 − c:

| K, d | code | margin |
|---|---|---|
| K ≤ d + 1 | simplex ETF | K/(K−1) |
| d + 2 ≤ K ≤ 2d | K − d antipodal pairs and 2d − K single points, orthogonal | 1 |
| d = 2 | regular polygon | 1 − cos(2π/K) |
| (12, 3), (16, 5), (27, 6), (56, 7) | sporadic codes | 1 − 5^{−1/2}, 4/5, 3/4, 2/3 |

The first three are optimal. From K = d + 2 on 1 is a bound: a point of the hull of least norm is a
combination of d + 1 of the points, and no further than 1 from any of the others. In the plane a
point at the angles a and b from its neighbours is no further from them than 1 − cos((a+b)/2).

With weight decay instead of spheres norms may differ, and with a free bias a class may sit at the
origin: the regular polygon is then not the minimiser for d = 2 and K ≥ 5.

    >>> [round(softmax_code(K, 2).margin, 3) for K in (4, 6, 10)]
    [1.0, 0.5, 0.191]
"""

import numpy as np
from jaxtyping import Float

from ufm._support.pytree import pytree, static, whole_number
from ufm._support.shown import Shown
from ufm.minimum.structures import pairs_and_dead, structures


@pytree()
class SoftmaxCode(Shown):
    """K unit vectors `points` (K, d) and the least distance `margin` to the hull of the others.

    `bound` is proven for all codes; the code is optimal if they agree (`is_exact`).
    """

    name: str = static()
    margin: float
    bound: float
    is_exact: bool
    points: Float[np.ndarray, "K d"]


def softmax_code(num_classes: int, dim: int) -> SoftmaxCode:
    """The best known softmax code of K points in d dimensions.

    Args:
        num_classes: K ≥ 2.
        dim: d ≥ 1.

    Returns:
        The points, their margin, and a proven bound on the margin of any code.

    Raises:
        ValueError: A number is too small, or no code is known for these K and d: K > 2d, d ≥ 3, and
            not a sporadic code.
    """
    K, d = whole_number("num_classes", num_classes, 2), whole_number("dim", dim)
    if d == 1 and K > 2:
        raise ValueError("in one dimension there are two unit vectors: set dim to 2 or more")
    if d >= K - 1:
        margin = K / (K - 1)
        return SoftmaxCode(
            "simplex ETF", margin, margin, True, _points(_named(K, "simplex ETF"), d)
        )
    if 2 * d >= K:
        pairs, rest = K - d, 2 * d - K
        gram = pairs_and_dead(K, pairs).patterns[0].copy()
        gram[2 * pairs :, 2 * pairs :] = np.eye(rest)
        name = "orthoplex" if not rest else f"{pairs} pairs and {rest} orthogonal points"
        return SoftmaxCode(name, 1.0, 1.0, True, _points(gram, d))
    if d == 2:
        margin = 1.0 - float(np.cos(2 * np.pi / K))
        points = _points(_named(K, "regular polygon"), d)
        return SoftmaxCode("regular polygon", margin, margin, True, points)
    for each in structures(K, d):
        if each.rank == d and each.name.startswith(("icosahedron", "code of")):
            gram = each.patterns[0]
            margin = 1.0 - float(np.max(gram[0, 1:]))
            return SoftmaxCode(each.name, margin, 1.0, False, _points(gram, d))
    raise ValueError(
        f"no softmax code is known for num_classes={K} and dim={d}: take num_classes of at most "
        f"{2 * d}, dim=2, or (12, 3), (16, 5), (27, 6), (56, 7)"
    )


def _named(num_classes: int, name: str) -> Float[np.ndarray, "K K"]:
    found = next(x for x in structures(num_classes, num_classes) if x.name == name)
    return found.patterns[0] / found.patterns[0][0, 0]


def _points(gram: Float[np.ndarray, "K K"], dim: int) -> Float[np.ndarray, "K d"]:
    """Unit vectors with these products, in `dim` dimensions."""
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(-values)[:dim]
    points = vectors[:, order] * np.sqrt(np.maximum(values[order], 0.0))
    return np.pad(points, ((0, 0), (0, dim - points.shape[1])))
