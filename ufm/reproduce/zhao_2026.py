"""Zhao et al. (2026): the sum of the classifiers, NC0, along training."""

import jax
import jax.numpy as jnp
import numpy as np

from ufm.losses import CrossEntropy
from ufm.model.objective import value_and_gradient
from ufm.model.params import Params
from ufm.model.problem import Problem
from ufm.model.start import init_params
from ufm.reproduce.claim import Claim, Finding, Paper, Row

_STEPS, _RATE, _DECAY = 200, 0.5, 0.02


def gradient_descent() -> Finding:
    """Plain gradient descent against ‖1ᵀW‖ = (1−ηλ_W)^t ‖1ᵀW₀‖: 1ᵀ∇L = 0 leaves the decay alone."""
    problem = Problem.balanced(
        loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=_DECAY, lam_h=5e-3, lam_b=None
    )

    def step(_: jax.Array, at: Params) -> Params:
        return jax.tree.map(lambda x, g: x - _RATE * g, at, value_and_gradient(problem, at)[1])

    start = init_params(problem, jax.random.key(0))
    rows = []
    for steps in (_STEPS // 2, _STEPS):
        end = jax.lax.fori_loop(0, steps, step, start)
        sums = [float(np.linalg.norm(jnp.sum(x.W, axis=0))) for x in (start, end)]
        claimed = (1 - _RATE * _DECAY) ** steps
        rows.append(
            Row(f"‖1ᵀW‖ after {steps} steps, over its start", sums[1] / sums[0], claimed, 1e-12)
        )
    return Finding(tuple(rows))


PAPER = Paper(
    key="zhao-2026",
    reference="Zhao, Cheng, Masarczyk, Lucchi: Optimizer Choice Matters for the Emergence of "
    "Neural Collapse (ICLR 2026)",
    arxiv="2602.16642",
    read="only the abstract was read",
    claims=(
        Claim(
            "gradient-descent",
            "NC0, whose convergence to zero is necessary for neural collapse, converges under "
            "gradient descent with weight decay.",
            "abstract; the rate follows from 1ᵀ∇L = 0",
            f"CE, K=4, d=6, n=5, no bias, η={_RATE:g}, λ_W={_DECAY:g}",
            gradient_descent,
        ),
    ),
)
