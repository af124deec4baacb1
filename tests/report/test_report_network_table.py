"""table.tex of trained networks: the numbers of its rows, and LaTeX that compiles."""

import math

from tex import compile_table, rows_of

from ufm.report.networks.table import network_table

ROW = {
    "loss": "ls:0.05",
    "settings": {"width": 64.0, "depth": 2, "batch_size": None},
    "learning_rate": 0.003,
    "train_accuracy": 100.0,
    "test_accuracy": 97.126,
    "test_deviation": 0.25,
    "nc": (0.0123, 0.4, 3.3e-10),
    "dual_ratio": 1.5,
    "shape_distance": math.nan,
}


def test_a_row_has_its_numbers_and_settings_that_differ(tmp_path):
    other = ROW | {"loss": "ce", "settings": ROW["settings"] | {"width": 128.0}}
    table = network_table([ROW, other | {"test_deviation": math.nan}], ["Digits"])
    first, second = rows_of(table)
    assert first[:5] == ["64", r"LS ($\alpha=0.05$)", "0.003", "100.00", r"97.13 $\pm$ 0.25"]
    assert second[:5] == ["128", "CE", "0.003", "100.00", "97.13"]
    assert [float(x.split("$")[1].split("\\")[0]) for x in first[5:8]] == [1.2, 4.0, 3.3]
    assert "10^{-10}" in first[7]
    assert first[9] == "--"
    assert "% Digits" in table
    compile_table(table, tmp_path)
