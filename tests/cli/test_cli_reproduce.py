"""`ufm reproduce`: lists, checks, writes, and says with its exit code whether a verdict changed."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest
from commands import complaint
from import_order import ROOT
from tex import compile_table, number_of, rows_of

import ufm.reproduce
from ufm.cli import main
from ufm.report.reproduce import claims_page
from ufm.reproduce import Finding, Judgement, chosen, run

ONE = "zhou-2022:focal-uniqueness"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def doctored(monkeypatch, **changes) -> None:
    """Let the command find one claim only, changed."""
    paper, claim = chosen([ONE])[0]
    changed = (paper, dataclasses.replace(claim, **changes))
    monkeypatch.setattr(ufm.reproduce, "chosen", lambda names: [changed])


def test_it_lists_every_claim_with_its_recorded_verdict(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["reproduce"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for paper, claim in chosen(None):
        name = f"{paper.key}:{claim.name}"
        assert f"{name} {claim.recorded.value} {claim.statement}" in words


def test_a_claim_that_fails_is_printed_and_written(capsys, tmp_path):
    assert main(["reproduce", ONE, "--out", "claims"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{ONE}: REFUTED (")
    assert said.count("<- DIFFERS") == 3
    assert "1 refuted\nResults: claims" in said
    (told,) = json.loads(Path("claims/reproduce.json").read_text())["claims"]
    assert (told["verdict"], told["recorded"]) == ("refuted", "refuted")
    compared = [row for row in told["rows"] if row["difference"] is not None]
    assert [row["ours"] - row["claimed"] for row in compared] == [0, 1, 0, 1, 0, 1]
    page = Path("claims/page.html").read_text()
    assert f'<h2 id="{ONE}">{ONE}: refuted</h2>' in page
    assert page.count("<td><b>2</b></td>") == 3  # the numbers that differ
    assert "1 refuted." in page
    assert "Not as recorded" not in page
    table = Path("claims/table.tex").read_text()
    ((source, name, verdict, agree, largest),) = rows_of(table)
    assert (source, name) == tuple(ONE.split(":"))
    assert (verdict, agree, number_of(largest)) == (r"\textbf{refuted}", "3/6", 1.0)
    compile_table(table, tmp_path)


def test_json_alone_on_standard_output(capsys):
    assert main(["reproduce", ONE, ONE, "--json"]) == 0
    assert [x["name"] for x in json.loads(capsys.readouterr().out)["claims"]] == [ONE]


def test_a_verdict_that_is_not_the_recorded_one_is_an_exit_code(capsys, monkeypatch):
    doctored(monkeypatch, recorded=Judgement.CONFIRMED)
    assert main(["reproduce", ONE]) == 1
    said = capsys.readouterr().out
    assert "REFUTED, BUT RECORDED AS CONFIRMED" in said
    assert f"Not as recorded: {ONE}" in said
    told = {"environment": {}, "claims": [run(*ufm.reproduce.chosen(None)[0]).as_dict()]}
    assert f"<p>Not as recorded: {ONE}.</p>" in claims_page(told)


def test_a_planted_wrong_value_is_an_exit_code(capsys, monkeypatch):
    rows = chosen(["zhao-2026"])[0][1].check().rows
    doctored(monkeypatch, recorded=Judgement.CONFIRMED, check=lambda: Finding(rows))
    assert main(["reproduce", "--all", "--json"]) == 0
    wrong = dataclasses.replace(rows[1], claimed=(rows[1].claimed or 0.0) + 1e-6)
    doctored(monkeypatch, recorded=Judgement.CONFIRMED, check=lambda: Finding((rows[0], wrong)))
    assert main(["reproduce", "--all", "--json"]) == 1


def test_bad_input_is_one_line(capsys):
    assert "did you mean zhou-2022b?" in complaint(capsys, "reproduce", "zhou2022b")
    assert "`ufm reproduce` without a name lists them" in complaint(capsys, "reproduce", "xyz")
    assert "not both" in complaint(capsys, "reproduce", ONE, "--all")
    assert "nothing to check" in complaint(capsys, "reproduce", "--out", "claims")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("x")
    assert "choose another" in complaint(capsys, "reproduce", ONE, "--out", "mine")


def test_the_committed_results_are_those_of_the_registry():
    told = json.loads((ROOT / "docs" / "reproduce.json").read_text(encoding="utf-8"))["claims"]
    for found, (paper, claim) in zip(told, chosen(None), strict=True):
        assert found["name"] == f"{paper.key}:{claim.name}"
        assert (found["claim"], found["where"]) == (claim.statement, claim.where)
        assert (found["setting"], found["read"]) == (claim.setting, paper.read)
        assert (found["verdict"], found["beyond"]) == (claim.recorded.value, claim.beyond)


def test_the_readme_counts_the_recorded_verdicts():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    hook = runpy.run_path(str(ROOT / "docs" / "hooks" / "measurements.py"))
    assert hook["readme"](text) == text
    rows = text.split("<!--claims-->")[1].split("<!--/claims-->")[0].strip().splitlines()[2:]
    counts = [[int(cell) for cell in row.split("|")[2:-1]] for row in rows]
    recorded = [(claim.beyond, claim.recorded) for _, claim in chosen(None)]
    assert counts == [[recorded.count((x, kind)) for kind in Judgement] for x in (False, True)]
    assert len(text.split()) <= 760
