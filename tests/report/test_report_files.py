"""Files of a run for a paper: which there are, that they are whole, and the LaTeX table."""

import ast
import csv
import dataclasses
import io
import itertools
import math
import re
from pathlib import Path

import jax
import matplotlib as mpl
import numpy as np
import pytest
from figures import check_print, names_of
from points import BALANCED, make
from tex import compile_table, rows_of

import ufm
from ufm import MSE, CrossEntropy, LabelSmoothing, init_params, verify
from ufm.losses import parse_loss
from ufm.report import LossRecord, figure_files, style
from ufm.report._table import to_csv
from ufm.report.runs.folder import PAGES
from ufm.report.runs.latex import latex_table
from ufm.runs.loss_summary import Summary, summarise
from ufm.runs.trajectory import trajectory

NAMES = ("convergence", "collapse", "gram", "angles", "singular-values", "features")


def path_of(problem):
    start = jax.tree.map(lambda x: x[0], init_params(problem, jax.random.key(0), num_starts=1))
    return trajectory(problem, start)


def record(loss) -> LossRecord:
    problem = make(loss, BALANCED, 1e-2, dim=4)
    runs = verify(problem, jax.random.key(0), 2)
    return LossRecord(problem, runs.minimum, runs.history, path_of(problem))


@pytest.fixture(scope="module")
def records():
    return [record(CrossEntropy()), record(MSE())]


@pytest.fixture(scope="module")
def files(records):
    return dict(figure_files(records))


def rows(files, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[f"{name}.csv"].decode())))


def test_every_figure_comes_in_three_formats_with_its_data_and_its_caption(files):
    assert set(files) == names_of(*NAMES)
    for name in NAMES:
        png = files[f"{name}.png"]
        assert png.startswith(b"\x89PNG")
        width, density = (int.from_bytes(png[i : i + 4]) for i in (16, png.index(b"pHYs") + 4))
        assert (width, round(density * 0.0254)) == (3.3 * 300, 300)
        assert files[f"{name}.svg"].startswith(b"<?xml")
        assert b"<text" not in files[f"{name}.svg"]  # outlines: no reader lacks a font
        assert files[f"{name}.pdf"].startswith(b"%PDF")
        assert b"/FontFile2" in files[f"{name}.pdf"]  # TrueType, which publishers ask for
        assert {row["loss"] for row in rows(files, name)} == {"CE", "MSE"}


def test_the_data_are_those_of_the_records(records, files):
    for each in records:
        path = each.path
        collapse = [row for row in rows(files, "collapse") if row["loss"] == each.label]
        for name in ("nc1", "nc2", "nc3"):
            shown = np.array([float(row[name]) for row in collapse])
            np.testing.assert_array_equal(shown, getattr(path.metrics, name))
        features = [row for row in rows(files, "features") if row["loss"] == each.label]
        steps = [int(row["step"]) for row in features]
        assert set(steps) <= set(np.asarray(path.step).tolist())
        # Six features, three means and three rows of W in each of four panels.
        assert len(features) == 4 * (6 + 3 + 3)
        assert "z" not in features[0]


def test_every_figure_is_fit_for_print_and_drawn_again_shows_the_same(records, files):
    with style():
        for name, page in PAGES.items():
            figure, tables = page(records)
            check_print(figure)
            assert to_csv(tables).encode() == files[f"{name}.csv"]


def test_the_same_run_gives_the_same_bytes_and_leaves_the_style_alone(records, files, full):
    before, again = dict(mpl.rcParams), {}
    # Without --full the first two figures, of lines and of panels: all are written by one function.
    count = len(files) if full else 2 * len(files) // len(NAMES)
    for name, content in itertools.islice(figure_files(records), count):
        again[name] = content
        assert dict(mpl.rcParams) == before, name
    assert again == {name: files[name] for name in list(files)[:count]}


def test_four_classes_are_seen_in_space(records):
    problem = make(CrossEntropy(), (2,) * 4, 1e-2, dim=4)
    # Only the path is drawn: what other pages show may be that of three classes.
    four = dataclasses.replace(records[0], problem=problem, path=path_of(problem))
    with style():
        figure, tables = PAGES["features"]([four])
        figure.draw_without_rendering()
    assert {"x", "y", "z"} <= set(csv.DictReader(io.StringIO(to_csv(tables))).fieldnames or ())


# The table -----------------------------------------------------------------------------------

ROW = Summary("LS(α=0.1)", "simplex ETF", 19, 20, 3.34e-10, 0.0, 1.4e-20, 1.25, math.nan, 2.5)


def test_latex_has_one_row_for_each_loss():
    problem = make(LabelSmoothing(0.1), BALANCED, 1e-2)
    other = dataclasses.replace(ROW, label="MSE(κ=5, M=1e-05)", minimum="unknown")
    lines = latex_table(problem, [ROW, other]).splitlines()
    assert lines[0].startswith("% K=3, d=4, n=2, lambda_W=0.02, lambda_H=0.005, lambda_b=0.01.")
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    numbers = r"19/20 & $3.3\times10^{-10}$ & $0$ & $1.4\times10^{-20}$ & $1.2$ & -- \\"
    assert body == [
        rf"LS ($\alpha=0.1$) & simplex ETF & {numbers}",
        rf"MSE ($\kappa=5, M=1\times10^{{-5}}$) & unknown & {numbers}",
    ]
    columns = lines[lines.index(r"\toprule") + 1].count("&")
    assert all(row.count("&") == columns == 7 for row in body)
    assert lines[2] == r"\begin{tabular}{llcrrrrr}"


#: One of each family that has a hyperparameter, or a dash in its name.
SPECS = (
    *("fl:2", "mse:5,15", "poly:2", "gce:0.7", "sce:0.1,1,-4", "taylor:5", "temperature:0.5"),
    *("cs:1", "ww:1", "bitempered:0.8,1.2", "logitnorm:0.4"),
)


def test_every_loss_has_a_name_that_latex_reads(tmp_path):
    summaries = [dataclasses.replace(ROW, label=parse_loss(spec).label()) for spec in SPECS]
    table = latex_table(make(CrossEntropy()), summaries)
    assert "".join(row[0] for row in rows_of(table)).isascii()
    assert r"BiTempered ($t_1=0.8, t_2=1.2$)" in table
    compile_table(table, tmp_path)


def test_tables_and_captions_need_no_package_but_booktabs(tmp_path):
    """Each command in a text of the reports, docstrings and regular expressions apart."""
    commands = set()
    for path in Path(ufm.__file__).parent.glob("report/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                commands |= set(re.findall(r"\\([A-Za-z]+)", node.value))
    assert {"lambda", "toprule"} <= commands
    commands -= {"num", "g", "w"}
    known = (rf"\ifdefined\{name}\else\errmessage{{{name}}}\fi" for name in sorted(commands))
    compile_table("\n".join(known), tmp_path)


def test_a_summary_is_the_worst_run_and_never_hides_a_missing_number():
    runs = [
        {"value": 1.5, "gap": 1e-9, "nc1": 0.1, "nc2": 0.5, "nc3": None},
        {"value": 0.75, "gap": 3e-9, "nc1": 0.3, "nc2": 0.25, "nc3": 1.0},
    ]
    minimum = {"value": 1.0, "is_exact": True, "kind": "simplex ETF"}
    result = {
        "label": "CE",
        "minimum": minimum,
        "verdicts": {"GLOBAL_MINIMUM": 1, "UNDECIDED": 1},
        "starts": 2,
        "seconds": 3.0,
        "runs": runs,
    }
    found = summarise(result)
    assert dataclasses.astuple(found)[:8] == ("CE", "simplex ETF", 1, 2, 3e-9, 0.5, 0.3, 0.5)
    assert math.isnan(found.nc3)
    unbounded = {**result, "runs": [{**runs[0], "gap": math.inf}, runs[1]]}
    assert math.isnan(summarise(unbounded).max_gap)  # no number of a table, nor of JSON
    assert found.seconds == 3.0
    assert math.isnan(summarise({**result, "minimum": {**minimum, "is_exact": False}}).distance)
