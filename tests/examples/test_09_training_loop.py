"""The training loop, in quick mode: what it prints is what it claims."""

import csv
import re

from example_runs import run_example


def test_the_network_collapses_and_the_table_says_so(tmp_path, monkeypatch, capsys):
    run_example("09_training_loop", monkeypatch, "--out", str(tmp_path))
    printed = capsys.readouterr().out
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{k: float(x) for k, x in row.items()} for row in csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == list(range(2, 21, 2))
    assert all(row["num_samples"] == 640 for row in rows)
    assert len(re.findall(r"^epoch \d+: nc0 ", printed, re.MULTILINE)) == len(rows)
    first, last = rows[0], rows[-1]
    for name in ("nc0", "nc1", "nc4", "within_between_ratio", "mean_norm_spread"):
        assert last[name] < first[name], name
    # Nine directions of ten classes, and cosines of −1/9.
    assert abs(last["cosine_mean"] + 1 / 9) < abs(first["cosine_mean"] + 1 / 9)
    # At the end of the schedule the weights hardly move: the callback sees the same features.
    on_its_way = float(re.search(r"on its way: nc1 (\S+)", printed)[1])
    assert abs(on_its_way - last["nc1"]) < 0.01 * last["nc1"]
