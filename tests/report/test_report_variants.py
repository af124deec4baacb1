"""Figures of models that are not plain: axes of their own, exact curves, and which frame it is."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_print
from matplotlib.figure import Figure

from ufm import (
    ContrastiveProblem,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    NonNegative,
    Problem,
    global_minimum,
    verify,
)
from ufm.minimum.size_geometry import SizeGeometry
from ufm.model.params import Params
from ufm.model.problem_spec import ProblemSpec
from ufm.report import style
from ufm.report.phase.minority import STATES, state_of
from ufm.report.phase.plane import plane, slices
from ufm.report.runs import angles
from ufm.report.runs.convergence import gradient_floor
from ufm.report.sweep.threshold import crossings, threshold_page

K, N = 4, 3
SPHERES = ProblemSpec(
    *(LabelSmoothing(0.1), (N,) * K, K, None, None, None), classifier="sphere", features="sphere"
)
RELU = ProblemSpec(CrossEntropy(), (N,) * K, K, 0.05, 0.05, None, features="nonnegative")
REST = {"method": "newton", "max_steps": 9, "start_scale": 0.1, "tol": 1e-10}


def table_of(spec: ProblemSpec, threshold=math.inf, **fields) -> dict[str, np.ndarray]:
    """The settings of each combination, as in a sweep's table."""
    made = [
        dataclasses.replace(spec, **dict(zip(fields, values, strict=True))).row()
        for values in itertools.product(*fields.values())
    ]
    rows = [row | REST | {"threshold": threshold} for row in made]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(autouse=True)
def _few_points(monkeypatch):
    monkeypatch.setattr("ufm.report.phase.curve._ALONG", 4)
    monkeypatch.setattr("ufm.report.phase.curve._SCAN", 5)
    monkeypatch.setattr("ufm.report.sweep.threshold._DENSE", 4)
    monkeypatch.setattr("ufm.report.sweep.threshold._NEAR", np.array([1e-3]))


# Phase diagrams ------------------------------------------------------------------------------

RADII = ["sphere:0.5", "sphere", "sphere:2"]


def test_radii_and_temperatures_are_axes_with_the_curve_where_label_smoothing_is_at_its_best():
    """κρ/τ = log(K/α − K + 1), where p_y/p_j = (1 − α + α/K)/(α/K)."""
    found = plane(table_of(SPHERES, temperature=[0.05, 0.2, 1.0], features=RADII))
    assert (found.x.name, found.y.name, found.of_reach) == ("temperature", "radius_h", True)
    assert found.y.levels.tolist() == [0.5, 1.0, 2.0]
    tau, radius = found.curve.T
    np.testing.assert_allclose(K / (K - 1) * radius / tau, math.log(K / 0.1 - K + 1), rtol=1e-9)
    assert (radius[0], radius[-1]) == (0.5, 2.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": CrossEntropy()},  # falls for ever
        {"loss": Focal(2.0)},
        {"dim": K - 1},  # where the rest of the norms may have no place
        {"class_counts": (3, 3, 3, 2)},  # no closed form
        {"features": None, "lam_h": 0.1},  # one norm alone is bounded
    ],
    ids=str,
)
def test_no_curve_is_drawn_that_is_not_proven(changes):
    spec = dataclasses.replace(SPHERES, **changes)
    assert not plane(table_of(spec, temperature=[0.05, 0.2, 1.0])).curve.size


def test_sets_of_several_kinds_are_categories_and_budgets_have_their_letter():
    mixed = plane(table_of(SPHERES, features=["sphere", "ball:1"]))
    assert (mixed.x.name, mixed.x.discrete) == ("features", True)
    spec = dataclasses.replace(SPHERES, classifier="budget:1")
    found = table_of(spec, features=["budget:1", "budget:4"], temperature=[0.1, 1.0], dim=[4, 5])
    (first, _) = slices(found).parts
    place = plane(first.table)
    assert (first.label, place.x.name, place.y.name) == ("d = 4", "temperature", "budget_h")


@pytest.mark.parametrize("counts", [(N,) * K, (5, 3, 2, 1)])
def test_the_threshold_with_non_negative_features(counts):
    """CE: γ°(∇g(0)) = max over non-negative unit vectors, at one class: √(n(K−1)/K)/N."""
    spec = dataclasses.replace(RELU, class_counts=counts)
    threshold = math.sqrt(max(counts) * (K - 1) / K) / sum(counts)
    table = table_of(spec, threshold, lam_w=[0.01, 0.1, 1.0])
    table["lam_h"] = table["lam_w"]
    ((at, _),) = plane(table).curve
    assert at == pytest.approx(threshold, rel=1e-9)
    biased = table | {"family": np.array(["fl"] * 3), "gamma": np.full(3, 2.0)}
    biased["lam_b"] = np.full(3, 0.1)
    assert not plane(biased).curve.size


# Through the threshold -----------------------------------------------------------------------


def crossing_table(spec: ProblemSpec, threshold: float) -> dict[str, np.ndarray]:
    table = table_of(spec, threshold, lam_w=[0.5 * threshold, 0.9 * threshold, 1.1 * threshold])
    found = {"rho": 1.0, "minimum": 0.5, "value": 0.75, "minimum_exact": 1, "rounding": 1e-12}
    columns = {name: np.full(3, x) for name, x in found.items()}
    verdicts = {"verdict": np.array(["LOCAL_MINIMUM"] * 3)}
    return table | columns | verdicts | {"lam_h": table["lam_w"], "mu": table["lam_w"]}


def test_points_that_do_not_see_classes_are_at_their_share_of_the_height_of_the_origin():
    threshold = math.sqrt((K - 1) / K / N) / K
    (found,) = crossings(crossing_table(RELU, threshold))
    below = found.dense < 1
    c = found.dense[below] * (K - 1) / K  # c₊ in units of its value at the threshold, −φ'(0)
    rho = np.log((K - 1) * (1 - c) / c)
    np.testing.assert_allclose(found.minimum[below], rho, atol=1e-6)
    star = np.log1p((K - 1) * np.exp(-rho)) + c * rho
    for j, heights in enumerate(found.unseen, start=1):
        np.testing.assert_allclose(heights[below], j / K * (math.log(K) - star), atol=1e-12)
    assert len(found.unseen) == K - 1
    with style():
        check_print(threshold_page([found])[0])


def test_hidden_layers_have_another_decay():
    deep = dataclasses.replace(RELU, features=None, lam_hidden=(0.1,))
    assert crossings(crossing_table(deep, 0.1)) == []


def test_classes_without_features_have_vanished():
    pair, zero = np.array([1.0, 1.0]), np.array([1.0, 0.0])
    point = SizeGeometry(norm_w=pair, norm_h=zero, cosine_w=np.ones(3), cosine_h=np.ones(3))
    assert STATES[state_of(point, False)] == "small classes vanished"


# Angles --------------------------------------------------------------------------------------

PROBLEM = Problem(CrossEntropy(), (2,) * K, 6, 0.05, 0.05, None, features=NonNegative())


def test_cosines_of_pairs_are_those_of_numpy():
    rows = np.random.default_rng(0).normal(size=(K, 6))
    rows[1] = 0.0
    found = angles.pair_cosines(rows)
    for cosine, (i, j) in zip(found, itertools.combinations(range(K), 2), strict=True):
        size = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
        assert cosine == pytest.approx(rows[i] @ rows[j] / size) if size else np.isnan(cosine)


def test_the_figure_tells_an_orthogonal_frame_from_a_simplex():
    frame = np.eye(6, K)
    W = (np.eye(K) - 1 / K) @ frame.T
    point = Params(jnp.asarray(W), jnp.asarray(np.repeat(frame, 2, axis=1)), None)
    tables = {x["vectors"]: x for x in angles.angle_tables(PROBLEM, global_minimum(PROBLEM), point)}
    for name, cosine in (("classifier", -1 / (K - 1)), ("class means", 0.0)):
        for column in ("cosine", "cosine of the minimiser"):
            np.testing.assert_allclose(tables[name][column], cosine, atol=1e-12)


def test_a_loss_without_a_classifier_has_its_noise_and_its_class_means():
    problem = ContrastiveProblem((2, 2, 2), 4, 0.5)
    runs = verify(problem, jax.random.key(0), 2)
    assert 0 < gradient_floor(runs) < 1e-12
    point = jax.tree.map(lambda x: x[0], runs.solutions.params)
    (table,) = angles.angle_tables(problem, runs.minimum, point)
    np.testing.assert_allclose(table["cosine"], -1 / 2, atol=1e-6)
    axes = Figure().subplots(1, 2)
    angles.plot_angles(problem, runs.minimum, point, axes)
    assert [text.get_text() for text in axes[0].texts] == ["no classifier"]
