"""The path to zero decay: lines are the path's, the limit's and the formula's numbers."""

import numpy as np
import pytest
from figures import check_print
from matplotlib.figure import Figure
from points import make

from ufm import CrossEntropy, decay_path, zero_decay_limit
from ufm.report import decay_files, plot_decay, style
from ufm.report.phase.decay import PANELS, decay_page

DECAYS = [0.09, 1e-3, 1e-5]


@pytest.fixture(scope="module")
def path():
    return decay_path(make(CrossEntropy(), (4, 4, 1, 1)), DECAYS)


def test_lines_are_minima_formula_and_limit(path):
    limit = zero_decay_limit(path.problem)
    wanted = {
        "cosine_w": lambda found, _: found.cosine_w,
        "cosine_h": lambda found, _: found.cosine_h,
        "ratio": lambda found, _: [found.ratio_w, found.ratio_h],
        "distance": lambda _, Z: [limit.distance(Z)],
    }
    for panel, of in wanted.items():
        axes = plot_decay(path, panel, Figure().subplots())
        lines = np.array([line.get_ydata() for line in axes.lines]).reshape(-1, 3, 3)
        assert len(lines) == len(PANELS[panel])
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), DECAYS)
        for i in range(3):
            minimum = of(path.geometry(i), path.logits[i])
            np.testing.assert_array_equal(lines[:, 0, i], minimum)
            near = limit.first_order(DECAYS[i])
            np.testing.assert_array_equal(lines[:, 1, i], of(near.geometry(), near.logits))
            if panel != "distance":
                np.testing.assert_array_equal(lines[:, 2, i], of(limit.geometry(), None))
        assert np.isnan(lines[:, 2]).all() == (panel == "distance")


def test_without_a_formula_there_is_no_line():
    path = decay_path(make(CrossEntropy(), (4, 4, 1, 1), 1e-2), [1e-2])
    minimum, formula, _ = plot_decay(path, "distance", Figure().subplots()).lines
    assert np.isfinite(minimum.get_ydata()).all()
    assert np.isnan(formula.get_ydata()).all()


def test_page_and_its_files(path):
    with style():
        figure, tables = decay_page(path)
        figure.draw_without_rendering()
        check_print(figure)
    assert [table["what"] for table in tables] == ["minimum", "formula", "limit"]
    np.testing.assert_array_equal(
        tables[0]["cosine_w_small_small"], [path.geometry(i).cosine_w[2] for i in range(3)]
    )
    names = [name for name, _ in decay_files(path)]
    assert names == [f"decay-path.{kind}" for kind in ("csv", "tex", "png", "pdf", "svg")]
