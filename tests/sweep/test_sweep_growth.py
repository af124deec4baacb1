"""A sweep whose file has grown: stored cells keep their numbers and bits, and nothing is mixed."""

import contextlib
import dataclasses
import json
import re
import sqlite3
from pathlib import Path

import jax
import numpy as np
import pytest
from network_sweeps import SMALL
from network_sweeps import loaded as loaded_networks

from sweeps import TINY, go_on, loaded
from ufm import init_params, parse_loss, solve
from ufm.model.problem import Problem
from ufm.networks.sweeps.summary import cells_of
from ufm.sweep import COLUMNS, open_store, parse_shard, run_sweep
from ufm.sweep.growth import continued
from ufm.sweep.writer import make_store

#: A value more in the middle of a range, and one before another: cells have other places in it.
GROWN = TINY.replace("[1e-3, 0.5]", "[1e-3, 2e-2, 0.5]").replace("[1e-2, 0", "[1e-4, 1e-2, 0")
SETTINGS = ("loss", "lam_w", "lam_h", "seed", "start")


def settings_of(cells) -> list[tuple]:
    return [tuple(cell.settings()[name] for name in SETTINGS) for cell in cells]


def test_stored_cells_are_kept_to_the_bit_and_new_ones_follow(copy, tmp_path):
    sweep, out = copy
    before, files = open_store(out).table(), {x: x.read_bytes() for x in out.rglob("*.npz")}
    grown = loaded(tmp_path, GROWN)
    computed, notes = go_on(grown, out)
    assert computed == list(range(8, 18))
    assert notes == ["the file has changed: 8 cells are kept, 10 are new"]
    table = open_store(out).table()
    assert table["cell"].tolist() == list(range(18))
    for name in COLUMNS:
        np.testing.assert_array_equal(table[name][:8], before[name], err_msg=name)
    assert {x: x.read_bytes() for x in files} == files
    # Every row says the settings of one cell of the file, and every cell has one row.
    rows = list(zip(*(table[name].tolist() for name in SETTINGS), strict=True))
    assert sorted(rows) == sorted(settings_of(grown.cells))
    assert rows[:8] == settings_of(sweep.cells)


def test_a_new_cell_is_the_run_that_its_row_and_number_say(copy, tmp_path):
    """Its start is fold_in(key(seed), i), i its number in the folder."""
    _, out = copy
    run_sweep(loaded(tmp_path, TINY.replace("[1e-3, 0.5]", "[1e-2, 1e-3, 0.5]")), out)
    (row,) = open_store(out).query("cell = 9")
    problem = Problem(parse_loss("ce"), (5,) * 4, 6, row["lam_w"], row["lam_h"], row["lam_b"])
    start = init_params(problem, jax.random.fold_in(jax.random.key(0), 9), 0.1)
    assert row["lam_w"] == 1e-2
    assert float(solve(problem, start).value) == pytest.approx(row["value"], rel=1e-14)


def test_it_grows_again_is_interrupted_and_goes_on(copy, tmp_path):
    _, out = copy
    once = loaded(tmp_path, TINY.replace("count = 2", "count = 3"))
    assert go_on(once, out)[0] == list(range(8, 12))
    twice = loaded(tmp_path, GROWN.replace("count = 2", "count = 3"))

    def stop():
        return len(open_store(out).finished()) > 14

    run_sweep(twice, out, batch_seconds=0.0, should_stop=stop)
    finished = open_store(out).finished()
    assert 12 < len(finished) < 27
    computed, notes = go_on(twice, out)
    assert computed == sorted(set(range(27)) - finished)
    assert notes == []
    assert go_on(twice, out) == ([], [])
    # Shards, and an index that was lost, see the same.
    (out / "index.sqlite").unlink()
    assert len(open_store(out).finished()) == 27
    run_sweep(twice, out, shard=parse_shard("1/2"))
    with contextlib.closing(sqlite3.connect(out / "index.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (27,)
    # A folder that had the whole file at once numbers its cells otherwise: its batches are others'.
    assert twice.contents.identity not in open_store(out).contents.identities


def test_the_same_cells_written_otherwise_are_the_same_sweep(copy, tmp_path):
    _, out = copy
    text = TINY.replace("[1e-3, 0.5]", "{ values = [0.5, 0.001] }")
    assert go_on(loaded(tmp_path, text), out)[0] == []
    assert len(open_store(out).finished()) == 8


def refused(sweep, out: Path) -> str:
    """What is said to differ, in short."""
    with pytest.raises(ValueError, match=r"holds another sweep \(") as caught:
        run_sweep(sweep, out)
    said = str(caught.value).removeprefix(f"{out} holds another sweep (")
    assert "\n" not in said
    found = re.fullmatch(
        r"(\d+) of its (\d+) cells are not in the file, such as those with (.*)\): "
        "put them back, or choose another `out`",
        said,
    )
    if found is None:
        return said.removesuffix("): choose another `out`")
    return f"{found[1]} of {found[2]}, {found[3]}"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[1e-3, 0.5]", "[1e-3, 0.25]", "4 of 8, lam_w = 0.5"),
        ("count = 2", "count = 1", "4 of 8, start = 1"),
        ("dim = 6", "dim = 7", "8 of 8, dim = 6"),
        ('["ce"]', '["fl:0"]', "8 of 8, loss = ce"),
        ("count = 2", "count = 2\nseed = 1", "8 of 8, seed = 0"),
        ("count = 2", "count = 3\n[solver]\ntol = 1e-8", "8 of 8, tol = None"),
        ("count = 2", "count = 3\n[certificate]\ngap_tol = 1e-3", "8 of 8, gap_tol = None"),
        ("count = 2", "count = 3\n[keep]\narrays = true", "what it keeps of a run differs"),
    ],
)
def test_a_file_that_lacks_stored_cells_is_refused_with_what_differs(copy, tmp_path, old, new, why):
    _, out = copy
    assert old in TINY
    before = (out / "sweep.json").read_bytes()
    changed = loaded(tmp_path, TINY.replace(old, new, 1))
    assert refused(changed, out) == why
    assert (out / "sweep.json").read_bytes() == before


def test_a_file_that_has_shrunk_again_is_refused(copy, tmp_path):
    sweep, out = copy
    run_sweep(loaded(tmp_path, TINY.replace("count = 2", "count = 3")), out)
    assert refused(sweep, out) == "4 of 12, start = 2"


def test_a_folder_that_never_grew_is_as_it_was(copy):
    _, out = copy
    assert "before" not in json.loads((out / "sweep.json").read_text())


def test_networks_grow_by_seeds_and_are_read_back_by_their_own_numbers(tmp_path):
    """No network is trained: the numbers of the cells are the point."""
    first = loaded_networks(tmp_path, SMALL)
    make_store(tmp_path / "out", first.contents)
    file = loaded_networks(tmp_path, SMALL.replace("[4, 7]", "[4, 5, 7]"))
    assert [cell.config.seed for cell in file.cells[:3]] == [4, 5, 7]
    grown, notes = continued(file, tmp_path / "out")
    assert notes == ["the file has changed: 8 cells are kept, 4 are new"]
    assert grown.cells[:8] == first.cells
    assert {cell.config.seed for cell in grown.cells[8:]} == {5}
    store = make_store(tmp_path / "out", grown.contents)
    assert cells_of(store) == grown.cells
    assert [cell.index for cell in grown.cells] == list(range(12))
    # A rate by rule is chosen with the first seed: another first seed is another rate.
    by_rule = SMALL.replace("learning_rate = 0.02", "")
    make_store(tmp_path / "rule", loaded_networks(tmp_path, by_rule).contents)
    other = loaded_networks(tmp_path, by_rule.replace("[4, 7]", "[3, 4, 7]"))
    with pytest.raises(ValueError, match="8 of its 8 cells are not in the file"):
        continued(other, tmp_path / "rule")


# Folders of version 0.1 ------------------------------------------------------------------------


def test_networks_of_version_0_1_go_on_with_their_squared_error_written_out(tmp_path):
    """There "mse" alone was the paper's, with targets of 15, and stood so in the file."""
    file = loaded_networks(tmp_path, SMALL)
    training = {**file.contents.config["training"], "losses": ["ce", "mse"]}
    config = {**file.contents.config, "training": training}
    store = make_store(tmp_path / "out", dataclasses.replace(file.contents, config=config))
    assert cells_of(store) == file.cells
    assert {cell.loss for cell in cells_of(store)} == {"ce", "mse:1.0,15.0"}
    grown, notes = continued(file, tmp_path / "out")
    assert notes == ["the file has changed: 8 cells are kept, 0 are new"]
    assert grown.cells == file.cells
    # Its batches are taken in.
    assert store.contents.identity in make_store(tmp_path / "out", grown.contents).batches.accepted


#: What a store remembers of this file, its cells and their order, as version 0.1 computed them.
EVERY_FIELD = """
title = "every field"
loss = ["ce", "ls:0.2", { name = "ls", alpha = [0.0, 0.3] }, { name = "fl" },
        { name = "mse", scale = 5, target = [2, 3] }]
[problem]
num_classes = 4
per_class = 5
dim = [3, 6]
lam_w = { from = 1e-3, to = 1e-1, num = 3, spacing = "log", times = "threshold" }
lam_h = "lam_w"
lam_b = ["none", 0.01]
[start]
count = 2
seed = [3, 4]
"""


def test_a_sweep_that_version_0_1_began_is_the_same_sweep(tmp_path):
    sweep = loaded(tmp_path, EVERY_FIELD)
    assert sweep.contents.identity == "143b7533f4ef146ff3f9685b789c6b6c"
    cell = sweep.cells[50]
    assert (cell.index, cell.loss, cell.spec.dim, cell.seed, cell.start) == (50, "ls:0.2", 3, 4, 0)
    assert (cell.spec.lam_b, cell.spec.class_counts) == (None, (5, 5, 5, 5))
    last = sweep.cells[-1]
    assert (last.index, last.loss, last.spec.dim, last.spec.lam_b) == (335, "mse:5.0,3.0", 6, 0.01)
