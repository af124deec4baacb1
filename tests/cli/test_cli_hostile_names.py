"""Names, titles and messages from outside: no command and no page passes them on as they are."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from images import write_images

from sweeps import TINY, finished_store, written
from ufm._support.strict_json import dumps
from ufm._support.text import command, plain, plain_lines
from ufm.cli import main
from ufm.cli.output.progress import progress, sweep_progress, waiting
from ufm.sweep import Progress

#: Markup of rich, a code of an emoji, control characters of seven and of eight bits, a line break,
#: marks of direction, and a byte that is no UTF-8; as a path two folders and a file.
WORST = "q[/b][/bold][red]:cat:\x1b[31m\x1b]0;t\x07\x9b31mtwo\nlines\u202egpj\u2066caf\udce9"
#: The same as one name, and as a text that UTF-8 can say.
NAME = WORST.replace("/", "")
TEXT = NAME.replace("\udce9", "")
SMALL = ["--num-classes", "4", "--dim", "6", "--per-class", "5", "--losses", "ce"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return finished_store(tmp_path_factory.mktemp("whole"))[1]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    jax.config.update("jax_enable_x64", True)


def shown(capsys, *arguments: str) -> str:
    """What the command printed, which is safe; it ends well, or with one line and code 2."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert [x for x in out + err if not (x.isprintable() or x == "\n")] == []
    if code:
        assert (code, err.count("\n")) == (2, 1)
        assert err.startswith("ufm: error: ")
    return out + err


def occupied(name: str) -> str:
    """A file in the place where a folder of results should be."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("precious")
    return name


#: What takes a file, a folder or a word from outside, by how it refuses it. "tiny" is a sweep.
REFUSED = [
    "{}", "solve {}", "solve --losses {}", "solve --method {}",
    "solve --config {}", "solve --out {occupied}",
    "certify {}", "certify {occupied}",
    "spectrum {}", "spectrum {occupied}", "spectrum --config {}", "spectrum --losses {}",
    "landscape --config {}", "landscape --losses {}", "landscape --out {occupied}",
    "hunt --config {}", "hunt --losses {}", "hunt --out {occupied}",
    "train --config {}", "train --data {}", "train --data {occupied}.npz", "train --losses {}",
    "train --out {occupied}",
    "sweep {}", "sweep {occupied}", "sweep tiny.toml --out {occupied}",
    "sweep tiny.toml --shard {}",
    "store query {} --store tiny", "store query 1 --store {}", "store export {} --store tiny",
    "store export {}/x/y.csv --store tiny", "store reindex --store {}", "store {}",
    "report {}",
    "cite {}", "completion {}", "version {}",
]  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_is_named_as_text(line, store, capsys):
    written(Path.cwd())
    Path("tiny").symlink_to(store)
    words = [word.format(WORST, occupied=WORST) for word in line.split()]
    if "{occupied}" in line:
        occupied(next(word for word in words if WORST in word))
    said = shown(capsys, *words)
    assert plain(WORST) in said or plain(" ".join(WORST.split())) in said


# What ends well ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    """A last layer beside an array of a hostile name, as numpy.savez takes any."""
    path = tmp_path_factory.mktemp("layer") / f"{NAME}.npz"
    rng = np.random.default_rng(0)
    W, H, labels = rng.normal(size=(4, 6)), rng.normal(size=(6, 20)), np.arange(20) % 4
    numbers = {"lam_w": 1e-3, "lam_h": 1e-3, "lam_b": 1e-2, "loss": "ce", TEXT: 1.0}
    np.savez(path, W=W, H=H, b=np.zeros(4), labels=labels, **numbers)
    return path


DONE = [
    "solve {small} --max-steps 0 --starts 1 --out {}",
    "solve {small} --max-steps 0 --starts 1 --out {} --json",
    "certify {layer} --out {}", "certify {layer} --out {} --json",
    "spectrum {layer} --out {}", "spectrum {small} --out {} --json",
    "sweep tiny.toml --out {}", "sweep tiny.toml --out {} --json",
    "sweep tiny.toml --out {} --dry-run",
    "store export {}.csv --store tiny",
    "train --data {}.npz --width 8 --depth 1 --epochs 6 --batch-size 10 --measurements 3 "
    "--losses ce --learning-rate 0.1 --out {}",
    "solve --config {}.toml --help",
]  # fmt: skip


@pytest.mark.parametrize("line", DONE)
def test_what_is_done_is_told_as_text(line, store, layer, capsys):
    """A finished sweep in the folder {}; its title is hostile too."""
    written(Path.cwd(), TINY.replace('"tiny"', json.dumps(TEXT)))
    Path("tiny").symlink_to(store)
    write_images(Path(f"{NAME}.npz"))
    Path(f"{NAME}.toml").write_text(f"losses = [{json.dumps(TEXT)}]\nout = {json.dumps(TEXT)}\n")
    if line.startswith("sweep"):
        shutil.copytree(store, NAME)
    words = [word.format(NAME, small="\0", layer=layer) for word in line.split()]
    said = shown(capsys, *(x for word in words for x in (SMALL if word == "\0" else [word])))
    if "--json" in line:
        assert json.loads(said).get("folder", NAME) == NAME
    elif not line.endswith(("--dry-run", "--help")):
        assert plain(NAME) in said


def test_a_page_shows_what_is_in_the_folder_as_text(store, capsys):
    """A title, a setting and an environment that somebody wrote into the folder."""
    folder = Path(shutil.copytree(store, NAME))
    manifest = json.loads((folder / "sweep.json").read_text())
    manifest["environment"]["processor"] = f"<script>{TEXT}"
    manifest["config"]["title"] = f"<b>{TEXT}"
    (folder / "sweep.json").write_text(dumps(manifest))
    assert plain(NAME) in shown(capsys, "report", NAME)
    page = (folder / "report.html").read_text()
    assert [x for x in page if not (x.isprintable() or x in "\n\xa0")] == []
    assert f"&lt;b&gt;{plain_lines(TEXT)}" in page
    assert "<script>" not in page


def test_bars_of_progress_show_titles_as_text(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "500")
    with sweep_progress(TEXT) as tell:
        tell(Progress(0, 1, 2, (TEXT,)))
    with progress(TEXT, 2) as advance:
        advance()
    with waiting(TEXT):
        pass
    said = capsys.readouterr().err
    assert said.count(plain(TEXT)) >= 4
    assert "q[b]" in said
    assert [x for x in ("\x1b[31m", "\x1b]0", "\x07", "\x9b", "\u202e", "two\n") if x in said] == []


# The functions -----------------------------------------------------------------------------------


def test_plain_escapes_what_is_not_printed_and_nothing_else():
    everything = "".join(map(chr, [*range(0x10000), *range(0xE0000, 0xE0200)]))
    said = plain(everything)
    assert said.isprintable()
    assert plain(said) == said
    assert plain("λ_W ≤ ½ [b] ‖G‖₂ 数") == "λ_W ≤ ½ [b] ‖G‖₂ 数"
    assert plain("a\nb") == r"a\nb"
    assert plain_lines("a\n\x1b\n") == "a\n\\x1b\n"


def test_json_is_printable_and_reads_back():
    everything = "".join(map(chr, [*range(0x3000), 0xDCE9, 0xFFF9, 0xD800, 0x1F600, 0xE0001]))
    assert all(x.isprintable() or x == "\n" for x in dumps([everything]))
    assert json.loads(dumps([everything])) == [everything]
    assert "λ" in dumps("λ")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to read it")
def test_a_command_reads_back_as_the_words_it_was_made_of():
    words = [NAME, "plain", "two words", "it's", "a\\b\x1bc'd", "\x9b", "\U000e0001", ""]
    line = command("printf", r"%s\0", *words)
    assert line.isprintable()
    said = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True).stdout
    assert [os.fsdecode(word) for word in said.split(b"\0")[:-1]] == words
