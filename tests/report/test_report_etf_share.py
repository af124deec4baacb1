"""The share of runs that end at the simplex ETF, from rows of a sweep with hidden layers."""

import numpy as np
import pytest
from figures import names_of

from ufm.report.sweep.etf_share import share_files, share_page, shares
from ufm.sweep import load_sweep

SWEEP = """
loss = ["ce"]
[problem]
num_classes = 6
per_class = 5
dim = [6, 16, 40]
lam_w = [1e-3, 1e-2]
lam_h = "lam_w"
lam_hidden = ["lam_w"]
lam_b = "none"
[start]
count = 4
"""


def table_of(tmp_path, text=SWEEP):
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    cells = load_sweep(path).cells
    rows = [
        {
            "cell": c.index,
            **c.spec.row(),
            "start_scale": c.scale,
            "max_steps": 1,
            "method": "newton",
        }
        for c in cells
    ]
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return table | {"threshold": np.full(len(rows), np.nan)}


def test_shares_are_those_of_the_rows_with_nc2_of_zero(tmp_path):
    table = table_of(tmp_path)
    ends = np.random.default_rng(0).integers(0, 2, len(table["cell"]))
    table["nc2"] = np.where(ends, 1e-9, 0.4)
    (found,) = shares(table)
    assert found.label == "CE"
    for x, y, share in zip(found.found.x, found.found.y, found.found.value, strict=True):
        here = (table["lam_w"] == x) & (table["dim"] == y)
        assert share == np.mean(ends[here])
    # e = λ n^{1/3} at the limit of K = 6 and three factors.
    assert found.limit == pytest.approx(0.1016962906 / 5 ** (1 / 3), rel=1e-8)
    figure, (data,) = share_page([found])
    assert data["dim"].tolist() == found.found.y.tolist()
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [found.limit]
    assert {name for name, _ in share_files([found])} == names_of("etf-share")


def test_other_sweeps_have_no_shares(tmp_path):
    table = table_of(tmp_path, SWEEP.replace('lam_hidden = ["lam_w"]\n', ""))
    assert shares(table | {"nc2": np.zeros(len(table["cell"]))}) == []
    one = table_of(tmp_path, SWEEP.replace("[6, 16, 40]", "6"))
    assert shares(one | {"nc2": np.zeros(len(one["cell"]))}) == []  # one field varies
    fixed = table_of(tmp_path, SWEEP.replace('["lam_w"]', "[5e-3]"))
    (found,) = shares(fixed | {"nc2": np.zeros(len(fixed["cell"]))})
    assert np.isnan(found.limit)  # a fixed decay does not move with λ_W


def test_the_decay_of_a_hidden_layer_is_tied(tmp_path):
    table = table_of(tmp_path)
    assert {float(x.strip("[]")) for x in table["lam_hidden"]} == {1e-3, 1e-2}
    np.testing.assert_array_equal(
        [float(x.strip("[]")) for x in table["lam_hidden"]], table["lam_w"]
    )
