"""Gradient flow: the energy it loses, where it ends, and that it lingers at the ladder's rungs."""

import dataclasses

import jax
import numpy as np
import pytest
from points import aligned

import ufm
from ufm import Problem
from ufm.landscape import gradient_flow, small_start
from ufm.model.params import norm

PROBLEM = Problem.balanced(
    loss=ufm.CrossEntropy(), num_classes=4, per_class=1, dim=4, lam_w=1e-2, lam_h=1e-2, lam_b=1e-2
)


def test_it_loses_the_energy_of_its_gradient_and_ends_at_a_critical_point():
    start = small_start(PROBLEM, jax.random.key(0), 0.3)
    flow = gradient_flow(PROBLEM, start, rtol=1e-8)
    # df/dt = −‖∇f‖²
    lost = np.trapezoid(flow.grad_norm**2, flow.time)
    assert flow.value[0] - flow.value[-1] == pytest.approx(lost, rel=1e-3)
    assert np.all(np.diff(flow.value) <= 1e-12)
    assert flow.grad_norm[-1] <= 1.1e-9
    assert flow.value[-1] == pytest.approx(ufm.global_minimum(PROBLEM).value, abs=1e-9)


def test_with_spread_scales_it_lingers_at_the_rungs_of_the_ladder():
    start = small_start(PROBLEM, jax.random.key(0), 1e-3, spread=1e-10)
    ratios = np.asarray(np.linalg.norm(start.W[:, 1:], axis=0) / np.linalg.norm(start.W[:, 0]))
    assert np.all(ratios < [1e-9, 1e-19, 1e-29])
    flow = gradient_flow(PROBLEM, start)
    rungs = [np.log(4.0)]
    for dim in (1, 2):
        problem = Problem.balanced(
            loss=ufm.CrossEntropy(), num_classes=4, per_class=1, dim=dim,
            lam_w=1e-2, lam_h=1e-2, lam_b=1e-2,
        )  # fmt: skip
        runs = ufm.solve_many(problem, jax.random.key(0), num_starts=4, scale=1.0)
        rungs.append(float(np.min(runs.value)))
    lingering = flow.value[list(flow.plateaus)]
    for rung in rungs:
        assert np.min(np.abs(lingering - rung)) < 1e-3


def test_the_moments_are_points_of_the_run():
    start = small_start(PROBLEM, jax.random.key(1), 0.3)
    flow = gradient_flow(PROBLEM, start, horizon=0.1)
    assert float(norm(jax.tree.map(lambda a, b: a - b, flow.point(0), start))) == 0.0
    assert flow.time[-1] == pytest.approx(10.0)
    moment = len(flow.time) // 2
    value = float(ufm.objective(PROBLEM, flow.point(moment)))
    assert value == pytest.approx(flow.value[moment], abs=1e-14)


def test_a_point_does_not_change_with_the_flow():
    flow = gradient_flow(PROBLEM, small_start(PROBLEM, jax.random.key(1), 0.3), horizon=0.01)
    flow = dataclasses.replace(flow, points=jax.tree.map(aligned, flow.points))
    point, before = flow.point(0), np.array(flow.points.W[0])
    flow.points.W[0] += 1.0
    np.testing.assert_array_equal(point.W, before)


def test_without_decays_there_is_no_horizon():
    problem = Problem.balanced(
        loss=ufm.CrossEntropy(), num_classes=4, per_class=1, dim=4,
        lam_w=0.0, lam_h=1e-2, lam_b=None,
    )  # fmt: skip
    with pytest.raises(ValueError, match="both must be > 0"):
        gradient_flow(problem, small_start(problem, jax.random.key(0), 0.1))
