"""The trust region on a feasible set: the whole space, and a sphere with a known minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm
from ufm.model.hessian_product import hessian_product, linearise
from ufm.model.objective import value_and_gradient
from ufm.model.problem import Params
from ufm.solvers import Status
from ufm.solvers._loop import run
from ufm.solvers.trust_region import TrustRegion

PROBLEM = ufm.Problem.balanced(
    loss=ufm.CrossEntropy(), num_classes=3, per_class=2, dim=3, lam_w=2e-2, lam_h=1e-2, lam_b=1e-2
)


class WholeSpace:
    """The plain model, without any constraint."""

    def evaluate(self, problem, params):
        return *value_and_gradient(problem, params), linearise(problem, params)

    def product(self, problem, params, at, direction):
        return hessian_product(problem, at, direction)

    def retract(self, problem, params, step):
        return jax.tree.map(jnp.add, params, step)

    def gradient_noise(self, problem, params):
        return jnp.zeros(())


def rayleigh(size):
    """⟨W, W diag(1, …, d)⟩/2 over matrices of Frobenius norm 1; H stays at zero."""
    levels = jnp.arange(1.0, size + 1)[None, :]

    class Sphere:
        def evaluate(self, problem, params):
            W = params.W
            value = 0.5 * jnp.sum(W * W * levels)
            zero = jnp.zeros_like(params.H)
            return value, Params(W * levels - 2 * value * W, zero, None), value

        def product(self, problem, params, at, direction):
            image = direction.W * levels - 2 * at * direction.W
            image -= jnp.sum(image * params.W) * params.W
            return Params(image, jnp.zeros_like(params.H), None)

        def retract(self, problem, params, step):
            W = params.W + step.W
            return Params(W / jnp.linalg.norm(W), params.H, None)

        def gradient_noise(self, problem, params):
            return jnp.full((), 0.1)

    return Sphere()


def test_in_the_whole_space_it_finds_the_minimum_of_the_plain_model():
    start = ufm.init_params(PROBLEM, jax.random.key(0))
    method = TrustRegion(WholeSpace())
    found = run(method, PROBLEM, start, jnp.asarray(1e-10), jnp.int32(200), False)
    assert Status(int(found.status)) is Status.CONVERGED
    assert float(found.grad_norm) <= 1e-10
    np.testing.assert_allclose(found.value, ufm.global_minimum(PROBLEM).value, rtol=1e-12)


@pytest.mark.parametrize("floor", [False, True])
def test_on_a_sphere_it_finds_the_smallest_eigenvalue(floor):
    problem = ufm.Problem(ufm.CrossEntropy(), (1, 1, 1), 4, 0.1, 0.1, None)
    W = np.random.default_rng(0).standard_normal((3, 4))
    start = Params(jnp.asarray(W / np.linalg.norm(W)), jnp.zeros((4, 3)), None)
    found = run(TrustRegion(rayleigh(4)), problem, start, jnp.asarray(1e-9), jnp.int32(99), floor)
    assert Status(int(found.status)) is Status.CONVERGED
    np.testing.assert_allclose(found.value, 0.5, rtol=1e-1 if floor else 1e-14)
    np.testing.assert_allclose(jnp.linalg.norm(found.params.W), 1.0, rtol=1e-15)
    # The noise floor of the geometry, not that of the plain gradient, ends the run.
    assert (float(found.grad_norm) > 1e-9) is floor
