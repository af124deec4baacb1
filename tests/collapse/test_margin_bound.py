"""The scalar lower bound: below f everywhere, and the neural-collapse value where it should be."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_model import plain_loss, plain_objective

from ufm.collapse.symmetric_solution import margin_lower_bound, symmetric_minimum
from ufm.losses import CrossEntropy, Focal, LabelSmoothing
from ufm.model.problem import Problem

CLASSES, PER_CLASS, DIM = 3, 2, 4
#: c = λ √n (K−1) = 2.8 λ: twice below 1, once between 1 and the collapse of CE, once beyond it.
DECAYS = (1e-3, 0.05, 0.4, 1.0)
LOSSES = [CrossEntropy(), LabelSmoothing(0.1), Focal(3.0)]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label())
every_bias = pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2], ids=["none", "free", "decayed"])


def make(loss, lam, lam_b, classes=CLASSES, per_class=PER_CLASS, dim=DIM) -> Problem:
    return Problem.balanced(
        loss=loss,
        num_classes=classes,
        per_class=per_class,
        dim=dim,
        lam_w=lam,
        lam_h=lam,
        lam_b=lam_b,
    )


class Point(NamedTuple):
    """Params of NumPy arrays, for the NumPy model."""

    W: np.ndarray
    H: np.ndarray
    b: np.ndarray | None


def collapsed(problem: Problem, rho: float) -> Point:
    """W, H with WH = ρP ⊗ 1ᵀ, balanced for λ_W = λ_H, and b = 0."""
    frame, sizes, _ = np.linalg.svd(np.eye(CLASSES) - 1 / CLASSES)
    root = np.zeros((CLASSES, DIM))
    root[:, : CLASSES - 1] = (frame * np.sqrt(sizes))[:, : CLASSES - 1]
    s = (rho * PER_CLASS**0.5) ** 0.5
    H = np.repeat(root.T, PER_CLASS, axis=1) * (rho / s if rho else 0.0)
    return Point(s * root, H, np.zeros(CLASSES) if problem.has_bias else None)


def random_points(problem: Problem, rho: float):
    """300 points: of many scales, near collapsed ones, and with a large bias."""
    rng = np.random.default_rng(0)
    for i in range(300):
        base = collapsed(problem, rho if i % 3 else 0.0)
        size = 10 ** rng.uniform(-3, 1)
        moved = jax.tree.map(lambda x, h=size: x + h * rng.normal(size=x.shape), base)
        if i % 3 == 2 and problem.has_bias:
            moved = moved._replace(b=moved.b + 10 ** rng.uniform(0, 2) * rng.normal(size=3))
        yield moved


@pytest.mark.repeats
@every_bias
@every_loss
@pytest.mark.parametrize("lam", DECAYS)
def test_no_point_of_300_is_below_the_bound(lam, loss, lam_b):
    problem = make(loss, lam, lam_b)
    bound = float(margin_lower_bound(problem))
    rho = float(symmetric_minimum(problem).rho) or 1.0
    values = [plain_objective(problem, params) for params in random_points(problem, rho)]
    assert bound > -np.inf
    assert min(values) >= bound * (1 - 1e-13)
    assert max(values) > 2 * bound


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2, 1.0])
@every_loss
def test_up_to_c_equal_one_it_is_the_value_of_the_neural_collapse_solution(loss, lam_b):
    for c in (1e-3, 0.1, 0.9, 1.0):
        problem = make(loss, c / (PER_CLASS**0.5 * (CLASSES - 1)), lam_b)
        minimum = symmetric_minimum(problem)
        bound = float(margin_lower_bound(problem))
        assert bound == pytest.approx(float(minimum.value), rel=1e-13, abs=0)
        at = plain_objective(problem, collapsed(problem, float(minimum.rho)))
        assert bound == pytest.approx(at, rel=1e-13, abs=0)


def relaxation(problem: Problem, c: float) -> float:
    """max_ν min_{s,δ} φ(s) + c|s−δ| + νδ + aδ² by brute force over a grid of all three."""
    a = problem.lam_b * (problem.num_classes - 1) ** 2 / (2 * problem.num_classes)
    right = np.concatenate([np.linspace(0.01, 8, 800), np.geomspace(8.1, 200, 60)])
    s = np.concatenate([-right[::-1], [0.0], right])
    label = np.eye(problem.num_classes)[0]
    phi = np.array([plain_loss(problem.loss, x * label, 0) for x in s])
    # Over s first: the cheapest φ(s) + c|s−δ| for each δ.
    cheapest = np.min(phi[:, None] + c * np.abs(s[:, None] - s[None, :]), axis=0)
    nus = np.linspace(-c, c, 1001)
    return float(np.max(np.min(cheapest + nus[:, None] * s + a * s**2, axis=1)))


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", [0.0, 1e-3, 1e-2, 0.3])
@pytest.mark.parametrize(("loss", "classes"), [(Focal(3.0), 3), (Focal(3.0), 20), (LOSSES[1], 3)])
def test_beyond_c_equal_one_it_is_the_best_multiplier_and_no_more(loss, classes, lam_b):
    for c in (1.05, 1.15, 1.4, 2.5):
        problem = make(loss, c / (classes - 1), lam_b, classes=classes, per_class=1, dim=classes)
        bound, truth = float(margin_lower_bound(problem)), relaxation(problem, c)
        assert bound <= float(symmetric_minimum(problem).value) * (1 + 1e-13)
        # Grid steps of 0.01 in s and δ, 0.005 in ν: errors up to 1e-4, in both directions. From
        # below, 65 multipliers and 4096 intervals lose up to 1e-2.
        assert truth - 1e-2 * abs(truth) <= bound <= truth + 2e-4 * abs(truth)


def test_a_batch_of_problems_equals_single_ones():
    lams, lam_bs = jnp.array([1e-3, 0.05, 1.0]), jnp.array([0.0, 1e-2, 1.0])
    bounds = jax.jit(jax.vmap(lambda lam, lam_b: margin_lower_bound(make(Focal(3.0), lam, lam_b))))(
        lams, lam_bs
    )
    single = [
        float(margin_lower_bound(make(Focal(3.0), float(x), float(y))))
        for x, y in zip(lams, lam_bs, strict=True)
    ]
    np.testing.assert_allclose(bounds, single, rtol=1e-13)
