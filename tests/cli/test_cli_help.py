"""What a newcomer sees first: help, examples, completion, citations."""

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import ufm
from ufm.cli import COMMANDS, main, parse
from ufm.cli.parsing.examples import examples

ROOT = Path(__file__).resolve().parents[2]


def printed(capsys, *arguments: str) -> str:
    """Standard output of a command that ends well."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code or 0
    assert code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# Help ----------------------------------------------------------------------------------------


def unboxed(said: str) -> str:
    """The text without boxes and line breaks."""
    return " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_with_examples(command, capsys):
    said = printed(capsys, *command.split(), "--help")
    assert said.startswith(f"usage: ufm {command}".rstrip())
    assert said.endswith(examples(command or "--help") + "\n")
    assert re.search(r"\bufm [\w-]+", examples(command)).group() == f"ufm {command or 'solve'}"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_example_is_a_command_that_can_be_read(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("dim = 8")
    found = re.findall(r"\bufm \w.*?(?=  | >|\n|$|\))", examples(command))
    assert found
    for line in found:
        _, *arguments = shlex.split(line)
        if "--help" in arguments:
            printed(capsys, *arguments)
        else:
            assert isinstance(parse(arguments), COMMANDS[arguments[0]])


def test_help_of_solve_explains_every_option(capsys):
    said = printed(capsys, "solve", "--help")
    for name in COMMANDS["solve"].__struct_fields__:
        flag = f"--{name.replace('_', '-')}"
        assert re.search(rf"{flag}\b", said), flag
    assert "with the names below and _ for -: seed = 4" in unboxed(said)


def test_help_of_the_whole_command_has_a_sentence_for_each(capsys):
    said = unboxed(printed(capsys, "--help"))
    for name, command in COMMANDS.items():
        first, _, rest = command.__doc__.partition("\n")
        assert f"• {name} {first}" in said
        assert " ".join(rest.split())[:40] not in said or not rest.strip()


def test_help_imports_nothing_slow():
    code = (
        "import sys, ufm.cli\n"
        "try: ufm.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'numpy', 'matplotlib', 'yaml', 'optax'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_solving_and_its_table_import_neither_matplotlib_nor_optax_nor_scipy():
    code = (
        "import sys, ufm.runs.many_starts, ufm.runs.run_folder, ufm.runs.loss_result\n"
        "import ufm.runs.loss_summary, ufm.report.runs.latex\n"
        "assert not {'matplotlib', 'optax', 'scipy'} & set(sys.modules)\n"
        "from ufm.report import figure_files\n"
        "assert 'matplotlib' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    "line",
    [
        "from ufm.cli.parsing.jax import configure; configure()",
        "import ufm; ufm.enable_compilation_cache()",
    ],
    ids=["command", "library"],
)
def test_every_program_is_kept_for_the_next_run(tmp_path, line):
    code = (
        f"{line}\n"
        "import jax, jax.numpy as jnp\n"
        "jax.jit(lambda x: x + 1.0)(jnp.zeros(3)).block_until_ready()\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list((tmp_path / "ufm" / "jax").glob("jit__lambda*"))


# Completion ----------------------------------------------------------------------------------


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    ask = (
        f"source {shlex.quote(str(script))}\n"
        f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        "run=$(complete -p ufm); run=${run#*-F }; ${run%% *} ufm\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_and_options(tmp_path, capsys):
    script = tmp_path / "ufm.bash"
    script.write_text(printed(capsys, "completion", "bash"))
    subprocess.run(["bash", "-n", script], check=True)
    assert completed(script, "ufm", "so") == ["solve"]
    assert set(completed(script, "ufm", "")) >= set(COMMANDS)
    assert completed(script, "ufm", "solve", "--lam") == [
        *("--lam-w", "--lam-h", "--lam-b", "--lam-hidden")
    ]
    assert completed(script, "ufm", "solve", "--method", "heavy") == ["heavy_ball"]


def test_other_shells_have_scripts_of_their_own(capsys):
    assert printed(capsys, "completion", "zsh").startswith("#compdef ufm")
    assert "function _tyro_ufm" in printed(capsys, "completion", "fish")
    with pytest.raises(SystemExit) as stop:
        main(["completion", "powershell"])
    assert stop.value.code == 2
    assert "bash" in capsys.readouterr().err


# Citations -----------------------------------------------------------------------------------


def entries(text: str) -> dict[str, dict[str, str]]:
    """BibTeX by key; a reader that shares nothing with the writer."""
    found = {}
    for kind, key, body in re.findall(r"@(\w+)\{([^,]+),\n(.*?)\n\}", text, re.DOTALL):
        fields = re.findall(r"^  (\w+) += \{(.*)\},$", body, re.MULTILINE)
        assert len(fields) == len(body.splitlines())
        found[key] = {"kind": kind, **dict(fields)}
    return found


def test_the_papers_are_cited(capsys):
    found = entries(printed(capsys, "cite"))
    assert list(found) == ["ufm", "zhou2022all", "zhu2021geometric", "zhou2022optimization"]
    # arXiv numbers, first and last authors as in the papers.
    expected = {
        "zhou2022all": ("2210.02192", "Zhou, Jinxin", "Zhu, Zhihui", "2022"),
        "zhu2021geometric": ("2105.02375", "Zhu, Zhihui", "Qu, Qing", "2021"),
        "zhou2022optimization": ("2203.01238", "Zhou, Jinxin", "Zhu, Zhihui", "2022"),
    }
    for key, (eprint, first, last, year) in expected.items():
        entry, authors = found[key], found[key]["author"].split(" and ")
        assert (entry["eprint"], authors[0], authors[-1], entry["year"]) == (
            eprint, first, last, year
        )  # fmt: skip
        assert entry["kind"] == "inproceedings"
        assert entry["title"].startswith("{")


def test_citations_say_what_the_citation_file_says(capsys):
    file = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    software, *papers = entries(printed(capsys, "cite")).values()
    assert software["title"] == f"{{{file['title']}}}"
    assert software["note"] == f"Version {file['version']}"
    assert software["author"] == "{The ufm authors}"
    for entry, reference in zip(papers, file["references"], strict=True):
        assert entry["title"] == f"{{{reference['title']}}}"
        assert entry["booktitle"] == reference["collection-title"]
        assert len(entry["author"].split(" and ")) == len(reference["authors"])


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    file = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert file["version"] == version("ufm")


def test_the_version_in_the_usual_places(capsys):
    version = importlib.metadata.version("ufm")
    assert printed(capsys, "--version") == printed(capsys, "version")
    assert ufm.__version__ == version
    assert "__version__" in dir(ufm)
    assert printed(capsys, "--version").split()[:2] == ["ufm", version]
