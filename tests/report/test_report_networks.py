"""Figures of trained networks: plotted data are the runs', marks are the tests'."""

import csv
import io

import matplotlib as mpl
import numpy as np
import pytest
from figures import check_print, names_of
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ufm.report import network_files, plot_network_curve, style
from ufm.report.networks.curves import collapse_page, loss_looks, model_page
from ufm.report.networks.grid import (
    accuracy_gaps,
    final_accuracies,
    forest_page,
    grid_page,
    plot_forest,
)

mpl.use("Agg")

EPOCH = np.array([1, 2, 5, 10, 20])
LOSSES = ("ce", "ls:0.05", "fl:3.0", "mse:1.0,15.0")


def made_up(loss, width=8, epochs=20, seed=0, accuracy=0.9, **changes) -> dict:
    fall = (1.0 + seed) / (EPOCH * width)
    run = {
        "loss": loss,
        "width": width,
        "epochs": epochs,
        "seed": seed,
        "epoch": EPOCH,
        "learning_rate": np.array([0.1, 0.1, 0.1, 0.01, 0.001]),
        "drops": (9, 15),  # between measurements
        "nc1": fall,
        "nc2": 2 * fall,
        "nc3": 3 * fall,
        "train_accuracy": np.linspace(0.5, 1.0, 5),
        "test_accuracy": np.append(np.linspace(0.5, 0.8, 4), accuracy),
        "dual_ratio": 1 + fall,
        "distance": 5 * fall,
    }
    return run | changes


def comparison(loss, width, epochs, difference, reach, outcome) -> dict:
    return {
        "loss": loss, "width": width, "epochs": epochs, "difference": difference,
        "low": difference - reach, "high": difference + reach, "margin": 1.0, "outcome": outcome,
        "alpha": 0.05,
    }  # fmt: skip


RUNS = [made_up(loss, width, seed=s) for loss in LOSSES for width in (8, 32) for s in range(3)]
COMPARISONS = [
    comparison("ls:0.05", 8, 20, -2.0, 0.5, "different"),
    comparison("mse:1.0,15.0", 8, 20, 0.5, 0.2, "equivalent though different"),
    comparison("ls:0.05", 32, 20, 0.1, 0.3, "equivalent"),
    comparison("mse:1.0,15.0", 32, 20, 0.0, 0.0, "inconclusive"),
]


def lines(axes) -> list[np.ndarray]:
    return [np.column_stack(line.get_data()) for line in axes.lines]


def test_every_run_is_thin_their_median_thick_and_named():
    runs = [made_up("ce", seed=s) for s in (0, 1, 4)]
    axes = plot_network_curve(runs, "nc1", Figure().subplots())
    curves = [line for line in axes.lines if len(line.get_xdata()) == len(EPOCH)]
    for line, run in zip(curves, (*runs, runs[1]), strict=True):
        np.testing.assert_array_equal(np.column_stack(line.get_data()), np.c_[EPOCH, run["nc1"]])
    assert [line.get_label() for line in curves][3] == "CE"
    assert curves[3].get_linewidth() > 2 * curves[0].get_linewidth()
    assert curves[3].get_marker() != "None"  # where it was measured
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_drops_of_the_learning_rate_and_the_goal_are_marked():
    axes = plot_network_curve([made_up("ce")], "dual_ratio", Figure().subplots())
    marks = [line for line in lines(axes) if len(line) == 2]
    assert [line[0, 0] for line in marks if line[0, 0] == line[1, 0]] == [9, 15]
    assert [line[0, 1] for line in marks if line[0, 1] == line[1, 1]] == [1]


def test_accuracies_are_points_and_early_ones_do_not_set_the_limits():
    axes = plot_network_curve([made_up("ce")], "test_accuracy", Figure().subplots())
    assert lines(axes)[0][-1, 1] == pytest.approx(90)
    low, high = axes.get_ylim()
    assert 50 < low < 60  # after a tenth of 20 epochs: from the second on
    assert high > 90


def test_a_loss_has_its_colour_whatever_stands_beside_it():
    found = {spec: each.look.color for spec, each in loss_looks(RUNS).items()}
    assert found == dict(zip(LOSSES, ("C0", "C1", "C2", "C3"), strict=True))
    alone = loss_looks([made_up("mse:1.0,15.0"), made_up("ls:0.1"), made_up("ls:0.05")])
    assert [each.look.color for each in alone.values()] == ["C1", "C4", "C3"]
    assert len({each.look.marker for each in alone.values()}) == 3


def test_a_diverged_run_leaves_a_gap():
    nothing = np.array([0.5, np.nan, np.nan, np.nan, np.nan])
    runs = [made_up("ce"), made_up("mse:1.0,15.0", nc1=nothing, test_accuracy=nothing)]
    figure, _ = collapse_page(runs)
    figure.draw_without_rendering()
    assert np.isnan(accuracy_gaps(runs, "mse:1.0,15.0").values).all()


def test_columns_are_widths_at_their_longest_training():
    runs = [*RUNS, *(made_up(loss, 8, epochs=400, nc1=np.full(5, 7.0)) for loss in LOSSES)]
    figure, tables = collapse_page(runs)
    assert len(tables) == len(runs)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["width 8", "width 32"]
    drawn = [y for line in lines(figure.axes[0]) if len(line) == 5 for y in line[:, 1]]
    assert set(drawn) == {7.0}


def test_the_model_s_page_shows_what_there_is():
    assert len(model_page([made_up("ce")])[0].axes) == 2
    centred = {"centred_dual_ratio": np.ones(5), "centred_distance": np.ones(5)}
    assert len(model_page([made_up("ce", **centred)])[0].axes) == 4


# Agreement ---------------------------------------------------------------------------------------


def test_gaps_are_means_over_common_seeds():
    runs = [made_up("ce", seed=s, accuracy=0.9 + 0.01 * s) for s in range(3)]
    runs += [made_up("ls:0.05", seed=s, accuracy=0.88) for s in (1, 2, 9)]
    assert final_accuracies(runs)["ls:0.05", 8, 20] == {1: 88, 2: 88, 9: 88}
    gaps = accuracy_gaps(runs, "ls:0.05")
    np.testing.assert_allclose(gaps.values, [[-(3 + 4) / 2]], rtol=1e-12)  # behind CE


def test_numbers_and_outcomes_stand_in_their_cells():
    accuracy = {"ls:0.05": 0.88, "mse:1.0,15.0": 0.905}
    runs = [made_up(loss, w, accuracy=accuracy.get(loss, 0.9)) for loss in LOSSES for w in (8, 32)]
    runs.append(made_up("ce", 32, epochs=40))
    figure, tables = grid_page(runs, COMPARISONS)
    panels = dict(zip(LOSSES[1:], figure.axes, strict=False))
    said = {
        loss: {text.get_position()[::-1]: text.get_text() for text in axes.texts}
        for loss, axes in panels.items()
    }
    # Row, column: width, epochs.
    assert said["ls:0.05"] == {(0, 0): "−2.00*", (1, 0): "−2.00", (0, 1): "–", (1, 1): "–"}
    assert said["mse:1.0,15.0"][0, 0] == "+0.50*"
    framed = {
        loss: [(p.get_y(), p.get_x()) for p in axes.patches if isinstance(p, Rectangle)]
        for loss, axes in panels.items()
    }
    assert [tuple(np.round(x)) for x in framed["ls:0.05"]] == [(1, 0)]
    assert [tuple(np.round(x)) for x in framed["mse:1.0,15.0"]] == [(0, 0)]
    assert framed["fl:3.0"] == []
    for axes in panels.values():
        assert axes.images[0].get_clim() == pytest.approx((-2.0, 2.0))
    found = tables[0]["difference_in_points"]
    np.testing.assert_allclose(found, [-2, np.nan, -2, np.nan], rtol=1e-12)


def test_a_forest_of_intervals():
    axes = plot_forest(COMPARISONS, Figure().subplots())
    found = [np.column_stack(line.get_data()) for line in axes.lines]
    found = [
        line for line in found if len(line) == 2 and line[0, 0] < line[1, 0] and line[0, 0] != 0
    ]
    found = [line for line in found if line[0, 1] == line[1, 1] == int(line[0, 1])]
    expected = [[[c["low"], i], [c["high"], i]] for i, c in enumerate(COMPARISONS[:3])]
    np.testing.assert_allclose(found, expected)  # the last one has none
    assert [text.get_text() for text in axes.texts] == [c["outcome"] for c in COMPARISONS]
    band = axes.patches[0]
    assert (band.get_x(), band.get_width()) == (-1, 2)
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [line.get_xdata()[0] for line in marks] == [c["difference"] for c in COMPARISONS]
    assert to_rgba(marks[3].get_markerfacecolor()) == to_rgba("white")
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first one on top


def test_an_interval_of_too_few_seeds_claims_nothing_wherever_it_lies():
    axes = plot_forest(
        [comparison("ls:0.05", 8, 20, 0.0, 0.1, "too few seeds")], Figure().subplots()
    )
    (mark,) = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert to_rgba(mark.get_markerfacecolor()) == to_rgba("white")
    assert [text.get_text() for text in axes.texts] == ["too few seeds"]


def test_the_forest_is_ordered_by_width():
    _, tables = forest_page(COMPARISONS[::-1])
    assert [table["width"][0] for table in tables] == [8, 8, 32, 32]


# Files -------------------------------------------------------------------------------------------


def test_files_and_their_data():
    files = dict(network_files(RUNS, COMPARISONS))
    pages = ("network-collapse", "network-model", "network-accuracy", "network-tests")
    assert set(files) == names_of(*pages)
    rows = list(csv.DictReader(io.StringIO(files["network-collapse.csv"].decode())))
    assert len(rows) == len(RUNS) * len(EPOCH)
    last = RUNS[-1]
    assert (rows[-1]["loss"], float(rows[-1]["nc3"])) == (last["loss"], last["nc3"][-1])
    tests = list(csv.DictReader(io.StringIO(files["network-tests.csv"].decode())))
    assert [row["outcome"] for row in tests] == [c["outcome"] for c in COMPARISONS]


def test_pages_that_lack_data_are_left_out():
    bare = [{k: v for k, v in made_up("ce").items() if k not in ("dual_ratio", "distance")}]
    assert {name for name, _ in network_files(bare)} == names_of("network-collapse")


@pytest.mark.parametrize("count", [1, 3])
def test_figures_are_fit_for_print(count):
    runs = [
        made_up(loss, width, seed=s) for loss in LOSSES for width in (8, 32, 64) for s in (0, 1)
    ]
    shown = [run for run in runs if run["width"] in (8, 32, 64)[:count]]
    with style():
        pages = [collapse_page(shown), model_page(shown)]
        if count == 1:  # once is enough: these show every width
            pages += [grid_page(runs, COMPARISONS), forest_page(COMPARISONS)]
        for figure, _ in pages:
            figure.draw_without_rendering()
            check_print(figure)


@pytest.mark.parametrize(
    ("runs", "complaint"),
    [
        ([], "no runs"),
        ([{"loss": "ce"}], "run 0 has no width"),
        ([made_up("ce", nc1=np.ones(3))], "different length"),
        ([made_up("ce", test_accuracy=np.full(5, 90.0))], "shares of right answers"),
    ],
)
def test_complaints_name_the_run(runs, complaint):
    with pytest.raises(ValueError, match=complaint):
        network_files(runs)


def test_other_complaints():
    with pytest.raises(ValueError, match="unknown quantity 'nc9'"):
        plot_network_curve(RUNS, "nc9", Figure().subplots())
    with pytest.raises(ValueError, match="of another loss"):
        grid_page([made_up("ce")], [])
