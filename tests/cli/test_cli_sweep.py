"""`ufm sweep` and `ufm store`: what they print, and how they say no."""

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import pytest
from commands import complaint

from sweeps import SIZES, TINY, written
from ufm.cli import main
from ufm.cli.output.progress import duration
from ufm.sweep import open_store


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def tiny(tmp_path):
    return str(written(tmp_path).relative_to(tmp_path))


def printed(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_sweep_says_what_came_out(tiny, capsys):
    said = printed(capsys, "sweep", tiny)
    assert "The claim holds in all 8 runs: each ended at a proven global minimum" in said
    assert "Results: ufm-results/tiny" in said
    assert re.search(r"^ce +8 +8 ", said, re.MULTILINE)
    again = json.loads(printed(capsys, "sweep", tiny, "--json"))
    assert (again["cells"], again["finished"], again["folder"]) == (8, 8, "ufm-results/tiny")
    (row,) = again["losses"]
    assert (row["global"], row["matches"], row["others"]) == (8, 8, {})
    assert 0 < row["max_gap"] < 1e-6
    assert row["nc2"] < 1e-5  # origins have no geometry


def test_a_sweep_that_falls_short_says_where_to_look(tmp_path, capsys):
    text = TINY + "[solver]\nmax_steps = 1\n"
    file = str(written(tmp_path, text))
    said = printed(capsys, "sweep", file)
    assert re.search(r"[0-7] of 8 runs ended at a proven global minimum", said)
    condition = "verdict != 'GLOBAL_MINIMUM' OR matches = 0"
    assert f'ufm store query "{condition}" --store ufm-results/tiny' in said
    found = json.loads(printed(capsys, "store", "query", "verdict != 'GLOBAL_MINIMUM'", "--json"))
    assert found
    assert all(cell["steps"] <= 1 and cell["status"] == "MAX_STEPS" for cell in found)


def test_a_dry_run_counts_and_estimates_and_writes_nothing(tmp_path, capsys):
    file = str(written(tmp_path, TINY.replace('["ce"]', '["ce", "mse", "mse:5"]')))
    said = printed(capsys, "sweep", file, "--dry-run")
    assert said.startswith("24 cells; 2 compilations\n")
    assert re.search(r"^cell +loss +lam_w +lam_h +start *$", said, re.MULTILINE)
    assert re.search(r"^ +7 +ce +0.5 +0.5 +1 *$", said, re.MULTILINE)
    assert re.search(r"^ +… +… +…", said, re.MULTILINE)
    assert re.search(r"^ +23 +mse:5.0,1.0 +0.5 +0.5 +1 *$", said, re.MULTILINE)
    assert re.search(r"^ce, K=4, d=6, n=5, newton +8 ", said, re.MULTILINE)
    assert re.search(r"^mse, K=4, d=6, n=5, newton +16 ", said, re.MULTILINE)
    assert re.search(r"^about \d+ (s|min)", said, re.MULTILINE)
    plan = json.loads(printed(capsys, "sweep", file, "--dry-run", "--json"))
    assert [cell["index"] for cell in plan["cells"]] == list(range(24))
    assert not any(cell["finished"] for cell in plan["cells"])
    assert [entry["cells"] for entry in plan["compilations"]] == [8, 16]
    assert not Path("ufm-results").exists()
    main(["sweep", file, "--shard", "1/4"])
    said = printed(capsys, "sweep", file, "--dry-run")
    assert said.startswith("24 cells, 6 of them done; 2 compilations\n")
    assert printed(capsys, "sweep", file, "--dry-run", "--shard", "1/4").startswith("6 cells, 6")


def test_a_dry_run_counts_what_is_done_and_refuses_the_folder_of_another_sweep(
    tiny, tmp_path, capsys
):
    printed(capsys, "sweep", tiny)
    assert printed(capsys, "sweep", tiny, "--dry-run").startswith("8 cells, 8 of them done; 0 ")
    other = str(written(tmp_path, TINY.replace("dim = 6", "dim = 5"), "other.toml"))
    said = complaint(capsys, "sweep", other, "--dry-run", "--out", "ufm-results/tiny")
    assert said == (
        "ufm-results/tiny holds another sweep (8 of its 8 cells are not in the file, such as those "
        "with dim = 6): put them back, or choose another --out"
    )
    grown = str(written(tmp_path, TINY.replace("count = 2", "count = 3"), "grown.toml"))
    said = printed(capsys, "sweep", grown, "--dry-run", "--out", "ufm-results/tiny")
    assert said.startswith("12 cells, 8 of them done; 1 compilations\n")


def test_what_a_query_leaves_out_is_said(tiny, capsys):
    printed(capsys, "sweep", tiny)
    victim = sorted(Path("ufm-results/tiny/batches").glob("*.npz"))[0]
    victim.write_bytes(b"")
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside the tests, where it is no error
        assert main(["store", "query", "cell >= 0"]) == 0
    said = capsys.readouterr()
    assert said.err == (
        f"ufm: note: {victim.name} is damaged: its cells are missing here; run the sweep again\n"
    )
    assert "8 cells" not in said.out


def test_shards_and_then_the_whole(tiny, capsys):
    main(["sweep", tiny, "--shard", "2/2", "--out", "there"])
    said = capsys.readouterr().out
    assert "The claim holds in all 4 runs (4 more are not finished): " in said
    printed(capsys, "sweep", tiny, "--out", "there")
    assert open_store("there").finished() == set(range(8))


def test_query_export_reindex(tiny, capsys):
    printed(capsys, "sweep", tiny)
    table = printed(capsys, "store", "query", "kind = 'origin'")
    assert table.splitlines()[-1] == "2 cells"
    assert table.splitlines()[0].split()[:2] == ["cell", "loss"]
    assert printed(capsys, "store", "query", "cell > 99") == "0 cells\n"
    assert printed(capsys, "store", "export", "all.csv") == "8 cells in all.csv\n"
    assert len(Path("all.csv").read_text().splitlines()) == 9
    Path("ufm-results/tiny/index.sqlite").unlink()
    assert printed(capsys, "store", "reindex").startswith("8 of 8 cells in ")
    assert Path("ufm-results/tiny/index.sqlite").exists()
    said = complaint(capsys, "store", "query", "1; DROP TABLE cells")
    assert said.startswith("'1; DROP TABLE cells' is not a condition on the cells")
    said = complaint(capsys, "store", "export", "all.xls")
    assert said == "all.xls must end with .csv or .parquet"


def test_what_is_no_sweep_is_refused_in_one_line(tmp_path, capsys):
    assert complaint(capsys, "sweep", "nowhere.toml") == "nowhere.toml: No such file or directory"
    file = str(written(tmp_path, TINY.replace("dim = 6", "dim = 0")).relative_to(tmp_path))
    said = complaint(capsys, "sweep", file)
    assert said == "tiny.toml: problem: dim must be a positive whole number, got 0 (cell 0)"
    assert not Path("ufm-results").exists()
    said = complaint(capsys, "store", "query", "1")
    assert said == "there is no sweep in ufm-results: name its folder with --store"
    assert complaint(capsys, "sweep", file, "--shard", "9/8").startswith("of n shards i goes")


def test_another_sweep_in_the_folder_is_complaint(tiny, tmp_path, capsys):
    printed(capsys, "sweep", tiny)
    written(tmp_path, TINY.replace("count = 2", "count = 1"))
    assert complaint(capsys, "sweep", tiny).startswith("ufm-results/tiny holds another sweep")


def test_ctrl_c_ends_after_the_batch_and_says_how_to_go_on(tmp_path):
    text = f"""
    loss = ["ce"]
    [problem]
    {SIZES}
    lam_w = {{ from = 1e-3, to = 1e-1, num = 100, spacing = "log" }}
    lam_h = "lam_w"
    [start]
    count = 100
    """
    file = written(tmp_path, text.replace("\n    ", "\n"), "long.toml")
    code = "import sys; from ufm.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "sweep", file.name]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        batches = tmp_path / "ufm-results" / "long" / "batches"
        while len(list(batches.glob("*.npz"))) < 2:
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate()
    assert child.returncode == 130
    done = len(open_store(tmp_path / "ufm-results" / "long").finished())
    assert 0 < done < 10_000
    assert "Traceback" not in said
    last = said.rstrip().splitlines()[-1]
    assert last == (
        f"Interrupted: {done:,} of 10,000 cells are done. Continue with: ufm sweep long.toml"
    )


def test_times_for_people():
    assert [duration(x) for x in (0.4, 59.4, 61.0, 3599.0, 7260.0)] == [
        "0 s", "59 s", "1 min 1 s", "59 min 59 s", "2 h 1 min",
    ]  # fmt: skip
