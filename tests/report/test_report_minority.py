"""Phases of minority collapse: marks and lines against √n/N, and what is read of a sweep."""

import numpy as np
import pytest
from figures import check_print

from sweeps import loaded
from ufm.minimum.size_geometry import SizeGeometry
from ufm.report import style
from ufm.report.phase.minority import STATES, phase_page, state_of
from ufm.report.sweep.minority import phases
from ufm.sweep import open_store, run_sweep

TEXT = """
loss = ["ce"]
[problem]
class_counts = [[4, 4, 4, 4], [4, 4, 2, 2]]
dim = 6
lam_w = [0.02, 0.13]
lam_h = "lam_w"
lam_b = "none"
[keep]
arrays = true
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minority")
    run_sweep(loaded(folder, TEXT), folder / "out")
    (found,) = phases(open_store(folder / "out"))
    return found


def test_marks_are_on_the_side_of_their_threshold(found):
    assert found.label == "CE"
    places = list(zip(found.ratio.tolist(), found.mu.round(12).tolist(), strict=True))
    assert sorted(places) == [(1.0, 0.02), (1.0, 0.13), (2.0, 0.02), (2.0, 0.13)]
    for (ratio, mu), state in zip(places, found.state, strict=True):
        small, samples = 4 / ratio, 2 * (4 + 4 / ratio)
        beyond = mu >= small**0.5 / samples
        # Equal classes are the origin beyond; at ratio 2 the large ones live up to 2/12.
        assert STATES[int(state)] == (
            ("the origin" if ratio == 1.0 else "small classes merged")
            if beyond
            else "all classes distinct"
        )


def test_lines_are_the_exact_thresholds(found):
    assert list(found.lines) == ["small classes merge", "large classes merge"]
    for line, size in zip(found.lines.values(), (lambda r: 4 / r, lambda r: 4.0), strict=True):
        ratio, mu = line.T
        np.testing.assert_allclose(mu, np.sqrt(size(ratio)) / (8 + 8 / ratio), rtol=1e-9)
        assert (ratio[0], ratio[-1]) == pytest.approx((1.0, 2.0), rel=1e-5)


def test_states_of_points():
    pair = np.array([1.0, 0.5])

    def state(norm_w, cosine):
        return state_of(SizeGeometry(norm_w, np.array([0.0, 0.0, cosine]), pair, pair), False)

    assert state(pair, 0.99) == 0
    assert state(pair, 1.0 - 1e-8) == 1
    assert state(np.array([1.0, 1e-5]), np.nan) == 2
    assert state_of(SizeGeometry(pair, pair, pair, pair), True) == 3


def test_page_and_its_data(found):
    with style():
        figure, tables = phase_page(found)
        figure.draw_without_rendering()
        check_print(figure)
    (axes,) = figure.axes
    names = [*found.lines, *(STATES[int(i)] for i in sorted({*found.state}))]
    drawn = {line.get_label(): line for line in axes.lines}
    assert list(drawn) == names
    origin = drawn["the origin"]
    np.testing.assert_allclose(origin.get_xydata(), [[1.0, 0.13]], rtol=1e-15)
    assert [table["what"] for table in tables] == ["run", "line", "line"]
    assert tables[0]["state"].tolist() == [STATES[int(i)] for i in found.state]


def test_a_sweep_of_other_problems_has_none(tmp_path):
    text = TEXT.replace("[0.02, 0.13]", "0.02")  # counts alone: the figure of imbalance
    run_sweep(loaded(tmp_path, text), tmp_path / "out")
    assert list(phases(open_store(tmp_path / "out"))) == []
