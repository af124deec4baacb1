"""`ufm hunt`: what it prints and writes, and how it says no."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from figures import names_of
from tex import compile_table, number_of, rows_of

from ufm import Verdict, certify, global_minimum, init_params, load_classifier
from ufm.cli import main
from ufm.counterexamples.found import Attempt, SpuriousMinimum

#: The shapes of test_hunt.py, so that the programs are compiled once.
FOCAL = ["--losses", "fl:3", "--num-classes", "30", "--decay", "0.99", "1.005", "--per-class", "2"]
FOCAL += ["2", "--tries", "2"]
NONE = ["--losses", "ce", "--num-classes", "4", "--decay", "0.2", "1.3", "--tries", "3"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def printed(capsys, *options: str) -> str:
    assert main(["hunt", *options]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a search stored; said.txt beside it is what it printed."""
    folder = tmp_path_factory.mktemp("hunt") / "folder"
    options = [*FOCAL, "--figures", "--intervals", "1", "--accuracy", "1e-3"]
    with (
        pytest.MonkeyPatch.context() as patch,
        open(folder.with_name("said.txt"), "w", encoding="utf-8") as said,
        contextlib.redirect_stdout(said),
    ):
        patch.setenv("XDG_CACHE_HOME", str(folder.with_name("cache")))
        patch.chdir(folder.parent)
        assert main(["hunt", *options, "--out", "folder"]) == 0
    return folder


def test_minima_are_printed_followed_and_stored(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    lines = Path("said.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].split()[:4] == ["try", "loss", "K", "n"]
    assert lines[-1] == "Results: folder"
    assert "local minima that are not global, in " in lines[-2]
    assert "a local minimum that is not global for μ√n in (" in lines[-3]
    entry = json.loads(Path("folder/hunt.json").read_text())
    assert entry["tries"] == entry["tries_asked"] == 2
    assert entry["found"]
    (followed,) = [each for each in entry["found"] if each["interval"]]
    assert followed["interval"]["lower"] < followed["rate"] < followed["interval"]["upper"]
    # What was written is judged by the certificate alone.
    each = entry["found"][-1]
    layer = load_classifier(f"folder/{each['file']}")
    found = certify(layer.problem, layer.params)
    assert found.verdict is Verdict.LOCAL_MINIMUM
    assert float(found.value) == pytest.approx(each["value"], rel=1e-12)
    assert global_minimum(layer.problem).value < each["value"]
    names = [each["file"] for each in entry["found"]]
    files = ["config.json", "figures", "hunt.json", "table.tex", *names]
    assert sorted(os.listdir("folder")) == sorted(files)
    assert set(os.listdir("folder/figures")) == names_of("phases")
    # Its configuration repeats it.
    printed(capsys, "--config", "folder/config.json", "--out", "again", "--intervals", "0")
    for name in names:
        with np.load(f"folder/{name}") as first, np.load(f"again/{name}") as again:
            assert set(first) == set(again) == {"W", "H", "labels", "loss", "lam_w", "lam_h"}
            np.testing.assert_array_equal(first["W"], again["W"])


def test_the_table_for_a_paper_has_the_rows_of_the_json(folder, tmp_path):
    found = json.loads((folder / "hunt.json").read_text())["found"]
    table = (folder / "table.tex").read_text(encoding="utf-8")
    for row, each in zip(rows_of(table), found, strict=True):
        assert (row[0], row[1], row[3]) == (r"FL ($\gamma=3$)", "30", each["kind"])
        assert number_of(row[2]) == pytest.approx(each["rate"], 5.1e-6)
        assert number_of(row[4]) == pytest.approx(each["excess"], 0.051)
        ends = each["interval"]
        if ends is None:
            assert row[5:] == ["--"] * 4
        else:
            for cell, end in zip(row[5:7], ("lower", "upper"), strict=True):
                assert number_of(cell) == pytest.approx(
                    ends[end], max(5.1e-6, ends[f"{end}_error"])
                )
            assert row[7:] == [ends["below"], ends["above"]]
    compile_table(table, tmp_path)


def test_certify_reads_the_file(folder, capsys):
    assert main(["certify", str(folder / "spurious-000.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"]["verdict"] == "LOCAL_MINIMUM"


def test_none_is_a_statement_with_numbers(capsys):
    out = printed(capsys, *NONE)
    assert out.startswith("no local minimum that is not global in any of 3 tries; ")
    assert out.endswith(" 0 undecided\n")
    entry = json.loads(printed(capsys, *NONE, "--json"))
    assert entry["found"] == []
    assert (entry["tries"], entry["undecided"]) == (3, 0)
    assert entry["points"] >= 18
    assert os.listdir() == []


def interrupting(number: int):
    """A try that is interrupted when its number comes."""
    from ufm.counterexamples.hunt import attempt

    def stop(space, key, i):
        if i == number:
            raise KeyboardInterrupt
        return attempt(space, key, i)

    return stop


def test_an_interrupted_search_keeps_what_it_has(monkeypatch, capsys):
    monkeypatch.setattr("ufm.counterexamples.hunt.attempt", interrupting(2))
    assert main(["hunt", *NONE, "--out", "folder"]) == 130
    captured = capsys.readouterr()
    assert captured.err == "ufm: interrupted: 2 of 3 tries are done\n"
    assert captured.out.startswith("no local minimum that is not global in any of 2 tries; ")
    entry = json.loads(Path("folder/hunt.json").read_text())
    assert (entry["tries"], entry["tries_asked"]) == (2, 3)


def test_a_search_interrupted_at_once_writes_nothing(monkeypatch, capsys):
    monkeypatch.setattr("ufm.counterexamples.hunt.attempt", interrupting(0))
    assert main(["hunt", *NONE, "--out", "folder"]) == 130
    captured = capsys.readouterr()
    assert captured.err == "ufm: interrupted before the first try was done\n"
    assert captured.out == ""
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--losses hinge", "unknown loss 'hinge'"),
        ("--losses ce mse", "losses must be two of one family"),
        ("--losses fl:1 fl:2 fl:3", "--losses takes one loss, or two as ends of a range, got 3"),
        ("--losses fl:-1", "gamma must be non-negative"),
        ("--tries 0", "--tries must be at least 1, got 0"),
        ("--intervals -1", "--intervals must be at least 0, got -1"),
        ("--accuracy 0", "--accuracy must be in [1e-9, 1), got 0.0"),
        ("--seed -1", "--seed must be in [0, 2^32), got -1"),
        ("--decay 2 1", "decay must be two positive numbers, ascending, got 2.0 1.0"),
        ("--num-classes 1", "num_classes must list numbers of at least 2, got (1,)"),
        ("--num-classes 4 1000000000", "more than the 8,589,934,592 a run can have"),
        ("--lam-b -1", "--lam-b must be non-negative and finite, or None, got -1.0"),
        (
            "--figures --losses ce",
            "--figures draws the phase diagram of the focal loss: leave it out",
        ),
        ("--hidden-layers -1", "hidden_layers must list numbers of at least 0, got (-1,)"),
        ("--figures --hidden-layers 1", "over depth for one loss, ce or ls, without a bias"),
        (
            "--figures --losses ce --hidden-layers 1",
            "over depth for K from 3 to 8: choose other --num-classes",
        ),
    ],
)
def test_bad_options(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["hunt", *options.split(), "--out", "folder"])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ufm: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert os.listdir() == []


def test_figures_need_a_folder(capsys):
    with pytest.raises(SystemExit):
        main(["hunt", "--figures"])
    assert "--figures needs a folder: add --out FOLDER" in capsys.readouterr().err


def test_what_is_found_with_hidden_layers_is_written_and_drawn(capsys, monkeypatch):
    """The search itself is that of counterexamples/test_hidden_layers.py."""

    def attempt(space, key, number):
        problem = space.draw(key)
        means = init_params(problem, key)
        numbers = {"value": 1.1, "lower_value": 1.0, "lower": "pair", "grad_norm": 0.0, "index": 0}
        numbers |= {"zeros": 0, "gauge_dimension": 0, "smallest": 0.1, "dead_classes": 0}
        both = [
            SpuriousMinimum(problem, means, rank=rank, found_by="", attempt=0, **numbers)
            for rank in (0, 2)
        ]
        return Attempt(number, problem, 1, 0, 0, tuple(both), 3)

    monkeypatch.setattr("ufm.counterexamples.hunt.attempt", attempt)
    options = "--losses ce --hidden-layers 1 --num-classes 3 --per-class 2 2 --ratio 3 3 --tries 1"
    at = ["--decay", "0.927", "0.927", "--out", "run", "--figures"]
    said = printed(capsys, *options.split(), *at)
    assert "CE, 3 factors" in said
    assert "2 local minima that are not global, in 1 of 1 tries" in said
    stored = json.loads(Path("run/hunt.json").read_text(encoding="utf-8"))
    assert [(x["kind"], x["file"], x["index"]) for x in stored["found"]] == [
        ("origin", None, 0), ("simplex ETF", None, 0),
    ]  # fmt: skip
    assert len(stored["found"][0]["lam_hidden"]) == 1
    assert not list(Path("run").glob("*.npz"))
    assert set(os.listdir("run/figures")) == names_of("depth-phases")


def test_a_folder_is_refused_before_the_search(capsys, monkeypatch):
    def never(*_):
        raise AssertionError("the search began")

    monkeypatch.setattr("ufm.counterexamples.hunt.attempt", never)
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["hunt", "--out", "mine"])
    assert stop.value.code == 2
    assert "holds no ufm results" in capsys.readouterr().err
