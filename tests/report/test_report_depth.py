"""The phase diagram over depth: segments between ties, also where the grid is coarse."""

import numpy as np
import pytest
from figures import check_print, names_of
from matplotlib.figure import Figure

import ufm
from ufm.report import depth_files, plot_depths
from ufm.report._style import style
from ufm.report.phase.depth import depth_page, segments
from ufm.variants.deep.phases import etf_local_limit

COARSE = np.geomspace(1e-3, 0.3, 8)


@pytest.fixture(scope="module")
def diagrams():
    return [ufm.deep_phases(K, M, COARSE) for K, M in ((3, 3), (3, 4), (4, 3))]


def test_segments_end_at_the_ties(diagrams):
    """The ties of the scalar formulas, two of them between two neighbouring decays."""
    expected = [
        (0.1734838832, 0.1941863740),
        (0.1319771434, 0.1655715715),
        (0.0117604981, 0.1599626527),
    ]
    for diagram, ties, lower in zip(
        diagrams, expected, ("1 pair and 1 dead class",) * 2 + ("orthoplex",), strict=True
    ):
        found = list(segments(diagram))
        assert [x.name for x in found] == ["simplex ETF", lower, "origin"]
        assert [x.kind for x in found] == ["simplex ETF", "lower rank", "origin"]
        assert [x.high for x in found[:-1]] == pytest.approx(ties, abs=1e-9)
        assert [x.low for x in found[1:]] == [x.high for x in found[:-1]]
        assert (found[0].low, found[-1].high) == (COARSE[0], COARSE[-1])


def test_lines_are_the_ranges_of_local_minima(diagrams):
    """The ETF's by its formula, and the pair's as the dense Hessian has it (test_deep_phases)."""
    with style():
        axes = plot_depths(diagrams[:1], Figure().add_subplot())
    etf, pair = (line.get_xdata() for line in axes.lines)
    assert etf == pytest.approx([1e-3, etf_local_limit(3, 3, ufm.CrossEntropy())])
    assert pair == pytest.approx([0.0277193, 0.2290490], rel=1e-5)
    with pytest.raises(ValueError, match="one number of classes"):
        plot_depths(diagrams, Figure().add_subplot())


def test_the_page_is_fit_for_print_and_has_its_data(diagrams):
    with style():
        figure, (data,) = depth_page(diagrams)
        check_print(figure)
    assert data["num_classes"].tolist() == [3] * 12 + [4] * 6
    assert data["num_factors"].tolist() == [3] * 6 + [4] * 6 + [3] * 6
    assert data["is"].tolist() == (["best"] * 3 + ["local minimum"] * 3) * 3
    assert data["to"][1] == pytest.approx(0.1941863740, abs=1e-9)
    rows = list(zip(data["structure"], data["from"], data["to"], strict=True))[-3:]
    assert rows[1][0] == "orthoplex"
    assert rows[1][1:] == pytest.approx((1e-3, 0.1888919053))
    assert rows[2] == ("origin", COARSE[0], COARSE[-1])
    assert {name for name, _ in depth_files(diagrams[:1])} == names_of("depth-phases")
