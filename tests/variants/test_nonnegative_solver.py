"""Projected Newton and gradient descent on H ≥ 0: the gradient from NumPy, bounds met exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cone_oracle import make, softmax_frame
from model_oracle import objective_and_gradient

import ufm
from ufm.model.params import Params
from ufm.solvers import Status, solve_in_lock_step

COUNTS, DIM, MU = (2, 2, 2, 2), 8, 0.04
PLAIN = make(ufm.CrossEntropy(), COUNTS, DIM, MU)


def starts(problem, count, seed=0):
    return ufm.init_params(problem, jax.random.key(seed), num_starts=count)


def entry(batch, i):
    return jax.tree.map(lambda x: x[i], batch)


def projected_gradient(problem, params) -> float:
    """‖P_T(−∇f)‖ from the definition."""
    _, gradient = objective_and_gradient(problem, params)
    H = np.asarray(params.H)
    in_w, in_h = params.W.size, params.W.size + H.size
    of_h = gradient[in_w:in_h].reshape(H.shape)
    gradient[in_w:in_h] = np.where((H > 0) | (of_h < 0), of_h, 0.0).ravel()
    return float(np.linalg.norm(gradient))


@pytest.mark.parametrize("method", ["newton", "gradient_descent"])
@pytest.mark.parametrize(
    ("loss", "lam_b", "ratio"),
    [
        (ufm.CrossEntropy(), None, 1.0),
        (ufm.Focal(3.0), 1e-2, 4.0),
        (ufm.MSE(), 0.0, 1.0),
    ],
    ids=["CE", "FL, bias, λ_W = 16 λ_H", "MSE, free bias"],
)
def test_runs_end_where_the_projected_gradient_is_zero(method, loss, lam_b, ratio):
    problem = make(loss, COUNTS, DIM, MU, lam_b, ratio)
    found = ufm.solve(problem, entry(starts(problem, 1), 0), method=method)
    assert found.status is Status.CONVERGED
    assert float(found.grad_norm) <= 1e-10
    # The oracle's own rounding is 1e-14.
    assert projected_gradient(problem, found.params) == pytest.approx(
        float(found.grad_norm), abs=1e-13
    )
    H = np.asarray(found.params.H)
    assert H.min() == 0.0
    assert np.mean(H == 0.0) > 0.5  # most entries are on the bound, and not just near
    assert not np.any((H > 0) & (H < 1e-9))


def test_methods_find_the_minimum_of_the_formula():
    star, _ = softmax_frame(4, 2, MU)
    values = {
        method: np.asarray(ufm.solve_many(PLAIN, starts=starts(PLAIN, 6), method=method).value)
        for method in ("newton", "gradient_descent")
    }
    for found in values.values():
        assert found.min() == pytest.approx(star, abs=1e-13)
        assert np.all(found >= star - 1e-13)
    # Both find it from some starts, whatever happens elsewhere.
    assert all(np.sum(found < star + 1e-9) >= 2 for found in values.values())


@pytest.mark.parametrize(("scale", "ratio"), [(20.0, 1.0), (0.1, 1e3)])
def test_saturated_starts_and_decays_far_apart(scale, ratio):
    problem = make(ufm.CrossEntropy(), COUNTS, DIM, MU, None, ratio)
    start = ufm.init_params(problem, jax.random.key(1), scale)
    found = ufm.solve(problem, start, max_steps=200)
    assert found.status is Status.CONVERGED
    assert projected_gradient(problem, found.params) <= 1e-10 + 1e-12 * ratio


def test_f_never_rises_and_stays_feasible_on_the_way():
    found = ufm.solve(PLAIN, entry(starts(PLAIN, 1), 0))
    values = np.asarray(found.history.value)
    values = values[np.isfinite(values)]
    assert np.all(np.diff(values) <= 1e-15)
    for steps in (1, 3, 5):
        there = ufm.solve(PLAIN, entry(starts(PLAIN, 1), 0), max_steps=steps)
        assert float(there.params.H.min()) >= 0.0
        assert int(there.num_steps) == steps


def test_in_lock_step_they_are_the_same_runs():
    batch = starts(PLAIN, 3)
    single = ufm.solve_many(PLAIN, starts=batch)
    together = solve_in_lock_step(PLAIN, batch)
    np.testing.assert_allclose(together.value, single.value, rtol=1e-12)
    np.testing.assert_array_equal(together.params.H > 0, single.params.H > 0)


def test_single_precision_stops_at_its_noise_and_is_polished():
    start = jax.tree.map(lambda x: x.astype(jnp.float32), entry(starts(PLAIN, 1), 0))
    rough = ufm.solve(PLAIN, start)
    assert rough.status is Status.CONVERGED
    fine = ufm.polish(PLAIN, rough)
    assert fine.params.W.dtype == jnp.float64
    assert float(fine.grad_norm) <= 1e-10
    assert float(rough.value) == pytest.approx(float(fine.value), rel=1e-6)


def test_starts_are_moduli_of_those_without_the_constraint():
    plain = ufm.Problem(ufm.CrossEntropy(), COUNTS, DIM, MU, MU, None)
    key = jax.random.key(4)
    found, free = ufm.init_params(PLAIN, key), ufm.init_params(plain, key)
    np.testing.assert_array_equal(found.H, jnp.abs(free.H))
    np.testing.assert_array_equal(found.W, free.W)
    batch = ufm.init_params(PLAIN, key, num_starts=3)
    assert batch.H.shape == (3, DIM, 8)
    assert float(batch.H.min()) > 0


def test_other_methods_are_refused_by_name():
    start = entry(starts(PLAIN, 1), 0)
    with pytest.raises(ValueError, match="'lbfgs' is not for problems with non-negative features"):
        ufm.solve(PLAIN, start, method="lbfgs")
    with pytest.raises(ValueError, match=r"ufm\.explore does not support"):
        ufm.explore(PLAIN, jax.random.key(0))


def test_the_value_is_that_of_the_plain_objective():
    params = entry(starts(PLAIN, 1), 0)
    expected, _ = objective_and_gradient(PLAIN, params)
    assert float(ufm.objective(PLAIN, params)) == pytest.approx(expected, rel=1e-14)
    assert isinstance(params, Params)
