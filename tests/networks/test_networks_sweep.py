"""Sweeps over networks: the file, its cells, runs through the store, and what is said of them."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from images import raw_images, write_images
from network_sweeps import SMALL, loaded

from sweeps import written
from ufm.cli import main
from ufm.networks import train
from ufm.networks.sweeps import cell as cells_of
from ufm.networks.sweeps.cell import Training, images
from ufm.networks.sweeps.columns import COLUMNS
from ufm.networks.training.learning_rate import choose_learning_rate
from ufm.sweep import open_store, parse_shard, run_sweep
from ufm.sweep.writer import make_store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    sweep = loaded(folder)
    return sweep, run_sweep(sweep, folder / "out")


# The file --------------------------------------------------------------------------------------


def test_cells_are_all_combinations_seeds_last(tmp_path):
    cells = loaded(tmp_path).cells
    assert [cell.index for cell in cells] == list(range(8))
    found = [(cell.loss, cell.config.epochs, cell.config.seed) for cell in cells]
    assert found == [
        (loss, epochs, seed)
        for loss in ("ce", "mse:1.0,15.0")
        for epochs in (2, 3)
        for seed in (4, 7)
    ]
    assert len({cell.program for cell in cells}) == 2
    assert all(cell.trial is None for cell in cells)


def test_a_rate_by_the_rule_belongs_to_loss_and_network_alone(tmp_path):
    cells = loaded(tmp_path, SMALL.replace("learning_rate = 0.02", "")).cells
    for loss in ("ce", "mse:1.0,15.0"):
        (trial,) = {cell.trial for cell in cells if cell.loss == loss}
        assert trial is not None
        assert (trial.loss, trial.epochs, trial.seed) == (loss, 3, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 10", "width = [8, -1]", "network.width must be positive"),
        ("depth = 1", "depth = 1.5", "network.depth: expected int"),
        ("depth = 1", "deep = 1", "network: unknown field 'deep'; perhaps you meant 'depth'"),
        ('["ce", "mse:1,15"]', '["ce", "ce"]', "training.losses: names a loss twice"),
        ('["ce", "mse:1,15"]', '["xe"]', "training.losses: unknown loss 'xe'"),
        ("epochs = [2, 3]", "epochs = [2, 0]", "training.epochs must be at least 1, got 0"),
        ("epochs = [2, 3]", "epochs = []", "training.epochs: a list needs at least one value"),
        ("seed = [4, 7]", "seed = -1", "training.seed must be in"),
        ("rate = 0.02", "rate = inf", "training.learning_rate must be positive and finite"),
        ("[network]", "[problem]", "unknown field 'problem'"),
        ("per_class = 20", 'source = "nope"', "data: unknown data 'nope'"),
        ("per_class = 20", "per_class = -1", "data: per_class must be at least 2, got -1"),
        ("per_class = 20", "seed = -1", "data.seed must be in [0, 2^32), got -1"),
        ("depth = 1", "depth = 1\nwidth = 8e9", "Cannot overwrite a value"),
        ("width = 10", "width = 1e12", "network.width must be at most 100,000"),
        ("epochs = [2, 3]", "epochs = 99999999999", "training.epochs must be at most 10,000,000"),
        ("seed = [4, 7]", "batch_size = 100000", "training.batch_size = 100000 is more than"),
        (
            "width = 10",
            "width = { values = [10.0], times = 'threshold' }",
            "network.width: only lam_w and lam_h can be multiples",
        ),
        (
            "width = 10\ndepth = 1\n[training]",
            "width = { from = 8, to = 9, num = 1, spacing = 'uniform' }\n[training]\n#",
            "width must be a whole number of units for mlp",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_field(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        loaded(tmp_path, SMALL.replace(old, new, 1))
    assert str(caught.value).startswith(str(tmp_path / "nets.toml"))
    assert "\n" not in str(caught.value)


# Runs ------------------------------------------------------------------------------------------


def test_a_cell_is_the_run_that_train_makes(finished):
    sweep, store = finished
    cell = sweep.cells[6]
    result = train(cell.config, images(cell.data))
    (row,) = store.query("cell = 6")
    assert set(row) == set(COLUMNS)
    for name in ("test_accuracy", "train_loss", "nc1", "nc3", "weight_norm"):
        assert row[name] == result.history[name][-1]
    assert row["first_nc2"] == result.history["nc2"][0]
    assert (row["status"], row["epochs_done"], row["per_class"]) == ("completed", 3, 20)
    arrays = store.arrays(6)
    np.testing.assert_array_equal(arrays["history_nc1"], result.history["nc1"])
    # λ_W = λ/c with c = 2/K, and λ_H from balance.
    assert row["lam_w"] == pytest.approx(5e-4 * 10 / 2, rel=1e-12)
    balance = row["lam_w"] * (row["weight_norm"] / row["feature_norm"]) ** 2
    assert row["lam_h"] == pytest.approx(balance, rel=1e-6)
    assert row["mu"] == pytest.approx(np.sqrt(row["lam_w"] * row["lam_h"]), rel=1e-12)


def test_shards_have_the_bits_of_the_whole(finished, tmp_path):
    sweep, store = finished
    for i in (2, 1):
        run_sweep(sweep, tmp_path / "out", shard=parse_shard(f"{i}/2"))
    table, other = store.table(), open_store(tmp_path / "out").table()
    for name in set(COLUMNS) - {"seconds"}:
        np.testing.assert_array_equal(table[name], other[name], err_msg=name)


def test_a_rate_is_chosen_once_for_all_seeds(tmp_path, monkeypatch):
    real, chosen = cells_of.choose_learning_rate, []

    def counted(config, data):
        chosen.append(config.loss)
        return real(config, data, (0.03, 0.01))

    monkeypatch.setattr(cells_of, "choose_learning_rate", counted)
    cells_of._rate.cache_clear()
    sweep = loaded(tmp_path, SMALL.replace("learning_rate = 0.02", "").replace(', "mse:1,15"', ""))
    store = run_sweep(sweep, tmp_path / "out")
    cells_of._rate.cache_clear()
    assert chosen == ["ce"]
    assert len(set(store.table()["learning_rate"])) == 1
    assert store.table()["learning_rate"][0] in (0.03, 0.01)


def test_runs_go_on_while_another_rate_is_chosen(tmp_path, monkeypatch):
    """The next loss's rate is chosen beside the runs of this one."""
    begun, release = threading.Event(), threading.Event()

    def slow(config, data):
        begun.set()
        assert release.wait(250)
        return choose_learning_rate(config, data, (0.03,))

    monkeypatch.setattr(cells_of, "choose_learning_rate", slow)
    cells_of._rate.cache_clear()
    by_rule = loaded(tmp_path, SMALL.replace("learning_rate = 0.02", "")).cells[0]
    given = loaded(tmp_path).cells[0]
    chooser = threading.Thread(target=cells_of.rated, args=(by_rule,))
    chooser.start()
    assert begun.wait(120)
    free = threading.Thread(target=lambda: (images(given.data), cells_of.rated(given)))
    free.start()
    free.join(60)
    held = free.is_alive()
    release.set()
    chooser.join()
    free.join()
    cells_of._rate.cache_clear()
    assert not held


def test_a_run_that_diverges_is_recorded_as_such(tmp_path):
    text = SMALL.replace("learning_rate = 0.02", "learning_rate = 1e4").replace(', "mse:1,15"', "")
    cell = loaded(tmp_path, text).cells[0]
    (record,) = Training().run([cell])
    assert record.row["status"] in ("diverged", "dead")
    assert np.isnan(record.row["test_accuracy"])


def test_other_images_are_another_sweep(tmp_path):
    text = SMALL.replace("per_class = 20", f'source = "{tmp_path / "mine.npz"}"')
    write_images(tmp_path / "mine.npz")
    sweep = loaded(tmp_path, text)
    store = make_store(tmp_path / "out", sweep.contents)
    assert store.config["data"]["sha256"] == images(sweep.config.data).fingerprint()
    write_images(tmp_path / "mine.npz", images=raw_images().images[::-1].copy())
    cells_of._images.cache_clear()
    with pytest.raises(ValueError, match="has other images than those of sha256"):
        images(sweep.config.data)
    with pytest.raises(ValueError, match="holds another sweep"):
        make_store(tmp_path / "out", loaded(tmp_path, text).contents)


# The command -----------------------------------------------------------------------------------


def test_the_command_runs_shows_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, SMALL, "nets.toml")
    assert main(["sweep", "nets.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("8 cells; 2 compilations\n")
    assert re.search(r"^cell +loss +epochs +seed *$", said, re.MULTILINE)
    assert re.search(r"^ +7 +mse:1.0,15.0 +3 +7 *$", said, re.MULTILINE)
    assert main(["sweep", "nets.toml"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^ +3 +mse:1.0,15.0 +0.02 .* too few seeds$", said, re.MULTILINE)
    assert "Fewer than 5 seeds in 2 of 2 settings" in said
    assert "targets 15·one-hot" in said
    assert main(["sweep", "nets.toml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cells"], found["finished"], len(found["groups"])) == (8, 8, 2)
    assert main(["store", "query", "loss = 'ce' AND epochs = 3"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("2 cells\n")
    assert "test_accuracy" in said
    assert main(["report", "ufm-results/nets"]) == 0
    page = Path("ufm-results/nets/report.html").read_text(encoding="utf-8")
    assert page.count('role="img"') == 4 + 4 + 1 + 2
