"""The phase diagram drawn: the curves are those of the table, and the words stand beside them."""

import csv
import io

import jax.numpy as jnp
import numpy as np
import pytest
from figures import names_of
from matplotlib.figure import Figure

from ufm import focal_phases
from ufm.report import phases_files, plot_phases, style

OVER_GAMMA = focal_phases(jnp.linspace(0.1, 8.0, 40), 100.0)
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
