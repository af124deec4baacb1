"""One cell: its numbers against the model's oracle, and its bits wherever it is computed."""

import dataclasses
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_oracle import objective_and_gradient

from sweeps import TIMES, TINY, loaded, written
from ufm import Params, Status, Verdict, init_params, solve
from ufm._support.quick_jit import always_compiled
from ufm.solvers._solve import _newton
from ufm.sweep import COLUMNS, open_store, parse_shard, run_cell, run_sweep
from ufm.sweep.problems.cell import Solving
from ufm.sweep.problems.config import KeepTable

BOTH = TINY.replace('["ce"]', '["ce", "mse"]')
ALL = KeepTable(history=True, arrays=True, spectrum=True)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("sweep"), BOTH)


@pytest.fixture(scope="module")
def table(sweep, tmp_path_factory):
    """The results of all cells."""
    store = run_sweep(sweep, tmp_path_factory.mktemp("store") / "out", batch_seconds=0.02)
    return store.table()


def same(first: dict, second: dict) -> None:
    """Tables with the same bits but for the times."""
    assert list(first) == list(second)
    for name in first:
        if name not in TIMES:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_the_numbers_of_a_run_are_those_of_its_point(sweep):
    record = run_cell(sweep.cells[0], ALL)
    row, problem = record.row, sweep.cells[0].spec.problem()
    assert set(row) >= set(COLUMNS)
    point = Params(*(jnp.asarray(record.arrays[name]) for name in "WHb"))
    value, gradient = objective_and_gradient(problem, point)
    assert row["value"] == pytest.approx(value, rel=1e-14)
    assert row["grad_norm"] == pytest.approx(np.linalg.norm(gradient), abs=1e-15)
    assert row["grad_norm"] <= row["tol"] == 1e-10
    assert (row["status"], row["verdict"]) == (Status.CONVERGED.name, Verdict.GLOBAL_MINIMUM.name)
    # λ_W W Wᵀ = λ_H H Hᵀ in size, and ρ* = log((1 − (K−1)μ√n)/(μ√n)) for CE.
    rate = math.sqrt(1e-3 * 1e-2 * 5)
    assert row["rho_star"] == pytest.approx(math.log((1 - 3 * rate) / rate), rel=1e-12)
    assert row["rho"] == pytest.approx(row["rho_star"], rel=1e-6)
    assert row["norm_w"] == pytest.approx(np.linalg.norm(point.W), rel=1e-14)
    assert row["norm_h"] == pytest.approx(row["norm_w"] * math.sqrt(1e-3 / 1e-2), rel=1e-6)
    assert row["threshold"] == pytest.approx(1 / (4 * math.sqrt(5)), rel=1e-12)
    assert row["minimum"] == pytest.approx(row["value"], abs=1e-12)
    assert max(row["nc1"], row["nc2"], row["nc3"], row["nc4"]) < 1e-5
    # The spectrum: as many eigenvalues as parameters, and a minimum modulo rotations.
    assert record.arrays["multiplicities"].sum() == 4 * 6 + 6 * 20 + 4
    assert (row["negative"], row["zero"]) == (0, 3 * 3 + 3)
    steps = record.arrays["history_step"]
    assert (steps[0], steps[-1]) == (0, row["steps"])
    assert record.arrays["history_value"][-1] == row["value"]


def test_a_start_is_that_of_its_number(sweep, tmp_path):
    """Anybody can repeat cell i: fold_in(key(seed), i)."""
    cell = sweep.cells[5]
    problem = cell.spec.problem()
    start = init_params(problem, jax.random.fold_in(jax.random.key(0), 5), 0.1)
    record = run_cell(cell, ALL)
    # A cell is always compiled.
    with always_compiled():
        np.testing.assert_array_equal(solve(problem, start).params.W, record.arrays["W"])


def test_beyond_the_threshold_the_origin_is_global(table):
    collapsed = table["mu"] >= table["threshold"]
    assert 0 < collapsed.sum() < len(collapsed)
    np.testing.assert_array_equal(collapsed, table["rho_star"] == 0)
    np.testing.assert_array_equal(collapsed, table["kind"] == "origin")
    assert set(table["verdict"]) == {"GLOBAL_MINIMUM"}
    assert (table["norm_w"][collapsed] < 1e-6).all()
    assert (table["matches"] == 1).all()


def test_a_cell_has_the_same_bits_alone_and_in_every_batch(sweep, table, tmp_path):
    for i in (9, 2, 14):  # alone, in another order
        row = run_cell(sweep.cells[i]).row
        for name in COLUMNS:
            if name in TIMES or row[name] == -1:
                continue
            np.testing.assert_array_equal(table[name][i], row[name], err_msg=name)
    big = run_sweep(sweep, tmp_path / "big", batch_seconds=100.0)
    same(big.table(), table)


def test_shards_together_are_the_whole(sweep, table, tmp_path):
    out = tmp_path / "out"
    for i in (3, 1, 2):
        run_sweep(sweep, out, shard=parse_shard(f"{i}/3"))
    same(open_store(out).table(), table)


@pytest.mark.slow
def test_more_than_one_device_gives_the_same_bits(sweep, table, tmp_path):
    code = (
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "from ufm.sweep import load_sweep, run_sweep\n"
        "assert jax.local_device_count() == 2\n"
        f"run_sweep(load_sweep({str(written(tmp_path))!r}), {str(tmp_path / 'two')!r})\n"
    )

    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    # The cells of the first loss.
    same(open_store(tmp_path / "two").table(), {name: x[:8] for name, x in table.items()})


def test_lanes_of_an_accelerator_give_a_cell_the_same_bits_in_any_company(sweep, table, tmp_path):
    """On a CPU what a GPU does: four cells at a time in lock step, empty lanes filled up."""
    work = Solving(KeepTable(), lock_step=4)
    cells = [cell for cell in sweep.cells if cell.loss == "ce"]
    whole = [record.row for begin in (0, 4) for record in work.run(cells[begin : begin + 4])]
    for chosen in ([5, 1, 2], [3], [7, 6, 5, 4]):
        for record in work.run([cells[i] for i in chosen]):
            for name in set(COLUMNS) - set(TIMES):
                np.testing.assert_array_equal(record.row[name], whole[record.cell][name], name)
    # And the answers of a single run, to its tolerance.
    for i, row in enumerate(whole):
        assert row["status"] == "CONVERGED"
        assert row["verdict"] == table["verdict"][i]
        assert row["value"] == pytest.approx(table["value"][i], rel=1e-13)


def test_a_method_that_no_cell_can_use_is_refused_before_any_is_computed(tmp_path):
    text = TINY + "[solver]\nmethod = ['newton', 'adam']\n"
    deep = text.replace("lam_h = [1e-2, 0.5]", "lam_h = [1e-2, 0.5]\nlam_hidden = [0.1]")
    assert len(loaded(tmp_path, text).cells) == 16
    with pytest.raises(ValueError, match="problem: method 'adam' is not for problems with hidden"):
        loaded(tmp_path, deep)


def test_lanes_keep_cells_of_other_limits_and_failures_apart(tmp_path, monkeypatch):
    sweep = loaded(tmp_path)  # one loss, whose program the test before has compiled
    cells = list(sweep.cells[:4])
    cells[1] = dataclasses.replace(cells[1], max_steps=1)
    found = Solving(KeepTable(), lock_step=4).run(cells)
    assert [record.row["cell"] for record in found] == [0, 1, 2, 3]
    assert [record.row["max_steps"] for record in found] == [cell.max_steps for cell in cells]
    assert found[1].row["steps"] <= 1 < found[0].row["steps"]
    # A cell that cannot be computed takes none of its lane with it.
    real = Solving.run

    def run(self, cells):
        if any(cell.index == 2 for cell in cells):
            raise MemoryError("too large")
        return real(self, cells)

    monkeypatch.setattr(Solving, "run", run)
    monkeypatch.setattr(Solving, "lanes", 4)
    with pytest.raises(ValueError, match=r"^1 cells cannot be computed.*cell 2 \(ce\)"):
        run_sweep(sweep, tmp_path / "out")
    assert len(open_store(tmp_path / "out").finished()) == len(sweep.cells) - 1


def test_one_compilation_for_each_loss_shape_and_method(tmp_path):
    text = BOTH.replace('["ce", "mse"]', '["ce", { name = "mse", scale = [1, 2] }]')
    text = text.replace("count = 2", "count = 1")
    text += '[solver]\ntol = [1e-8, 1e-6]\nmax_steps = [50, 60]\nmethod = "newton"\n'
    many = loaded(tmp_path, text)
    assert len(many.cells) == 4 * 3 * 4
    assert len({cell.program for cell in many.cells}) == 2
    before = _newton.programs()
    run_sweep(many, tmp_path / "out")
    after = _newton.programs()
    assert after - before <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("3", "i/n"), ("0/3", "from 1 to n"), ("4/3", "from 1 to n"), ("a/b", "i/n")],
)
def test_what_is_no_shard_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_shard(text)
