"""A point with its logits and the gradient of the loss term, computed once and shared."""

from typing import NamedTuple

from jaxtyping import Array, Float

from ufm._support.quick_jit import quick_jit
from ufm.model.objective import feature_gradient, logit_gradient, logits
from ufm.model.params import Params
from ufm.model.problem import Problem


class Evaluated(NamedTuple):
    """The logits V, Γ = ∇g(V), and G = Γ diag(1/√c), all K×N."""

    params: Params
    V: Float[Array, "K N"]
    gamma: Float[Array, "K N"]
    G: Float[Array, "K N"]


@quick_jit
def evaluated(problem: Problem, params: Params) -> Evaluated:
    """Compute V, Γ and G at a point."""
    V = logits(problem, params)
    gamma = logit_gradient(problem, V)
    return Evaluated(params, V, gamma, feature_gradient(problem, gamma))
