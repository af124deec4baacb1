"""A drawn census: plotted data are its points, curves are eigenvalues, names stand apart."""

import csv
import dataclasses
import io
import itertools

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from figures import names_of
from landscapes import problem, small_census
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from tex import compile_table

from ufm.certificates.certificate import Verdict
from ufm.landscape import Descent, Flow
from ufm.model.params import Params
from ufm.report import plot_curvature_ratio, plot_flow, plot_graph, plot_index, style
from ufm.report._lines import Line, draw_lines
from ufm.report.landscape import census as drawn
from ufm.report.landscape.flow import flow_table, lingering, plot_flow_gradient
from ufm.report.landscape.graph import edges, offsets
from ufm.report.landscape.pages import flow_page, landscape_files
from ufm.report.landscape.table import landscape_table

mpl.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

#: Cost nothing, and have all that is drawn: three plateaus, the last of them at the end.
TIME = np.geomspace(1.0, 1e4, 9)
FLOW = Flow(
    time=TIME,
    value=np.array([1.39, 1.386, 1.0, 0.5, 0.49, 0.3, 0.2, 0.2, 0.2]),
    grad_norm=np.array([1.0, 0.1, 1.0, 0.2, 0.3, 0.5, 1e-6, 1e-5, 1e-9]),
    points=Params(jnp.zeros((9, 1, 1)), jnp.zeros((9, 1, 1)), None),
)


@pytest.fixture(scope="module")
def census():
    return small_census()


@pytest.fixture
def axes():
    with style():
        figure, axes = plt.subplots()
        yield axes
        plt.close(figure)


def height(census) -> np.ndarray:
    return np.array([point.value - census.minimum.value for point in census.points])


def marks(axes) -> np.ndarray:
    """Every mark that is drawn without a line, as rows."""
    points = [np.column_stack(x.get_data()) for x in axes.lines if x.get_linestyle() == "None"]
    return np.concatenate(points)


def ordered(rows) -> np.ndarray:
    return np.array(sorted(map(tuple, np.asarray(rows, float))))


# Index against f ---------------------------------------------------------------------------------


def test_every_point_is_drawn_at_its_f_and_index(census, axes):
    plot_index(census, axes)
    expected = np.column_stack([height(census), [point.index for point in census.points]])
    np.testing.assert_array_equal(ordered(marks(axes)), ordered(expected))
    low, high = axes.get_xlim()
    assert low < expected[:, 0].min()
    assert expected[:, 0].max() < high


def test_rungs_of_the_ladder_are_named_by_their_rank(census, axes):
    plot_index(census, axes)
    names = {text.get_text(): text.xy[0] for text in axes.texts if text.get_text() != "rank"}
    for rank in range(4):
        lowest = min(p.value for p in census.points if p.rank == rank)
        assert names.pop(str(rank)) == lowest - census.minimum.value
    assert not names


def test_marks_tell_kinds_apart_without_colour(census):
    assert len({look["marker"] for look in drawn.LOOKS.values()}) == len(drawn.LOOKS)
    saddles = {"ladder saddle", "partition saddle", "other saddle"}
    for kind, look in drawn.LOOKS.items():
        assert (look.get("markerfacecolor") == "none") == (kind in saddles)
    first, last = census.points[0], census.points[-1]
    assert drawn.kind_of(first) == "global minimum"
    assert drawn.kind_of(last) == "ladder saddle"  # the origin
    for verdict, hits, kind in (
        (Verdict.LOCAL_MINIMUM, {"ladder": 1}, "other minimum"),
        (Verdict.MINIMUM_ON_CONVEX_REGION, {}, "other minimum"),
        (Verdict.UNDECIDED, {"ladder": 1}, "undecided"),
        (Verdict.STRICT_SADDLE, {"noise": 1, "partition": 1}, "partition saddle"),
        (Verdict.STRICT_SADDLE, {"noise": 1, "descent": 2}, "other saddle"),
    ):
        assert drawn.kind_of(dataclasses.replace(last, verdict=verdict, hits=hits)) == kind


@pytest.mark.parametrize("horizontal", [False, True])
def test_names_of_close_lines_do_not_overlap(horizontal, axes):
    lines = [Line(f"rank {i}", 0.5 + 1e-3 * i) for i in range(8)]
    draw_lines(axes, lines, horizontal=horizontal)
    axes.get_figure().draw_without_rendering()
    # Without the leaders, which belong to the extent of an annotation.
    boxes = list(map(Text.get_window_extent, axes.texts))
    side = "y" if horizontal else "x"
    boxes.sort(key=lambda box: getattr(box, f"{side}0"))
    for first, second in itertools.pairwise(boxes):
        assert getattr(first, f"{side}1") <= getattr(second, f"{side}0") + 1e-6
    frame = axes.get_window_extent()
    assert all(box.x0 > frame.x1 if horizontal else box.y0 > frame.y1 for box in boxes)


# λ_min -------------------------------------------------------------------------------------------


def test_the_curves_are_eigenvalues_of_the_pair():
    """[[λ_W, σ], [σ, λ_H]] is ∇²f on (u aᵀ, −a vᵀ), by LAPACK; the escape is one vector of it."""
    one = problem()
    lam_w, lam_h = float(one.lam_w), float(one.lam_h)
    sigma = float(one.mu()) * np.array([1.001, 1.5, 4.0, 30.0])
    escape = np.array([-((lam_h / lam_w) ** 0.25), (lam_w / lam_h) ** 0.25])
    for s, least, curvature in zip(
        sigma,
        drawn.outside_curvature(one, sigma),
        drawn.escape_curvature(one, sigma),
        strict=True,
    ):
        form = np.array([[lam_w, s], [s, lam_h]])
        assert least == pytest.approx(np.linalg.eigvalsh(form)[0], rel=1e-12)
        assert curvature == pytest.approx(escape @ form @ escape / (escape @ escape), rel=1e-10)
        assert least < curvature < 0
    equal = dataclasses.replace(one, lam_w=5e-3, lam_h=5e-3)
    np.testing.assert_allclose(
        drawn.outside_curvature(equal, sigma), drawn.escape_curvature(equal, sigma), rtol=1e-10
    )


def test_least_curvatures_lie_on_the_curve_or_below(census, axes):
    drawn.plot_least_curvature([census], axes)
    saddles = [point for point in census.points if point.index]
    expected = [[point.dual_ratio - 1.0, -point.smallest] for point in saddles]
    np.testing.assert_array_equal(ordered(marks(axes)), ordered(expected))
    curves = {line.get_label(): line for line in axes.lines if line.get_linestyle() != "None"}
    assert set(curves) == {r"$\lambda(\sigma)$", "escape"}  # the decays differ
    x, y = curves[r"$\lambda(\sigma)$"].get_data()
    lam_w, lam_h = float(census.problem.lam_w), float(census.problem.lam_h)
    mu = np.sqrt(lam_w * lam_h)
    least = [np.linalg.eigvalsh([[lam_w, mu * (1 + t)], [mu * (1 + t), lam_h]])[0] for t in x]
    np.testing.assert_allclose(y, -np.array(least), rtol=1e-9)
    axes.clear()
    plot_curvature_ratio([census], axes)
    ratio = marks(axes)[:, 1]
    assert len(ratio) == len(saddles)
    assert np.all(ratio > 1 - 1e-9)
    low, high = axes.get_ylim()
    assert low < ratio.min() <= ratio.max() < high


# The graph ---------------------------------------------------------------------------------------


def test_parallel_descents_are_one_edge():
    ways = [
        Descent(3, 1, 1, False),
        Descent(3, 1, -1, False),
        Descent(3, 3, 1, True),
        Descent(2, 1, 1, True),
    ]
    assert sorted(edges(ways)) == [(2, 1, 1), (3, 1, 2)]


def test_the_graph_joins_ranks_and_values(census, axes):
    plot_graph(census, axes)
    lines, *nodes = axes.collections[0], *axes.collections[1:]
    places = np.concatenate([np.asarray(each.get_offsets()) for each in nodes])
    expected = {
        value: point.rank for value, point in zip(height(census), census.points, strict=True)
    }
    assert len(places) == len(expected)
    for x, y in places:
        assert round(x) == expected[y]
    ends = np.array(lines.get_segments())
    ways = edges(census.descents)
    assert len(ends) == len(ways)
    assert np.all(ends[:, 0, 1] > ends[:, 1, 1])  # down
    for (source, target), way in zip(ends, ways, strict=True):
        assert source[1] == height(census)[way.source]
        assert target[1] == height(census)[way.target]
        assert [*source] in places.tolist()
        assert [*target] in places.tolist()
    stars = [each for each in nodes if len(each.get_offsets()) and _is_star(each)]
    assert len(stars) == 1
    assert stars[0].get_offsets()[0, 1] == height(census)[0]


def _is_star(collection) -> bool:
    return np.allclose(collection.get_facecolors()[0], to_rgba("black"))


def test_nodes_that_would_overlap_stand_side_by_side():
    ranks = np.array([1, 1, 1, 2, 2, 2])
    at = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 50.0])
    shift = offsets(ranks, at)
    assert shift[5] == 0.0
    assert shift[3] == -shift[4] < 0
    assert len(set(shift[:3])) == 3
    assert np.max(np.abs(shift)) < 0.5


# Flows -------------------------------------------------------------------------------------------


def test_plateaus_are_marked_but_not_those_of_rounding(census, axes):
    assert FLOW.plateaus == (1, 3, 6)
    assert lingering(FLOW) == [1, 3]
    plot_flow(census, FLOW, axes)
    above = FLOW.value - census.minimum.value
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), above)
    np.testing.assert_array_equal(marks(axes), np.column_stack([TIME, above])[[1, 3]])
    names = {text.get_text(): text.xy[1] for text in axes.texts}
    assert names == {
        f"rank {rank}": value - census.minimum.value for rank, value in census.ladder.items()
    }
    begin, end = axes.get_xlim()
    assert begin <= TIME[1]
    assert TIME[6] < end <= TIME[-1]
    axes.clear()
    plot_flow_gradient(FLOW, axes)
    # The flow has arrived at the seventh moment: beyond there is the integrator's error.
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [*FLOW.grad_norm[:7], np.nan, np.nan])
    (arrived,) = axes.patches
    assert arrived.get_x() == TIME[6]
    assert list(flow_table("CE", FLOW)["plateau"]) == [0, 1, 0, 1, 0, 0, 0, 0, 0]


# Files -------------------------------------------------------------------------------------------


def test_files_of_a_census(census):
    files = dict(landscape_files([census], [FLOW]))
    names = ("index", "curvature", "connections", "flow")
    assert set(files) == names_of(*names)
    table = list(csv.DictReader(io.StringIO(files["index.csv"].decode())))
    np.testing.assert_array_equal(
        [float(row["smallest"]) for row in table], [point.smallest for point in census.points]
    )
    ways = list(csv.DictReader(io.StringIO(files["connections.csv"].decode())))
    assert sum(int(row["descents"]) for row in ways) == sum(
        d.source != d.target for d in census.descents
    )
    assert set(dict(landscape_files([census, census, census]))) == names_of(*names[:3])


def test_flows_side_by_side_share_one_ordinate(census):
    # The second has no saddle as low as the first's, so that its own axis would end elsewhere.
    high = [x for x in census.points if x.value - census.points[0].value > 0.1] + [census.points[0]]
    other = dataclasses.replace(census, points=tuple(sorted(high, key=lambda x: x.value)))
    assert len(other.points) < len(census.points)
    figure, _ = flow_page([(census, FLOW), (other, FLOW)])
    left, right = figure.axes[:2]
    assert left.get_ylim() == right.get_ylim()
    at = np.array([0.0, 1e-3, 0.1, 1.0])
    np.testing.assert_allclose(
        *(axes.yaxis.get_transform().transform(at) for axes in (left, right))
    )


def test_a_minimum_alone_can_be_drawn(census):
    """As above the collapse threshold, where nothing but the origin is left."""
    alone = dataclasses.replace(census, points=census.points[:1], descents=())
    files = dict(landscape_files([alone], [FLOW]))
    assert set(files) == names_of("index", "curvature", "connections", "flow")
    assert landscape_table([alone]).count("--") == 2  # no saddle has an index


def test_tables_say_what_the_census_says(census, tmp_path):
    table = landscape_table([census])
    row = next(line for line in table.splitlines() if line.startswith("CE & "))
    cells = row.removesuffix(r" \\").split(" & ")
    saddles = [point for point in census.points if point.index]
    assert cells[:3] == ["CE", str(len(census.points)), "0--3"]
    assert cells[3] == f"{min(p.index for p in saddles)}--18"  # 3 in each of 6 dimensions
    assert cells[4:6] == [str(len(saddles)), "1"]
    assert table.count("&") == 2 * 7
    compile_table(table, tmp_path)
