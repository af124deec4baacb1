"""Roots of the gradient: saddles attract, and a stationary point of ‖∇f‖ is not taken for one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import dense_hessian, objective_and_gradient

from ufm import CrossEntropy, CustomLoss, Params, Problem, origin
from ufm.landscape import RootStatus, find_roots
from ufm.landscape.root_finding import CRITICAL
from ufm.model.params import along

PROBLEM = Problem.balanced(
    loss=CrossEntropy(), num_classes=4, per_class=1, dim=4, lam_w=1e-2, lam_h=1e-2, lam_b=1e-2
)


def batch(points: list[Params]) -> Params:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *points)


def random(seed: int, scale: float) -> Params:
    rng = np.random.default_rng(seed)
    shapes = ((4, 4), (4, 4), (4,))
    return Params(*(jnp.asarray(scale * rng.normal(size=shape)) for shape in shapes))


def test_from_noise_it_ends_at_roots_of_any_index():
    found = find_roots(PROBLEM, batch([random(seed, 2.0) for seed in range(20)]), most=0.3)
    found = jax.tree.map(np.asarray, found)
    assert np.all(np.asarray(found.status) == RootStatus.CRITICAL)
    indices = set()
    for i in range(20):
        point = jax.tree.map(lambda x, i=i: x[i], found.params)
        _, gradient = objective_and_gradient(PROBLEM, point)
        assert np.linalg.norm(gradient) <= CRITICAL
        assert abs(np.linalg.norm(gradient) - float(found.grad_norm[i])) < 1e-13
        eigenvalues = np.linalg.eigvalsh(dense_hessian(PROBLEM, point))
        indices.add(int(np.sum(eigenvalues < -1e-9)))
    assert len(indices) >= 4  # the descents of a solver would all end at index 0


def test_the_origin_is_a_saddle_that_attracts_quadratically():
    start = along(1e-3, random(0, 1.0), origin(PROBLEM))
    found = find_roots(PROBLEM, batch([start]))
    assert int(found.num_steps[0]) <= 4
    assert float(jnp.max(jnp.abs(found.params.W))) < 1e-12


def _no_root(z, label):
    del label
    # With λ_b = 1/100 taken off, the gradient in b at W = H = 0 is 1 + b² in every entry.
    return jnp.sum(z + z**3 / 3 - 0.005 * z**2)


def test_a_gradient_flat_point_is_recognised():
    problem = Problem.balanced(
        loss=CustomLoss(_no_root), num_classes=4, per_class=1, dim=4,
        lam_w=1e-2, lam_h=1e-2, lam_b=1e-2,
    )  # fmt: skip
    zero = jnp.zeros((4, 4))
    found = find_roots(problem, batch([Params(zero, zero, jnp.full(4, 0.5))]))
    assert int(found.status[0]) == RootStatus.GRADIENT_FLAT
    assert float(found.grad_norm[0]) == pytest.approx(2.0, abs=1e-6)  # ‖(1, 1, 1, 1)‖


def test_too_few_steps_are_not_a_root():
    found = find_roots(PROBLEM, batch([random(0, 2.0)]), max_steps=2)
    assert int(found.status[0]) == RootStatus.MAX_STEPS
    assert float(found.grad_norm[0]) > CRITICAL
