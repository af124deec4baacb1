r"""Follow the branch of a critical point as the decay changes, through folds and instabilities.

λ_W and λ_H are multiplied by e^t. The point keeps its rank and its symmetry, permutations within
blocks of classes (`ufm.hessian.structured.class_symmetry`), so that a few coordinates x of
(W, Ĥ, b) describe the whole branch: a point that is critical among symmetric points is critical
(Palais, 1979). In these coordinates the branch is a curve

    ∇f(x, t) = 0,     ∇²f ẋ + ∂_t∇f ṫ = 0,     ∂_t∇f = (λ_W W, λ_H Ĥ, 0),

orthogonal to rotations. A step along its tangent (ẋ, ṫ) is followed by Newton's method in the plane
orthogonal to it (pseudo-arclength continuation: Keller, 1977). The equations are then nonsingular
at a fold, where ṫ changes sign. Minimising instead would leave the branch where it becomes
unstable.

    branch = Branch(problem, means)
    branch.stability(branch.first)
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ufm.hessian.structured.class_representations import Matrix, Stack, representations
from ufm.hessian.structured.class_symmetry import (
    BlockPoint,
    Directions,
    alike_classes,
    at_parameters,
    block_point,
    deviation_eigenvalues,
    directions,
    feature_gradient_of,
    hessian_form,
    orthonormal,
    samples_of,
)
from ufm.hessian.symmetry_zeros import shift_is_free
from ufm.model.class_means import reduced_problem
from ufm.model.params import Params
from ufm.model.problem import Problem

Vector = Float[np.ndarray, " q"]
_EPS = float(np.finfo(float).eps)
#: Newton steps of one correction. Steps below `_SHORT` continue while each halves the last.
_MOST_NEWTON, _SHORT = 15, 1e-7
#: Number of directions in which errors of a point are estimated, and the distance.
_SOFTEST, _PROBE = 8, 1e-6


class Located(NamedTuple):
    """A point of the branch, and its linear equations.

    `y` consists of x over its norm at the first point, and t. `matrix` is the derivative of (∇f,
    position along the tangent) with respect to y, `by_decay` is ∂_t∇f, and `G` is the derivative of
    the losses with respect to the logits.
    """

    y: Vector
    tangent: Vector
    point: BlockPoint
    G: Matrix
    gradient: Vector
    by_decay: Vector
    matrix: Matrix

    @property
    def t(self) -> float:
        """t, the logarithm of the decays relative to the first ones."""
        return float(self.y[-1])

    @property
    def value(self) -> float:
        """f."""
        point, problem = self.point, self.point.problem
        samples = samples_of(point)
        shares = np.array([np.sum(samples[block]) for block in point.blocks]) / np.sum(samples)
        terms = [(problem.lam_w, point.W), (problem.lam_h, point.H)]
        terms += [] if point.b is None else [(problem.lam_b, point.b)]
        penalties = [0.5 * float(decay or 0.0) * float(np.sum(x**2)) for decay, x in terms]
        return float(shares @ point.losses) + sum(penalties)


class Branch:
    """The branch through a point of the class means, W, b and √n_k h̄_k (d×K): `first`, at t = 0.

    Raises `ValueError` for a point that is not critical.
    """

    def __init__(self, problem: Problem, means: Params) -> None:
        self.problem, self.small = problem, reduced_problem(problem, problem.dim)
        singles = [np.array([k]) for k in range(problem.num_classes)]
        found = block_point(self.small, means, alike_classes(self.small, means))
        found = found or block_point(self.small, means, singles)
        if found is None:
            raise ValueError("the point is not critical: its W and H are not balanced")
        self.start = found
        # One copy of every representation, and the rotations in it. The first is the trivial one,
        # which contains the branch.
        self.copies = [
            (directions(found, each), _skew(found.rows, each.matrices))
            for each in representations(found.blocks)
        ]
        x = _coordinates(self.copies[0][0], found.W, found.H, found.b)
        self.size = float(np.linalg.norm(x)) if found.rank else 1.0
        first = self.corrected(np.append(x / self.size, 0.0), np.append(np.zeros(len(x)), 1.0))
        if first is None:
            raise ValueError("the point is not critical: Newton's method leads away from it")
        self.first = first

    def corrected(self, y: Vector, along: Vector) -> Located | None:
        """Find the point of the branch in the plane through y orthogonal to `along`, or None."""
        at, last = y, math.inf
        for _ in range(_MOST_NEWTON):
            here = self._equations(at, along)
            step = _solved(here.matrix, -np.append(here.gradient, along @ (at - y)))
            length = float(np.linalg.norm(step))
            if not length < math.inf:
                return None
            if last <= _SHORT and length >= 0.5 * last:  # as close as rounding allows
                ahead = _solved(here.matrix, np.append(np.zeros(len(y) - 1), 1.0))
                return here._replace(tangent=ahead / np.linalg.norm(ahead))
            at, last = at + step, length
        return None

    def _equations(self, y: Vector, along: Vector) -> Located:
        point = self._point(y)
        G = feature_gradient_of(point)
        trivial, skew = self.copies[0]
        pull_w, pull_h = (
            float(point.problem.lam_w) * point.W,
            float(point.problem.lam_h) * point.H,
        )
        db, still = None, None
        if point.b is not None:
            db = G @ np.sqrt(samples_of(point)) + float(point.problem.lam_b or 0.0) * point.b
            still = np.zeros_like(db)
        gradient = _coordinates(trivial, G @ point.H.T + pull_w, point.W.T @ G + pull_h, db)
        by_decay = _coordinates(trivial, pull_w, pull_h, still)
        form = self._without_rotations(point, G, trivial, skew)
        matrix = np.vstack([np.column_stack([form * self.size, by_decay]), along])
        return Located(y, along, point, G, gradient, by_decay, matrix)

    def _point(self, y: Vector) -> BlockPoint:
        first, (along, _) = self.start, self.copies[0]
        x = y[:-1] * self.size
        a, b = len(along.W), len(along.W) + len(along.H)
        W, H = np.tensordot(x[:a], along.W, 1), np.tensordot(x[a:b], along.H, 1)
        bias = None if first.b is None else x[b:] @ along.b
        problem = scaled(self.small, math.exp(y[-1]))
        return at_parameters(problem, W, H, bias, first.rows, first.rank, first.blocks)

    def _without_rotations(
        self, point: BlockPoint, G: Matrix, along: Directions, skew: Stack
    ) -> Float[np.ndarray, "q q"]:
        """The Hessian on a copy of a representation, with λ_W + λ_H for the zeros of rotations."""
        tangents = [
            _coordinates(along, point.W @ x, -x @ point.H, np.zeros(len(point.W))) for x in skew
        ]
        if shift_is_free(self.problem):
            K = len(point.W)
            zero = np.zeros((K, K))
            shift = _coordinates(along, zero, zero, np.full(K, K**-0.5))
            if np.linalg.norm(shift) > 0.5:  # in the trivial representation, in no other
                tangents.append(shift)
        form = hessian_form(point, G, along)
        if not tangents:
            return form
        T, _ = np.linalg.qr(np.stack(tangents, axis=1))
        return form + float(point.problem.lam_w + point.problem.lam_h) * T @ T.T

    def stability(self, at: Located) -> float:
        """Positive if the point is a minimum up to rotations, negative if it is a saddle.

        It is the smallest of the eigenvalues of ∇²f in the row space, without zeros of rotations,
        and of μ − σ for the singular values σ of G whose directions lie outside the row space.
        """
        point, smallest = at.point, [math.inf]
        for along, skew in self.copies:
            form = self._without_rotations(point, at.G, along, skew)
            smallest += [float(np.linalg.eigvalsh(form)[0])] if form.size else []
        for values, count in deviation_eigenvalues(self.problem, point):
            smallest += [float(np.min(values))] if count and values.size else []
        return min([*smallest, *self.outside(at)])

    def outside(self, at: Located) -> list[float]:
        """μ − σ for the singular values σ of G whose directions lie outside the row space."""
        point = at.point
        if point.rank >= self.problem.dim:
            return []
        left, _, _ = np.linalg.svd(point.W)
        _, _, right = np.linalg.svd(point.H)
        # W and H use rank many singular values of G, all equal to μ.
        rest = left[:, point.rank :].T @ at.G @ right[point.rank :].T
        mu = math.sqrt(float(point.problem.lam_w) * float(point.problem.lam_h))
        return [mu - float(sigma) for sigma in np.linalg.svd(rest, compute_uv=False)]

    def least_part(self, at: Located) -> float:
        """The smallest singular value of W relative to the first point; at 0 the rank falls."""
        if not self.start.rank:
            return math.inf
        now = np.linalg.pinv(self.start.W, rcond=1e-9) @ at.point.W
        occupied = np.linalg.eigvals(now + np.eye(len(now)) - self.start.rows)
        return float(np.min(np.real(occupied)))

    def errors(self, margin: Callable[[Located], float], at: Located) -> tuple[float, float]:
        """First-order bounds on the effect of rounding on a curvature, and on t, at the point.

        They include rounding of the Hessian, and rounding of ∇f, which moves the point along the
        singular vectors of `matrix` by its size over the singular value; the smallest ones count.
        """
        point, form = at.point, at.matrix[:-1, :-1] / self.size
        largest = [float(np.linalg.norm(x, 2)) for x in (form, at.G) if x.size]
        largest.append(float(point.problem.lam_w + point.problem.lam_h))
        total, decay = len(point.W) * _EPS * max(largest), 4 * _EPS
        _, sizes, vectors = np.linalg.svd(at.matrix)
        here = margin(at)
        for size, v in zip(sizes[-_SOFTEST:], vectors[-_SOFTEST:], strict=True):
            slope = (margin(self._equations(at.y + _PROBE * v, at.tangent)) - here) / _PROBE
            total += abs(slope) * gradient_error(at) / float(size)
            decay += abs(float(v[-1])) * gradient_error(at) / float(size)
        return total, decay


def scaled(problem: Problem, factor: float) -> Problem:
    """The problem with λ_W and λ_H, and so μ, times a factor."""
    return dataclasses.replace(problem, lam_w=problem.lam_w * factor, lam_h=problem.lam_h * factor)


def value_error(at: Located) -> float:
    """The rounding error of f: K eps times its size, and the errors of the logits."""
    logits = float(np.max(np.abs(at.point.W @ at.point.H)))
    return len(at.point.W) * _EPS * (at.value + logits * float(np.sum(np.abs(at.G))))


def gradient_error(at: Located) -> float:
    """The rounding error of ∇f: the sizes of its terms times √K eps (Higham & Mary, 2019)."""
    point = at.point
    size_w, size_h, size_g = (float(np.linalg.norm(x)) for x in (point.W, point.H, at.G))
    logits = 1.0 + float(np.max(np.abs(point.W @ point.H)))
    terms = size_g * (size_w + size_h) * logits
    terms += float(point.problem.lam_w) * size_w + float(point.problem.lam_h) * size_h
    if point.b is not None:
        terms += size_g * logits * float(np.linalg.norm(np.sqrt(samples_of(point))))
    return len(point.W) ** 0.5 * _EPS * terms


def _coordinates(along: Directions, W: Matrix, H: Matrix, b: np.ndarray | None) -> Vector:
    c = along.b @ b if b is not None else np.zeros(0)
    return np.concatenate([np.tensordot(along.W, W, 2), np.tensordot(along.H, H, 2), c])


def _skew(rows: Matrix, matrices: Stack) -> Float[np.ndarray, "s K K"]:
    """Skew maps from the row space to itself in the span of a representation's matrices."""
    inner = orthonormal(rows @ matrices @ rows)
    return orthonormal(0.5 * (inner - inner.transpose(0, 2, 1)))


def _solved(matrix: Matrix, right: Vector) -> Vector:
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.full_like(right, math.nan)
