r"""Structured points of balanced classes, as functions of one scalar or a few.

In the columns √n_k W̃ h̄_k/√n the problem depends on K, M and e = Λ n^{1/M} only:

    f = (1/K) Σ_k L(z_k, k) + (M/2) e Σ_i s_i(Z)^p,   Z = [z_1, …, z_K],   p = 2/M.

A structure is a subspace of matrices Z that a group of class permutations (and signs) leaves
invariant, of fixed rank, so that its critical points are critical points of f. Most are rays R T:

| structure | T |
|---|---|
| simplex ETF | P = I − 11ᵀ/K |
| a pairs, the other classes dead (orthoplex: K = 2a) | e_k − e_{k+1} on classes k, k+1 of a pair |
| regular polygon | cos(2π(j − k)/K) |
| hypercube, K = 2^m | ½ C Cᵀ, C the K×m matrix of signs |
| sporadic codes | the Gram matrix of unit vectors |

The others are a pairs with s single classes, K = 2a + s, a direct sum of simplices, groups of
classes of sizes m and m − 1 that know nothing of each other, and for even K the antiprism, a
polygon whose corners lie above and below its plane in turn. M = 2 is the plain model in fewer
dimensions than K − 1 (e = μ√n).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ufm._support.few_variables import descend
from ufm._support.roots import root
from ufm.collapse.metrics import centering
from ufm.hessian.products.columns import loss_derivatives
from ufm.losses import CrossEntropy, LabelSmoothing, Loss

Table = Float[np.ndarray, "*batch K K"]
#: Sizes R at which a ray is scanned before its minimum is polished.
_SCAN = np.geomspace(1e-3, 1e4, 281)
#: Singular values of a pattern below this are zero.
_ZERO = 1e-9
#: Structures whose values agree to this are one point.
SAME = 1e-11
#: Most classes whose structures are searched: the time grows as K⁴.
_MOST_CLASSES = 64


class Structure(NamedTuple):
    """Z = Σ_j θ_j T_j, with its singular values as a function of θ."""

    name: str
    rank: int
    patterns: Float[np.ndarray, "m K K"]
    #: θ ↦ the singular values that are not zero, and their derivatives (rank, m).
    sizes: Callable[[Any], tuple[np.ndarray, np.ndarray]]


class Found(NamedTuple):
    """The best point of a structure: its value, table and parameters."""

    name: str
    rank: int
    value: float
    table: Float[np.ndarray, "K K"]
    theta: Float[np.ndarray, " m"]


@dataclasses.dataclass(frozen=True)
class TableLoss:
    """(1/K) Σ_k L(z_k, k) and its gradient, on the host."""

    loss: Loss
    num_classes: int

    def __call__(self, Z: Table) -> tuple[Any, Table]:
        """The value and gradient at each table."""
        K = self.num_classes
        if type(self.loss) in (CrossEntropy, LabelSmoothing):
            alpha = float(getattr(self.loss, "alpha", 0.0))
            target = (1 - alpha) * np.eye(K) + alpha / K
            top = Z.max(axis=-2, keepdims=True)
            weights = np.exp(Z - top)
            total = weights.sum(axis=-2, keepdims=True)
            # Differences to the label's logit: a small loss is not a difference of large numbers.
            own = np.einsum("...kk->...k", Z)[..., None, :]
            rest = np.where(np.eye(K) > 0, 0.0, np.exp(np.minimum(Z - own, 700.0)))
            safe = np.log1p(rest.sum(axis=-2))
            plain = (top + np.log(total) - own)[..., 0, :]
            value = np.where(plain < 1.0, safe, plain)
            value = value + (alpha / K) * (own - Z).sum(axis=-2)
            return value.mean(axis=-1), (weights / total - target) / K
        lead = Z.shape[:-2]
        flat = np.moveaxis(Z, -2, -1).reshape(-1, K)
        labels = np.tile(np.arange(K), len(flat) // K)
        found = loss_derivatives(self.loss, flat, labels)
        gradient = np.moveaxis(found.gradients.reshape(*lead, K, K), -2, -1)
        return found.values.reshape(*lead, K).mean(axis=-1), gradient / K


def _sum(name: str, *patterns: Float[np.ndarray, "K K"]) -> Structure:
    """Σ_j θ_j T_j of patterns whose row spaces, and whose column spaces, are orthogonal."""
    found = [np.linalg.svd(T, compute_uv=False) for T in patterns]
    parts = [s[s > _ZERO * s[0]] for s in found]
    columns = np.eye(len(parts))
    scales = np.concatenate([np.outer(s, e) for s, e in zip(parts, columns, strict=True)])
    return Structure(
        name,
        len(scales),
        np.array(patterns),
        lambda theta: (np.abs(scales @ theta), scales * np.sign(theta)),
    )


def _words(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count > 1 else "")


def pairs_and_dead(num_classes: int, pairs: int) -> Structure:
    """`pairs` antipodal pairs; the other classes are dead."""
    T = np.zeros((num_classes, num_classes))
    for k in range(0, 2 * pairs, 2):
        T[k : k + 2, k : k + 2] = [[1.0, -1.0], [-1.0, 1.0]]
    dead = num_classes - 2 * pairs
    if not dead:
        return _sum("orthoplex" if pairs > 1 else "simplex ETF", T)
    words = "dead class" if dead == 1 else f"{dead} dead classes"
    return _sum(f"{_words(pairs, 'pair')} and {words if dead > 1 else '1 ' + words}", T)


def pairs_and_singles(num_classes: int, pairs: int) -> Structure:
    """`pairs` antipodal pairs and single classes.

    Singles have the standard representation R'(I − 11ᵀ/s), and one direction u = P1_singles.
    """
    K, a, s = num_classes, pairs, num_classes - 2 * pairs
    of_pairs, of_singles = np.arange(K) < 2 * a, np.arange(K) >= 2 * a
    u = centering(K) @ of_singles
    u /= np.linalg.norm(u)
    patterns = [pairs_and_dead(K, a).patterns[0], np.outer(u, of_pairs), np.outer(u, of_singles)]
    if s > 1:
        ones = np.outer(of_singles, of_singles) / s
        patterns.append(np.diag(of_singles.astype(float)) - ones)

    def sizes(theta: Any) -> tuple[np.ndarray, np.ndarray]:
        R, c, t = theta[:3]
        along = float(np.sqrt(2 * a * c**2 + s * t**2))
        values = [2 * abs(R)] * a + [along] + [abs(x) for x in theta[3:] for _ in range(s - 1)]
        slopes = np.zeros((len(values), len(theta)))
        slopes[:a, 0] = 2 * np.sign(R)
        slopes[a, 1:3] = np.array([2 * a * c, s * t]) / max(along, 1e-300)
        slopes[a + 1 :, 3:] = np.sign(theta[3:])
        return np.array(values), slopes

    name = f"{_words(a, 'pair')} and {_words(s, 'single class')}".replace("classs", "classes")
    return Structure(name, a + s, np.array(patterns), sizes)


def simplices(num_classes: int, groups: int) -> Structure:
    """A direct sum of simplices, of sizes that differ by one at most; R P on each group."""
    K, small = num_classes, num_classes // groups
    sizes = [small + (i < K % groups) for i in range(groups)]
    kinds = sorted(set(sizes), reverse=True)
    patterns, start = np.zeros((len(kinds), K, K)), 0
    for size in sizes:
        part = slice(start, start + size)
        patterns[kinds.index(size), part, part] = centering(size)
        start += size
    return _sum(f"simplices of {' + '.join(map(str, sizes))} classes", *patterns)


def _sporadic_codes(num_classes: int) -> Iterator[Structure]:
    """Unit vectors on which a group acts transitively, in dimensions 3 and 5 to 7.

    The icosahedron, and 16, 27 and 56 points: roots of E₈ with product 1 with a root and 0 with
    those that continue it to a chain, seen from the space orthogonal to the chain.
    """
    K = num_classes
    if K == 12:
        golden = (1 + 5**0.5) / 2
        plane = [(0.0, x, y * golden) for x in (1, -1) for y in (1, -1)]
        yield _code("icosahedron", np.array([np.roll(v, i) for v in plane for i in range(3)]))
    if K in (16, 27, 56):
        halves = np.array(
            [x for x in itertools.product((0.5, -0.5), repeat=8) if x.count(-0.5) % 2 < 1]
        )
        units = np.eye(8)
        pairs = itertools.combinations(units, 2)
        whole = [s * x + t * y for x, y in pairs for s in (1, -1) for t in (1, -1)]
        roots, count = np.concatenate([halves, whole]), {56: 1, 27: 2, 16: 3}[K]
        chain = np.array([units[i] - units[i + 1] for i in range(count)])
        products = roots @ chain.T
        own = roots[np.all(products == np.eye(1, count), axis=1)]
        outside = np.eye(8) - np.linalg.pinv(chain) @ chain
        yield _code(f"code of {K} points in {8 - count} dimensions", own @ outside)


def _code(name: str, points: Float[np.ndarray, "K d"]) -> Structure:
    return _sum(name, points @ points.T / float(np.sum(points[0] ** 2)))


def structures(num_classes: int, largest_rank: int) -> Iterator[Structure]:
    """The structures of K classes up to a rank."""
    K = num_classes
    found = [_sum("simplex ETF", centering(K))]
    found += [pairs_and_dead(K, a) for a in range(1, K // 2 + 1) if K > 2]
    if K > 4:
        angles = 2 * np.pi * np.arange(K) / K
        polygon = np.cos(angles[:, None] - angles)
        found.append(_sum("regular polygon", polygon))
        if K > 6 and K % 2 == 0:
            heights = (-1.0) ** np.arange(K)
            found.append(_sum("antiprism", polygon, np.outer(heights, heights)))
    bits = K.bit_length() - 1
    if 2**bits == K and bits > 2:
        signs = 1.0 - 2.0 * ((np.arange(K)[:, None] >> np.arange(bits)) & 1)
        found.append(_sum("hypercube", 0.5 * signs @ signs.T))
    found += _sporadic_codes(K)
    found += [simplices(K, groups) for groups in range(2, (K + 1) // 2) if K > 4]
    found += [pairs_and_singles(K, a) for a in range(1, (K - 1) // 2 + 1) if K > 3]
    yield from (each for each in found if each.rank <= largest_rank)


def minimum_of(
    structure: Structure, loss: TableLoss, factors: int, decay: float, near: Any = None
) -> Found | None:
    """The lowest minimum of a structure away from the origin; None if there is none.

    `decay` is e. With several parameters the search begins `near` a point, or else on a ray.
    """
    p, rate = 2.0 / factors, 0.5 * factors * decay
    theta = near if near is not None and len(near) > 1 else _on_sum(structure, loss, p, rate)
    if theta is not None and len(theta) > 1:
        theta = _polished(structure, loss, p, rate, theta)
    if theta is None:
        return None
    Z = np.tensordot(theta, structure.patterns, 1)
    value = float(loss(Z)[0]) + rate * float(np.sum(structure.sizes(theta)[0] ** p))
    return Found(structure.name, structure.rank, value, Z, theta)


def best_structure(
    num_classes: int, largest_rank: int, loss: TableLoss, factors: int, decay: float
) -> Found | None:
    """The lowest of all structures up to a rank; None if there is none, or for very many classes.

    Of structures with one value the first names it.
    """
    best = None
    for each in structures(num_classes, largest_rank) if num_classes <= _MOST_CLASSES else ():
        found = minimum_of(each, loss, factors, decay)
        if found is not None and (best is None or found.value < best.value - SAME):
            best = found
    return best


def _direction(structure: Structure) -> np.ndarray:
    """The ray on which the search begins: all parts of the same margin."""
    if not structure.name.endswith(("single class", "single classes")):
        return np.ones(len(structure.patterns))
    K = structure.patterns.shape[-1]
    singles = round(float(np.sum(structure.patterns[2] ** 2)))
    along = ((1 - singles / K) / singles) ** 0.5
    return np.array([1.0, 0.0, along, 1.0][: len(structure.patterns)])


def _on_sum(structure: Structure, loss: TableLoss, p: float, rate: float) -> np.ndarray | None:
    """The lowest minimum on a ray, by a scan and the root of the derivative."""
    direction = _direction(structure)
    T = np.tensordot(direction, structure.patterns, 1)
    power = rate * float(np.sum(structure.sizes(direction)[0] ** p))

    def slope(R: float) -> float:
        return float(np.sum(loss(R * T)[1] * T)) + power * p * R ** (p - 1)

    values = loss(_SCAN[:, None, None] * T)[0] + power * _SCAN**p
    inner = (values[1:-1] <= values[:-2]) & (values[1:-1] < values[2:])
    if not np.any(inner):
        return None
    places = np.flatnonzero(inner) + 1
    best = places[np.argmin(values[places])]
    low, high = float(_SCAN[best - 1]), float(_SCAN[best + 1])
    if not slope(low) < 0 < slope(high):
        return None
    return root(slope, low, high) * direction


def _polished(
    structure: Structure, loss: TableLoss, p: float, rate: float, theta: np.ndarray
) -> np.ndarray | None:
    def at(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(np.tensordot(x, structure.patterns, 1))
        s, slopes = structure.sizes(x)
        of_sizes = rate * p * np.maximum(s, 1e-300) ** (p - 1)
        of_loss = np.tensordot(structure.patterns, gradient, 2)
        return float(value) + rate * float(np.sum(s**p)), of_loss + of_sizes @ slopes

    found = descend(at, theta)
    s = structure.sizes(found)[0]
    # A part that vanishes leaves the structure for one of lower rank.
    vanished = np.min(s) < 1e-6 * np.max(s) or np.linalg.norm(at(found)[1]) > 1e-9 * rate + 1e-14
    return None if vanished else found
