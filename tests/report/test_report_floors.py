"""What is undefined is shown as undefined, and what is rounding never as a signal."""

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from points import BALANCED, make

from ufm import CrossEntropy, as_classifier, examine, init_params, verify
from ufm.cli.output.summary import _metric_rows
from ufm.cli.output.table import show
from ufm.model.rounding import resolved, value_floor
from ufm.report import LossRecord, figure_files, plot_collapse, plot_gap, plot_gradient_norm
from ufm.report.runs.convergence import gradient_floor, positive
from ufm.report.runs.latex import latex_table
from ufm.runs.loss_result import loss_result
from ufm.runs.loss_summary import summarise
from ufm.runs.trajectory import trajectory

#: Beyond the collapse threshold of cross-entropy, 1/(K√n) = 0.236.
BEYOND = make(CrossEntropy(), BALANCED, 1e-2, mu=0.5)


@pytest.fixture(scope="module")
def runs():
    return verify(BEYOND, jax.random.key(0), 2)


@pytest.fixture(scope="module")
def record(runs):
    start = jax.tree.map(lambda x: x[0], init_params(BEYOND, jax.random.key(0), num_starts=1))
    return LossRecord(BEYOND, runs.minimum, runs.history, trajectory(BEYOND, start))


def test_runs_at_the_origin_have_no_metrics_in_any_table(runs, capsys, tmp_path):
    assert runs.num_matching == 2
    for name in ("nc1", "nc2", "nc3", "nc4"):
        assert np.isnan(getattr(runs.metrics, name)).all()
    result = loss_result("ce", runs, 1.0)
    assert np.isnan([run["nc1"] for run in result["runs"]]).all()
    assert latex_table(BEYOND, [summarise(result)]).count(" -- ") == 3
    show(BEYOND, [result], tmp_path)
    said = capsys.readouterr().out
    assert said.splitlines()[2].split()[-5:-2] == ["—"] * 3
    assert (
        "CE: collapsed to the origin, the predicted minimum, where NC1–NC3 are undefined." in said
    )


def test_a_layer_at_the_origin_has_no_metrics(runs):
    point = jax.tree.map(lambda x: x[0], runs.solutions.params)
    decays = {"lam_w": 1.0, "lam_h": 0.25, "lam_b": 1e-2}
    layer = as_classifier(point.W, point.H, BEYOND.labels, loss="ce", b=point.b, **decays)
    examination = examine(layer)
    assert np.isnan(examination.metrics.nc1)
    ((name, number, words),) = _metric_rows(examination)
    assert (name, number) == ("NC1–NC4", "—")
    assert words == "undefined: the layer has collapsed to the origin, the minimum"


def test_metrics_end_where_the_run_comes_to_the_origin(record):
    """Where ‖Z‖ ≤ 10⁻³ f*/μ and the penalties are ≤ 10⁻³ f*; before that all is drawn."""
    assert record.is_origin
    minimum, path = record.minimum, record.path
    size = minimum.value / 0.5
    near = []
    for i in range(len(path.step)):
        W, H = (np.asarray(x) for x in (path.params.W[i], path.params.H[i]))
        penalty = (1.0 * np.sum(W**2) + 0.25 * np.sum(H**2)) / 2
        V = W @ H + np.asarray(path.params.b[i])[:, None]
        V = V - V.mean(axis=0)
        near.append(np.linalg.norm(V) <= 1e-3 * size and penalty <= 1e-3 * minimum.value)
    assert near[-1]
    assert not near[0]
    np.testing.assert_array_equal(np.isnan(record.shown.metrics.nc1), near)
    axes = Figure().subplots()
    plot_collapse([("CE", record.shown)], "nc2", axes)
    curve, cross = axes.lines
    x, _ = curve.get_data()
    np.testing.assert_array_equal(x, np.asarray(path.products)[~np.array(near)])
    assert cross.get_label() == "collapsed to the origin"
    np.testing.assert_array_equal(cross.get_data()[0], np.asarray(x)[-1:])


def test_every_figure_of_a_run_to_the_origin_can_be_drawn(record):
    files = dict(figure_files([record]))
    assert b",nan,nan,nan,nan" in files["gram.csv"]
    # The features are those of the moments before.
    steps = {int(line.split(b",")[1]) for line in files["features.csv"].splitlines()[1:]}
    assert max(steps) < int(record.path.step[-1])


def test_what_is_within_rounding_is_at_the_floor_and_what_is_below_is_dropped():
    curve = np.array([[1.0, 1.0], [2.0, 1e-17], [3.0, -1e-17], [4.0, 0.0], [5.0, -1.0]])
    x, y = positive(curve, 1e-16)
    np.testing.assert_array_equal(x, [1, 2, 3, 4])
    np.testing.assert_array_equal(y, [1.0, 1e-16, 1e-16, 1e-16])
    np.testing.assert_array_equal(positive(curve)[0], [1, 2])
    star = 0.75
    assert value_floor(star) == 4 * 2.0**-52 * star
    np.testing.assert_array_equal(resolved(np.array([1e-16, -1e-16, 1e-9]), star), [0, 0, 1e-9])


def test_convergence_is_drawn_down_to_rounding_and_shaded_below():
    problem = make(CrossEntropy(), BALANCED, 1e-2)
    runs = verify(problem, jax.random.key(0), 2)
    above, below = Figure().subplots(2)
    plot_gap([runs], above)
    plot_gradient_norm([runs], below)
    star = runs.minimum.value
    for axes, floor in ((above, 4 * 2.0**-52 * star), (below, gradient_floor(runs))):
        assert all(np.min(line.get_ydata()) >= floor for line in axes.lines)
        shaded = [patch.get_y() + patch.get_height() for patch in axes.patches]
        reached = min(np.min(line.get_ydata()) for line in axes.lines) == floor
        np.testing.assert_allclose(shaded, [floor] if reached else [], rtol=1e-12)
    assert above.patches
    # The noise of a gradient: between the last digit of what it adds up and a thousand of them.
    point = runs.minimum.params(jax.random.key(0))
    summed = float(problem.lam_w) * np.linalg.norm(point.W)
    assert 2.0**-52 * summed < gradient_floor(runs) < 1e3 * 2.0**-52
