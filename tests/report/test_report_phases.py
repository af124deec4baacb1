"""The phase diagram drawn: the curves are those of the table, and the words stand beside them."""

import csv
import io
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from figures import check_print, names_of
from matplotlib.figure import Figure
from tex import rows_of

from ufm import Focal, Params, Problem, focal_phases
from ufm.counterexamples.found import Attempt, Hunt, SpuriousMinimum
from ufm.counterexamples.interval import NOT_REACHED, UNSTABLE, End, Interval
from ufm.counterexamples.search_space import SearchSpace
from ufm.report import phases_files, plot_phases, style
from ufm.report.phase.focal import MARKS, phases_page
from ufm.report.phase.table import hunt_table

OVER_GAMMA = focal_phases(jnp.linspace(0.1, 8.0, 40), 100.0)
NAMES = {"ETF vanishes", "tie", "origin stable"}
OVER_CLASSES = focal_phases(3.0, jnp.geomspace(5.0, 1e3, 40))


@pytest.mark.parametrize("diagram", [OVER_GAMMA, OVER_CLASSES], ids=["gamma", "classes"])
def test_the_curves_and_the_bands_between_them(diagram):
    with style():
        axes = plot_phases(diagram, Figure().add_subplot())
    x = np.asarray(diagram.gamma if diagram is OVER_GAMMA else diagram.num_classes)
    drawn = {line.get_label(): line.get_data() for line in axes.lines}
    for name in ("origin", "tie", "frame"):
        expected = np.asarray(getattr(diagram, name) * diagram.num_classes)
        np.testing.assert_array_equal(drawn[name][0], x)
        np.testing.assert_array_equal(drawn[name][1], expected)
    low, high = axes.get_ylim()
    assert low < np.min(drawn["origin"][1]) < np.max(drawn["frame"][1]) < high
    assert axes.get_xscale() == ("linear" if diagram is OVER_GAMMA else "log")
    assert len(axes.collections) == 2
    # The dotted line stands where the transition turns from continuous to a jump.
    (mark,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    place = mark.get_xdata()[0]
    jumps = np.asarray(diagram.jumps)
    assert np.array_equal(x > place, jumps)
    words = [text.get_text() for text in axes.texts]
    for expected in ("ETF vanishes", "tie", "origin stable", "ETF global", "origin global"):
        assert expected in words


def test_names_of_bands_that_are_too_thin_are_left_out():
    with style():
        axes = plot_phases(focal_phases(jnp.linspace(0.5, 3.0, 20), 10.0), Figure().add_subplot())
    words = [text.get_text() for text in axes.texts]
    assert "ETF global" not in words
    assert not [line for line in axes.lines if line.get_linestyle() == ":"]


def found(gamma: float, num_classes: int, rate: float, rank: int, dead: int) -> SpuriousMinimum:
    """A minimum as the hunt has it, without its point."""
    mu = rate / 2**0.5
    problem = Problem(Focal(gamma), (2,) * num_classes, num_classes, mu, mu, None)
    values = {"value": 2.0, "lower_value": 1.0, "lower": "", "grad_norm": 0.0, "smallest": 1e-3}
    counts = {"index": 0, "zeros": 0, "gauge_dimension": 0, "rank": rank, "dead_classes": dead}
    means = Params(*(jnp.zeros((num_classes,) * 2) for _ in range(2)), None)
    return SpuriousMinimum(problem, means, found_by="", **values, **counts)


def test_minima_are_marked_in_the_plane_of_their_classes_by_their_kind():
    minima = [
        found(2.0, 100, 0.0112, 0, 100),
        found(3.0, 100, 0.0117, 99, 0),
        found(4.0, 100, 0.0120, 60, 39),
        found(4.0, 100, 0.0121, 50, 49),
        found(5.0, 24, 0.05, 23, 0),
    ]
    with style():
        figure, _ = phases_page([OVER_GAMMA, OVER_CLASSES], minima)
    check_print(figure)
    first, second = figure.axes
    marked, others = (
        {
            str(x.get_label()).removeprefix("local minimum: "): x.get_xydata()
            for x in axes.lines
            if x.get_marker() in MARKS.values()
        }
        for axes in (first, second)
    )
    assert set(marked) == {"origin", "simplex ETF", "dead classes"}
    np.testing.assert_allclose(marked["origin"], [[2.0, 1.12]])
    np.testing.assert_allclose(marked["simplex ETF"], [[3.0, 1.17]])
    np.testing.assert_allclose(marked["dead classes"], [[4.0, 1.20], [4.0, 1.21]])
    # In the other plane γ = 3: one of them is there, at its K.
    assert set(others) == {"simplex ETF"}
    np.testing.assert_allclose(others["simplex ETF"], [[100, 1.17]])
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [f"local minimum: {kind}" for kind in ("origin", "simplex ETF", "dead classes")]


def test_ends_have_the_digits_that_are_known_and_none_is_claimed_that_was_not_reached():
    minima = tuple(found(2.0, 10, 0.05, 0, 10) for _ in range(3))
    attempt = Attempt(0, minima[0].problem, 0, 0, 0, minima, 3)
    hunted = Hunt(SearchSpace((Focal(2.0), Focal(2.0))), (attempt,))
    # 0.0412345 ± 0.00002 is known to 5e-4 of it: three digits.
    known = End(0.0412545, 0.0412145, UNSTABLE)
    interval = Interval(known, End(0.98765432, np.inf, NOT_REACHED), 1e-6, 9)
    table = hunt_table(hunted, [(minima[1], interval), (minima[2], "no branch")])
    first, second, third = rows_of(table)
    assert first[5:] == third[5:] == ["--"] * 4
    assert second[5:] == ["$0.0412$", r"$\geq 0.987654$", UNSTABLE, NOT_REACHED]


def test_names_of_curves_do_not_overlap_and_curves_that_are_one_have_one_name():
    close = focal_phases(np.linspace(0.5, 8.0, 20), 50.0)
    one = focal_phases(np.linspace(0.5, 8.0, 20), 10.0)
    with style():
        figure, _ = phases_page([close, one])
        figure.draw_without_rendering()
    first, second = figure.axes
    boxes = [x.get_window_extent() for x in first.texts if x.get_text() in NAMES]
    assert len(boxes) == 3
    boxes.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))
    words = [text.get_text() for text in second.texts]
    assert "continuous" in words
    assert not NAMES & set(words)


def test_files_hold_the_numbers():
    files = dict(phases_files([OVER_GAMMA, OVER_CLASSES]))
    assert set(files) == names_of("phases")
    rows = list(csv.DictReader(io.StringIO(files["phases.csv"].decode())))
    assert len(rows) == 80
    both = np.concatenate([np.asarray(OVER_GAMMA.tie), np.asarray(OVER_CLASSES.tie)])
    np.testing.assert_array_equal([float(row["tie"]) for row in rows], both)


def test_a_diagram_has_one_abscissa():
    grid = focal_phases(jnp.array([1.0, 2.0])[:, None], jnp.array([10.0, 20.0])[None, :])
    for diagram in (grid, focal_phases(1.0, 10.0), focal_phases(jnp.array([2.0, 1.0]), 10.0)):
        with pytest.raises(ValueError, match="one of gamma and num_classes has to ascend"):
            plot_phases(diagram, Figure().add_subplot())
