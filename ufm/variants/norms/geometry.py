r"""f on the sets of the factors: Riemannian (projected) gradient, Hessian, retraction.

With the multipliers a_k of the rows of W and β_i of the columns of H (`ufm.variants.norms.sets`),
which are equal within a budget and 0 for a decayed factor,

    grad_W = GHᵀ + λ_W W + diag(a) W,   grad_H = WᵀG + λ_H H + H diag(β),   grad_b = Γ1 + λ_b b,
    Q = Σ_i q_iᵀS_iq_i + 2⟨G, AB⟩ + Σ_k (λ_W + a_k)‖A_k‖² + Σ_i (λ_H + β_i)‖B_i‖² + λ_b ‖c‖²

on tangent vectors (A, B, c), with q_i = (A h_i + W B_i)/τ + c: the Hessian of the model plus
multipliers, projected (Absil, Mahony & Sepulchre, 2008, §5.5). The retraction projects the sum.
"""

import dataclasses
from typing import NamedTuple

from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.evaluation import Evaluated, evaluated
from ufm.model.hessian_product import Linearisation, hessian_product, linearise_at
from ufm.model.objective import data_loss, gradient_at, penalty
from ufm.model.problem import Params, Problem
from ufm.model.rounding import gradient_noise
from ufm.variants.norms.sets import sets

Scalar = Float[Array, ""]


class Local(NamedTuple):
    """What Hessian products at a point share."""

    #: Without its parameters, which the point has.
    at: Linearisation
    #: Multipliers of W (K, 1) or (1, 1) and of H (1, N) or (1, 1), and which bounds are active.
    a: Array
    beta: Array
    active: tuple[Array, Array]


class NormGeometry:
    """A `ufm.solvers.trust_region.Geometry`."""

    def evaluate(self, problem: Problem, params: Params) -> tuple[Scalar, Params, Local]:
        seen = evaluated(problem, params)
        return data_loss(problem, seen.V) + penalty(problem, params), *self.at(problem, seen)

    def at(self, problem: Problem, seen: Evaluated) -> tuple[Params, Local]:
        """The gradient on the set, and what `product` needs, from given logits."""
        params = seen.params
        plain = gradient_at(problem, params, seen.gamma)
        of_w, of_h = sets(problem, params.W.dtype)
        local = Local(
            linearise_at(problem, seen)._replace(params=None),  # pyright: ignore[reportArgumentType]  # dropped
            of_w.multiplier(params.W, plain.W),
            of_h.multiplier(params.H, plain.H),
            (of_w.active(params.W, plain.W), of_h.active(params.H, plain.H)),
        )
        return self.tangent(problem, params, local, plain), local

    def product(self, problem: Problem, params: Params, at: Local, direction: Params) -> Params:
        image = hessian_product(problem, at.at._replace(params=params), direction)
        W, H = image.W + at.a * direction.W, image.H + at.beta * direction.H
        return self.tangent(problem, params, at, dataclasses.replace(image, W=W, H=H))

    def retract(self, problem: Problem, params: Params, step: Params) -> Params:
        of_w, of_h = sets(problem, params.W.dtype)
        b = None if params.b is None or step.b is None else params.b + step.b
        return Params(of_w.project(params.W + step.W), of_h.project(params.H + step.H), b)

    def gradient_noise(self, problem: Problem, params: Params) -> Array:
        return gradient_noise(problem, evaluated(problem, params))

    def tangent(self, problem: Problem, params: Params, at: Local, t: Params) -> Params:
        """The tangent part of t."""
        of_w, of_h = sets(problem, params.W.dtype)
        active_w, active_h = at.active
        W = of_w.tangent(params.W, t.W, active_w)
        return Params(W, of_h.tangent(params.H, t.H, active_h), t.b)


GEOMETRY = NormGeometry()


@quick_jit
def local_point(problem: Problem, params: Params) -> tuple[Scalar, Params, Local]:
    """f, its gradient on the set, and what Hessian products share, at a feasible point."""
    return GEOMETRY.evaluate(problem, params)


@quick_jit
def projected(problem: Problem, params: Params) -> Params:
    """The nearest feasible point."""
    of_w, of_h = sets(problem, params.W.dtype)
    return Params(of_w.project(params.W), of_h.project(params.H), params.b)
