"""The numbers behind the figures, against plain NumPy and the closed forms."""

import csv
import dataclasses
import io

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from points import BALANCED, SKEWED, gaussian, make

from ufm import CrossEntropy, Params, global_minimum, init_params, verify
from ufm.report._table import to_csv
from ufm.report.runs import convergence, feature_view, gram, singular_values
from ufm.runs.trajectory import trajectory


@pytest.fixture(scope="module")
def problem():
    return make(CrossEntropy(), BALANCED, 1e-2)


@pytest.fixture(scope="module")
def path(problem):
    return trajectory(problem, init_params(problem, jax.random.key(0)))


# Convergence ---------------------------------------------------------------------------------


def test_the_median_holds_each_run_at_its_last_value_until_most_have_ended():
    rng = np.random.default_rng(0)
    curves = [
        np.column_stack([np.cumsum(rng.integers(1, 9, 12)) + 0.0, rng.normal(size=12)])
        for _ in range(4)
    ]
    found = convergence.median_curve(curves)
    begin = max(curve[0, 0] for curve in curves)
    # Of four runs it ends with the third: two have ended by then, half of them.
    end = sorted(curve[-1, 0] for curve in curves)[2]
    expected = sorted({x for curve in curves for x in curve[:, 0] if begin <= x <= end})
    assert list(found[:, 0]) == expected
    for x, value in found:
        held = sorted(curve[curve[:, 0] <= x][-1, 1] for curve in curves)
        assert value == (held[1] + held[2]) / 2


def test_the_table_has_every_step_of_every_run(problem):
    runs = verify(problem, jax.random.key(0), 3)
    table, row = convergence.convergence_table(runs), 0
    for start in range(3):
        history = jax.tree.map(lambda x, i=start: np.asarray(x[i]), runs.history)
        for i in range(int(runs.solutions.num_steps[start]) + 1):
            assert (table["start"][row], table["step"][row]) == (start, i)
            assert table["gradient_evaluations"][row] == history.products[i]
            assert table["f_minus_minimum"][row] == history.value[i] - runs.minimum.value
            assert table["gradient_norm"][row] == history.grad_norm[i]
            row += 1
    assert row == len(table["step"]) == len(table["gradient_norm"])


# Geometry ------------------------------------------------------------------------------------


def test_gram_matrices_of_a_point_without_structure():
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    point = gaussian(problem, 1, 2.0)
    found = gram.gram_matrices(problem, point)
    W, H, labels = np.asarray(point.W), np.asarray(point.H), np.repeat([0, 1, 2], SKEWED)
    centred = [H[:, labels == k].mean(axis=1) - H.mean(axis=1) for k in range(3)]
    for name, rows in (("classifier", W), ("class means", centred)):
        products = np.array([[a @ b for a in rows] for b in rows])
        expected = products / np.mean([a @ a for a in rows])
        np.testing.assert_allclose(found[name], expected, rtol=1e-13, atol=1e-14)


def test_gram_matrices_at_the_end_are_the_minimiser_s(problem, path):
    """A simplex ETF for cross-entropy; for imbalanced classes what the minimiser has."""
    found = gram.gram_matrices(problem, path.point(-1))
    predicted = gram.predicted_grams(global_minimum(problem))
    for name in gram.NAMES:
        np.testing.assert_allclose(predicted[name], 1.5 * np.eye(3) - 0.5, atol=1e-12)
        np.testing.assert_allclose(found[name], predicted[name], atol=1e-6)
    skewed = global_minimum(make(CrossEntropy(), SKEWED, 1e-2))
    W = np.asarray(skewed.params(jax.random.key(5)).W)
    expected = W @ W.T * 3 / np.sum(W**2)
    np.testing.assert_allclose(gram.predicted_grams(skewed)["classifier"], expected, atol=1e-12)


def test_distances_of_gram_matrices_are_drawn_or_said_to_be_undefined(problem, path):
    minimum, end = global_minimum(problem), path.point(-1)
    first, second = Figure().subplots(1, 2)
    gram.plot_grams(problem, minimum, end, (first, second))
    found, predicted = gram.gram_matrices(problem, end), gram.predicted_grams(minimum)
    for axes, name in ((first, "classifier"), (second, "class means")):
        drawn = np.asarray(axes.images[0].get_array())
        distance = np.abs(found[name] - predicted[name])
        np.testing.assert_array_equal(drawn, np.maximum(distance, 64 * 2.0**-52))
    beyond = global_minimum(make(CrossEntropy(), BALANCED, 1e-2, mu=0.5))
    unknown = global_minimum(make(CrossEntropy(), BALANCED, 1e-2, dim=1))
    for least, params, words in (
        (beyond, None, "collapsed\nto the origin"),
        (beyond, end, "the minimum\nis the origin"),
        (unknown, end, "no minimiser\nis known"),
    ):
        axes = Figure().subplots(1, 2)
        gram.plot_grams(problem, least, params, axes)
        assert all(not ax.images and ax.texts[0].get_text() == words for ax in axes)


@pytest.mark.parametrize("entry", [0.0, 1e200, np.inf])
def test_gram_matrices_of_no_direction_are_nan_and_of_huge_ones_are_not(problem, entry):
    W, H = np.full((3, 4), entry), np.zeros((4, 6))
    W[0] *= -1
    found = gram.gram_matrices(problem, Params(*map(jax.numpy.asarray, (W, H, np.zeros(3)))))
    assert np.isnan(found["class means"]).all()
    signs = np.array([-1.0, 1.0, 1.0])
    expected = np.outer(signs, signs) if entry == 1e200 else np.full((3, 3), np.nan)
    np.testing.assert_allclose(found["classifier"], expected, rtol=1e-14)


def test_singular_values_are_those_of_the_closed_form(problem, path):
    minimum = global_minimum(problem)
    table = singular_values.singular_value_table(problem, minimum, path.point(-1))
    mu, n = np.sqrt(float(problem.lam_w) * float(problem.lam_h)), 2
    # CE: ρ = log((1 − (K−1)μ√n)/(μ√n)), K−1 singular values ρ√n, and as many of G equal to μ.
    rho = np.log((1 - 2 * mu * np.sqrt(n)) / (mu * np.sqrt(n)))
    expected = np.array([rho * np.sqrt(n)] * 2 + [0.0])
    np.testing.assert_allclose(table["predicted_logits"], expected, atol=1e-12)
    np.testing.assert_allclose(table["logits"], expected, atol=1e-6)
    np.testing.assert_allclose(table["gradient"], [mu, mu, 0.0], atol=1e-9)
    assert table["mu"] == pytest.approx(mu, rel=1e-15)
    assert list(table["index"]) == [1, 2, 3]


def test_singular_values_of_the_gradient_from_finite_differences(problem):
    point = gaussian(problem, 2, 1.0)
    W, H, b = (np.asarray(x) for x in (point.W, point.H, point.b))

    def data_loss(Z: np.ndarray) -> float:
        V = Z + b[:, None]
        return np.mean([np.logaddexp.reduce(V[:, i]) - V[i // 2, i] for i in range(6)])

    Z, G, step = W @ H, np.zeros((3, 6)), 1e-6
    for index in np.ndindex(*Z.shape):
        shift = np.zeros_like(Z)
        shift[index] = step
        G[index] = (data_loss(Z + shift) - data_loss(Z - shift)) / (2 * step)
    found = singular_values.gradient_singular_values(problem, point)
    np.testing.assert_allclose(found, np.linalg.svd(G, compute_uv=False), atol=1e-9)


def test_singular_values_are_nan_where_nothing_is_known(problem):
    unknown = global_minimum(make(CrossEntropy(), BALANCED, 1e-2, dim=1))
    assert np.isnan(singular_values.predicted_singular_values(unknown)).all()
    point = Params(*(jax.numpy.asarray(np.full(s, np.inf)) for s in ((3, 4), (4, 6), 3)))
    assert np.isnan(singular_values.logit_singular_values(point)).all()


# Features ------------------------------------------------------------------------------------


def test_the_view_keeps_every_length_of_the_class_means(problem, path):
    end = path.point(-1)
    basis = feature_view.span_of_means(problem, end)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-14)
    seen = feature_view.view(problem, end, basis)
    means = np.asarray(end.H).reshape(4, 3, 2).mean(axis=2)
    centred = means - means.mean(axis=1, keepdims=True)
    # Features of all classes have the mean zero at a simplex ETF.
    for j in range(3):
        for k in range(3):
            expected = np.linalg.norm(centred[:, j] - centred[:, k])
            found = np.linalg.norm(seen["class mean"][j] - seen["class mean"][k])
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    # 120° apart, the first along the first axis and the second above it; W along the means.
    angles = np.degrees(np.arctan2(seen["class mean"][:, 1], seen["class mean"][:, 0]))
    np.testing.assert_allclose(angles, [0, 120, -120], atol=1e-4)
    np.testing.assert_allclose(seen["classifier"], seen["class mean"], atol=1e-6)
    np.testing.assert_allclose(seen["feature"], np.repeat(seen["class mean"], 2, axis=0), atol=1e-6)


def test_the_view_is_a_projection_at_any_point(problem):
    point = gaussian(problem, 4, 1.0)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 2)))[0]
    seen = feature_view.view(problem, point, basis)
    np.testing.assert_allclose(seen["feature"][3], np.asarray(point.H)[:, 3] @ basis)
    ratio = (np.asarray(point.W) @ basis) / seen["classifier"]
    np.testing.assert_allclose(ratio, ratio[0, 0])
    lengths = [np.mean(np.linalg.norm(seen[name], axis=1)) for name in ("classifier", "class mean")]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-14)


def test_moments_lead_from_the_start_to_the_end_in_order_of_collapse(path):
    chosen = feature_view.moments(path)
    assert len(chosen) == 4
    assert (chosen[0], chosen[-1]) == (0, len(path.step) - 1)
    disorder = np.sqrt(path.metrics.within_between_ratio) + path.metrics.nc3
    assert list(disorder[np.array(chosen)]) == sorted(disorder[np.array(chosen)], reverse=True)
    # The middle ones show something: neither the start's disorder nor an end that is invisible.
    assert disorder[0] > disorder[chosen[1]] > 0.05
    assert feature_view.moments(jax.tree.map(lambda x: x[:1], path)) == [0]


def test_only_what_has_a_plane_or_a_space_is_seen(problem, path):
    assert feature_view.can_be_seen(problem, path)
    for other in (make(CrossEntropy(), BALANCED, dim=1), make(CrossEntropy(), (2,) * 5, dim=8)):
        assert not feature_view.can_be_seen(other, path)
    nowhere = jax.tree.map(lambda x: x * np.nan, path.params)
    broken = dataclasses.replace(path, params=nowhere)
    assert not feature_view.can_be_seen(problem, broken)


# CSV -----------------------------------------------------------------------------------------


def test_csv_reads_back_to_the_same_bits():
    numbers = np.array([1 / 3, 1e-300, np.nan, -0.0])
    table = {"loss": "LS(α=0.1)", "i": np.arange(4), "x": numbers}
    text = to_csv([table, table])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 8
    assert {row["loss"] for row in rows} == {"LS(α=0.1)"}
    assert [int(row["i"]) for row in rows] == [0, 1, 2, 3] * 2
    read = np.array([float(row["x"]) for row in rows[4:]])
    np.testing.assert_array_equal(read.view(np.int64), numbers.view(np.int64))
