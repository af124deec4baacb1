"""Nothing that is printed is wider than the terminal: columns go first, then sentences break."""

import re
from pathlib import Path

import pytest
from landscapes import small_census

from ufm.cli import main
from ufm.cli.output.console import plain_table, show
from ufm.cli.output.hunt_output import _HEADINGS, _LEAST
from ufm.cli.output.landscape_output import show as show_landscape
from ufm.cli.output.print import say
from ufm.landscape.stored import census_entry

#: What test_cli.py uses, so that the programs are compiled once.
SMALL = ["--num-classes", "3", "--dim", "3", "--per-class", "2"]
#: A row of `ufm hunt`.
ROW = (
    *("12", "FL(γ=1.66687)", "100", "10", "0.0478539", "19 dead classes"),
    *("2.9604174", "1.65e-04", "3.68e-05", "4,815", "2e-14"),
)


@pytest.fixture(params=[80, 120])
def width(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


def widest(text: str) -> int:
    """Of all lines but those that are a command to copy."""
    lines = (line.rstrip() for line in text.splitlines())
    return max(len(x) for x in lines if not re.match("Figures: |Report: |Check: ", x))


def test_columns_without_room_are_left_out_in_order_and_that_is_said(width, capsys):
    table = plain_table(_HEADINGS, words=("local minimum",), gap=2)
    table.add_row(*ROW)
    show(table, _LEAST)
    heading, row, *said = capsys.readouterr().out.splitlines()
    assert max(map(len, (heading.rstrip(), row.rstrip(), *said))) <= width
    left_out = [] if width == 120 else ["|∇f|", "zeros", "try", "λ_min > 0"]
    kept = [cell for name, cell in zip(_HEADINGS, ROW, strict=True) if name not in left_out]
    assert re.split(r"\s{2,}", row.strip()) == kept
    assert said == [f"In 80 columns there is no room for {', '.join(left_out)}: see --json."] * (
        width == 80
    )


def test_a_file_has_room_for_all(capsys):
    table = plain_table([f"a long heading {i}" for i in range(30)])
    table.add_row(*map(str, range(30)))
    show(table)
    say("word " * 100)
    heading, row, said = capsys.readouterr().out.splitlines()
    assert row.split() == [str(i) for i in range(30)]
    assert len(heading) > 400
    assert len(said) == 500


def test_sentences_break_between_words_and_commands_do_not(width, capsys):
    words = " ".join(f"word{i}" for i in range(60))
    say(words)
    say(words, whole=True)
    *broken, whole = capsys.readouterr().out.splitlines()
    assert " ".join(broken) == whole == words
    assert max(map(len, broken)) <= width < len(whole)


def test_commands_fit(width, capsys, tmp_path):
    assert main(["solve", *SMALL, "--starts", "2", "--losses", "ce", "--out", str(tmp_path)]) == 0
    assert main(["spectrum", *SMALL, "--losses", "ce", "--at", "origin"]) == 0
    census = small_census()
    entry = census_entry(census, 1.0)
    entry["searches"] = [search | {"unfinished": 7} for search in entry["searches"]]
    show_landscape(census.problem, [entry], Path("folder"), True, False)
    out = capsys.readouterr().out
    assert "Along the theory's escape direction" in out
    assert "saddle" in out
    assert widest(out.replace(str(tmp_path), "folder")) <= width
