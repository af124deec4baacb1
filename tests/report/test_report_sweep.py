"""The page of a sweep: what its diagrams show, and that it needs nothing but itself."""

import html
import html.parser
import json
import math
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree

import jax
import numpy as np
import pytest
from figures import names_of
from matplotlib.figure import Figure
from tex import compile_table

from sweeps import SIZES, loaded
from ufm.cli import main
from ufm.report import diagram, plot_phase, render_sweep
from ufm.report._svg import inline
from ufm.report.phase.diagram import QUANTITIES, VERDICTS
from ufm.report.phase.view import limits
from ufm.report.sweep.runs import same_problem
from ufm.sweep import open_store, run_sweep
from ufm.sweep.problems.columns import COLUMNS

GRID = f"""
title = "A <b>bold</b> title & more"
loss = ["ce"]
[problem]
{SIZES}
lam_w = {{ from = 1e-3, to = 1.0, num = 4, spacing = "log" }}
lam_h = {{ from = 1e-3, to = 1.0, num = 3, spacing = "log" }}
[start]
count = 2
"""
#: Where CE collapses, 1/(K√n), and LS, (1 − α)/(K√n).
THRESHOLD = 1 / (4 * math.sqrt(5))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    run_sweep(loaded(folder, GRID), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def page(out):
    with jax.numpy_dtype_promotion("standard"):
        return render_sweep(open_store(out))


def swept(folder, text: str) -> dict[str, np.ndarray]:
    run_sweep(loaded(folder, text), folder / "out")
    return open_store(folder / "out").table()


# Diagrams ------------------------------------------------------------------------------------


def test_a_diagram_shows_the_worst_run_of_every_problem(out):
    table = open_store(out).table()
    found = diagram(table, "gap")
    plane = found.plane
    assert (plane.x.name, plane.y.name) == ("lam_w", "lam_h")
    assert (plane.tied, plane.along, plane.others) == (False, (), ())
    assert len(found.value) == 12
    for x, y, value in zip(found.x, found.y, found.value, strict=True):
        runs = (table["lam_w"] == x) & (table["lam_h"] == y)
        assert runs.sum() == 2
        # What is no more than the largest rounding of any gap is drawn at that.
        assert value == max(table["gap"][runs].max(), 2 * table["rounding"].max())
    sizes = diagram(table, "rho").value  # of which the mean is shown
    np.testing.assert_array_equal(sizes, table["rho"].reshape(4, 3, 2).mean(axis=2).ravel())


def test_the_curve_is_where_the_product_of_decays_is_the_threshold_squared(out):
    found = diagram(open_store(out).table(), "rho")
    np.testing.assert_allclose(found.curve.prod(axis=1), THRESHOLD**2, rtol=1e-12)
    # Beyond it ρ is 0, and below it log((1 − (K−1)μ√n)/(μ√n)).
    rate = np.sqrt(found.x * found.y * 5)
    expected = np.where(
        rate * 4 >= 1, 0.0, np.log(np.maximum(1 - 3 * rate, 1e-9) / np.minimum(rate, 1))
    )
    np.testing.assert_allclose(found.value, expected, atol=1e-6)


def test_the_origin_has_no_geometry(out):
    found = diagram(open_store(out).table(), "nc2")
    np.testing.assert_array_equal(np.isnan(found.value), np.sqrt(found.x * found.y) >= THRESHOLD)


def test_a_curve_over_alpha_where_the_decays_are_tied(tmp_path):
    text = f"""
    loss = [{{ name = "ls", alpha = [0.0, 0.2, 0.4] }}]
    [problem]
    {SIZES}
    lam_w = {{ from = 1e-2, to = 1.0, num = 3, spacing = "log" }}
    lam_h = "lam_w"
    """.replace("\n    ", "\n")
    found = diagram(swept(tmp_path, text), "verdict")
    plane = found.plane
    assert (plane.x.name, plane.y.name, plane.tied, plane.along) == ("lam_w", "alpha", True, ())
    np.testing.assert_allclose(found.curve[:, 0], (1 - found.curve[:, 1]) * THRESHOLD, rtol=1e-9)
    assert found.curve[[0, -1], 1].tolist() == [0.0, 0.4]
    assert set(found.value) == {0}


def test_one_field_is_a_line_with_the_threshold_across(tmp_path):
    text = f"""
    loss = ["ce"]
    [problem]
    {SIZES}
    lam_w = {{ from = 0.01, to = 1.0, num = 5, spacing = "log" }}
    lam_h = 0.25
    """.replace("\n    ", "\n")
    found = diagram(swept(tmp_path, text), "norm_w")
    assert found.plane.y is None
    np.testing.assert_allclose(found.curve[0, 0], THRESHOLD**2 / 0.25, rtol=1e-12)
    axes = plot_phase(found, Figure().subplots())
    line, _, threshold = axes.lines  # between them those at places with names: none
    np.testing.assert_array_equal(line.get_xdata(), np.unique(found.x))
    np.testing.assert_allclose(threshold.get_xdata(), found.curve[0, 0])


def test_unequal_classes_and_no_decay_have_a_page_too(tmp_path):
    """Without a threshold there is no curve, and without a decay nothing is proved."""
    text = """
    loss = ["ce"]
    [problem]
    class_counts = [[4, 2, 1], [2, 4, 1]]
    dim = 4
    lam_w = [0.0, 0.02]
    lam_h = "lam_w"
    lam_b = "none"
    [solver]
    max_steps = 30
    [keep]
    spectrum = true
    """.replace("\n    ", "\n")
    table = swept(tmp_path, text)
    assert table["verdict"].tolist()[1::2] == ["GLOBAL_MINIMUM"] * 2
    assert "GLOBAL_MINIMUM" not in table["verdict"].tolist()[::2]
    assert np.isnan(table["threshold"]).all()
    found = diagram(table, "verdict")
    assert found.curve.size == 0
    assert found.plane.y.name == "class_counts"
    assert found.plane.y.named == ((0.0, "4,2,1"), (1.0, "2,4,1"))
    with jax.numpy_dtype_promotion("standard"):
        page = render_sweep(open_store(tmp_path / "out"))
    assert "theory:" not in page
    assert "2,4,1" in page
    assert "The geometry of 2 runs could not be checked" in page
    assert 'ufm store query "matches IS NULL" --store' in page
    assert ", no bias; 1 run, cell 0" in page
    assert "2 of 2 checked" in page


def test_where_nothing_varies_there_is_no_diagram(out):
    table = open_store(out).table("lam_w = 1e-3 AND lam_h = 1e-3")
    assert len(table["cell"]) == 2
    assert diagram(table, "gap") is None


def test_what_is_drawn_is_what_was_found(out):
    found = diagram(open_store(out).table(), "rho")
    axes = plot_phase(found, Figure().subplots(), limits([found]))
    mesh = axes.collections[0]
    np.testing.assert_array_equal(mesh.get_array(), found.value.reshape(4, 3).T)
    # Cells contain their values; the axes are logarithmic.
    (low_x, low_y), (high_x, high_y) = mesh.get_coordinates()[0, 0], mesh.get_coordinates()[-1, -1]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    np.testing.assert_allclose([low_x, high_x], [10**-3.5, 10**0.5])
    np.testing.assert_allclose([low_y, high_y], [10**-3.75, 10**0.75])


def test_every_verdict_has_a_colour_of_its_own():
    from ufm import Verdict

    assert set(VERDICTS) == set(Verdict)
    assert len({colour for _, colour in VERDICTS.values()}) == len(Verdict)


# The page ------------------------------------------------------------------------------------


class Outline(html.parser.HTMLParser):
    """Tags that open and close in order, and every address."""

    VOID = ("meta", "br", "path", "use", "image", "rect")

    def __init__(self):
        super().__init__()
        self.stack, self.addresses, self.ids, self.headings, self.data = [], [], [], [], ""
        self.scopes, self.images = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.stack.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "action", "srcset"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)
        if tag == "th":
            self.scopes.append(dict(attrs).get("scope"))
        if tag == "svg":
            self.images.append(dict(attrs).get("aria-label"))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        self.data += data
        if self.stack and self.stack[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def outline(page):
    found = Outline()
    found.feed(page)
    assert found.stack == []
    return found


def test_the_page_is_whole_and_needs_no_network(page, outline):
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert "@import" not in page
    assert all(re.match(r"#|data:image/png;base64,", address) for address in outline.addresses)
    assert len(outline.ids) == len(set(outline.ids))
    referenced = {a[1:] for a in outline.addresses if a.startswith("#")}
    referenced |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert referenced == set(outline.ids)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_page_says_what_was_found(page, outline):
    assert "The claim holds in all 24 runs" in outline.data
    assert outline.headings[0] == "A <b>bold</b> title & more"  # escaped on the way
    drawn = [each for each in QUANTITIES.values() if each.column in COLUMNS]
    for quantity in drawn:
        assert quantity.title in outline.headings
    assert page.count("<svg") == len(drawn) + 3
    assert "theory:" in outline.data
    for name in ("jax", "numpy", "processor", "commit", '"lam_w"'):
        assert name in outline.data


def test_headings_have_a_scope_and_images_say_their_result(outline, out):
    assert set(outline.scopes) == {"col", "row"}
    said = dict(each.split(": ", 1) for each in outline.images)
    assert said["Verdict"] == "Cross-entropy: global minimum at 12 of 12 points"
    norms = open_store(out).table("kind <> 'origin'")["norm_w"]
    low, high = (f"{x:.2g}" for x in (norms.min(), norms.max()))
    assert said["Norm of the classifier"].startswith(f"Cross-entropy: {low} to {high} over 12")


def test_the_same_results_make_the_same_page(page, out):
    with jax.numpy_dtype_promotion("standard"):
        assert render_sweep(open_store(out)) == page


def test_the_cells_that_fell_short_are_listed(tmp_path, capsys):
    out = tmp_path / "my out"
    text = GRID.replace("num = 4", "num = 2").replace("num = 3", "num = 2")
    text += "[solver]\nmax_steps = 2\n"
    run_sweep(loaded(tmp_path, text), out)
    with jax.numpy_dtype_promotion("standard"):
        assert main(["report", str(out), "--figures", "--out", str(tmp_path / "p.html")]) == 0
    assert names_of("collapse-threshold") <= {path.name for path in tmp_path.iterdir()}
    compile_table((tmp_path / "table.tex").read_text(), tmp_path)
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    store = open_store(out)
    short = store.query("verdict != 'GLOBAL_MINIMUM' OR matches = 0")
    assert 0 < len(short) <= 8
    assert f"{len(short)} of 8 runs are not proven global minima" in page
    listed = re.findall(r"<tr><th scope=\"row\">(\d+)</th><td class=\"text\">ce</td>", page)
    assert list(map(int, listed)) == [cell["cell"] for cell in short]
    assert "The claim holds" not in page
    assert 'class="claim short"' in page
    # The command on the page finds the same cells.
    (command,) = re.findall(r"<pre class=\"command\">(.*?)</pre>", page)
    arguments = shlex.split(html.unescape(command))
    assert arguments[0] == "ufm"
    capsys.readouterr()
    assert main([*arguments[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [cell["cell"] for cell in told] == [cell["cell"] for cell in short]


def test_an_empty_store_is_refused_in_one_line(tmp_path, capsys):
    run_sweep(loaded(tmp_path, GRID), tmp_path / "out", should_stop=lambda: True)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "out")])
    assert "has no finished cell yet" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.html").exists()


def test_svg_is_given_ids_of_its_own():
    svg = (
        '<?xml version="1.0"?>\n<svg width="1pt" viewBox="0 0 9 9"><metadata>x</metadata>'
        '<g id="axes_1"><clipPath id="p1"/><path clip-path="url(#p1)"/></g></svg>'
    )
    said = r'what "it" <shows> & \1'
    found = inline(svg, 'gap-my "own" loss&', said)
    assert 'id="gap-my-own-loss--p1"' in found
    assert "url(#gap-my-own-loss--p1)" in found
    assert "axes_1" not in found
    assert "metadata" not in found
    assert found.startswith("<svg ")
    element = xml.etree.ElementTree.fromstring(found)
    assert element.get("aria-label") == said


def test_runs_without_bias_are_no_problem_of_those_with_one():
    nan = math.nan
    cells = {
        "family": np.array(["ce"] * 5),
        "class_counts": np.array(["5 5"] * 5),
        "dim": np.array([3] * 5),
        "lam_w": np.full(5, 0.1),
        "lam_h": np.full(5, 0.1),
        "lam_b": np.array([nan, 0.0, nan, 0.01, 0.0]),
    }
    for position, same in ((0, [0, 2]), (1, [1, 4]), (2, [0, 2]), (3, [3])):
        assert np.flatnonzero(same_problem(cells, position)).tolist() == same


def test_neither_sweeping_nor_querying_imports_matplotlib():
    code = "import sys, ufm.sweep\nassert not {'matplotlib', 'jinja2'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)
