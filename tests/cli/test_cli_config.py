"""`--config`: a file of options, what flags do to it, and how it says no."""

import json
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import complaint

from ufm.cli import COMMANDS, main, parse
from ufm.cli.solve import Solve
from ufm.networks import objective_specs

#: What test_cli.py uses, so that the programs are compiled once.
FILE = """
losses = ["ce"]
num_classes = 3
dim = 3
per_class = 2
starts = 2
lam_b = 0.01
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    yield
    jax.config.update("jax_enable_x64", True)


def written(text: str | bytes, name: str = "mine.toml") -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def refused(capsys, *arguments: str) -> str:
    return complaint(capsys, "solve", *arguments)


def test_the_file_replaces_defaults_and_flags_replace_the_file():
    file = written(FILE + "figures = true\n")
    found = parse(["solve", "--seed", "7", "--config", file, "--dim", "5"])
    assert (found.num_classes, found.dim, found.seed, found.losses) == (3, 5, 7, ("ce",))
    assert found.figures is True
    assert found.lam_w == Solve().lam_w
    same = parse(["solve", "--seed", "7", f"--config={file}", "--dim", "5"])
    assert same == found


def test_every_field_can_stand_in_a_file_and_be_a_flag():
    fields = [name for name in Solve.__struct_fields__ if name != "config"]
    other = """
    losses = ["mse"]\nnum_classes = 4\ndim = 9\nper_class = 3\ncounts = [1, 2]\nlam_w = 1\n
    targets = "y.npz"\ntargets_sha256 = "a"\n
    features = "sphere"\nclassifier = "etf"\ntemperature = 0.5\nlam_hidden = [0.1]\n
    hidden_dims = [3]\n
    lam_h = 0.25\nlam_b = "None"\nstarts = 1\nscale = 2\nseed = 9\nmethod = "adam"\ntol = 1e-3\n
    gap_tol = 0.5\nmax_steps = 17\nfloat32 = true\nout = "there"\nsave = "all"\nfigures = true\n
    json = true
    """
    assert set(tomllib.loads(other)) == set(fields)
    flags = (
        "--losses mse --num-classes 4 --dim 9 --per-class 3 --counts 1 2 --targets y.npz "
        "--targets-sha256 a --lam-w 1 --features sphere --classifier etf --temperature 0.5 "
        "--lam-hidden 0.1 --hidden-dims 3 "
        "--lam-h 0.25 --lam-b None --starts 1 --scale 2 --seed 9 --method adam --tol 1e-3 "
        "--gap-tol 0.5 "
        "--max-steps 17 --float32 --out there --save all --figures --json"
    )
    from_file, from_flags = parse(["solve", "--config", written(other)]), parse(
        ["solve", *flags.split()]
    )  # fmt: skip
    for name in fields:
        assert getattr(from_file, name) == getattr(from_flags, name) != getattr(Solve(), name), name
        assert type(getattr(from_file, name)) is type(getattr(from_flags, name)), name


def test_a_run_repeats_from_the_configuration_in_its_folder(capsys):
    assert main(["solve", "--config", written(FILE), "--lam-b", "None", "--out", "first"]) == 0
    assert main(["solve", "--config", "first/config.json", "--out", "again"]) == 0
    assert Path("again/config.json").read_bytes() == Path("first/config.json").read_bytes()
    assert json.loads(Path("first/config.json").read_text())["lam_b"] is None
    with np.load("first/ce.npz") as first, np.load("again/ce.npz") as again:
        assert set(first) == set(again) > {"W", "H"}
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lam_v = 1", "unknown field 'lam_v'; perhaps you meant 'lam_w'"),
        ("num-classes = 3", "unknown field 'num-classes'; perhaps you meant 'num_classes'"),
        ("config = 'other.toml'", "unknown field 'config'; known are seed, losses, num_classes,"),
        ("dim = 'x'", "dim: expected int, got str"),
        ("dim = 2.5", "dim: expected int, got float"),
        ("starts = true", "starts: expected int, got bool"),
        ("losses = 'ce'", "losses: expected array, got str"),
        ("losses = ['ce', 3]", "losses[1]: expected str, got int"),
        ("out = 3", "out: expected str, got int"),
        ("method = 'sgd'", "method: choose one of newton, lbfgs, gradient_descent, heavy_ball, "),
        ("[solve]\ndim = 3", "unknown field 'solve'"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(text, message, capsys):
    said = refused(capsys, "--config", written(text), "--out", "run")
    assert said.startswith(f"mine.toml: {message}")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.toml", "dim 3", "mine.toml is not TOML: Expected '=' after a key"),
        ("mine.toml", "dim = 3\ndim = 4", "mine.toml is not TOML: Cannot overwrite a value"),
        ("mine.toml", b"\x93NUMPY\xff", "mine.toml is not TOML: it is not UTF-8 text"),
        ("mine.json", '{"dim": 3', "mine.json is not JSON: Expecting ',' delimiter"),
        ("mine.json", "[3]", "mine.json must hold fields and their values, as in config.json"),
    ],
)
def test_what_is_no_file_of_options_is_refused(name, content, message, capsys):
    assert refused(capsys, "--config", written(content, name)).startswith(message)


def test_a_file_that_cannot_be_read_is_named(capsys):
    assert refused(capsys, "--config", "nowhere.toml") == "nowhere.toml: No such file or directory"
    assert refused(capsys, "--config", ".") == ".: Is a directory"


def test_a_value_out_of_range_says_where_options_come_from(capsys):
    said = refused(capsys, "--config", written("lam_w = -1"), "--out", "run")
    assert said == (
        "lam_w must be non-negative and finite, got -1.0 (with options from mine.toml and flags)"
    )
    assert not Path("run").exists()


def test_only_five_have_a_file_and_no_other_word_is_taken_for_one(capsys):
    assert [
        name for name, c in COMMANDS.items() if "config" in getattr(c, "__struct_fields__", ())
    ] == ["solve", "spectrum", "landscape", "hunt", "train"]
    for arguments in (["solve", "--config"], ["version", "--config", written(FILE)]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["none", "NONE", "None"])
@pytest.mark.parametrize("joined", [False, True])
def test_none_is_read_in_any_case_where_a_number_may_be_left_out(value, joined):
    def read(command: str, flag: str):
        return parse([command, f"{flag}={value}"] if joined else [command, flag, value])

    assert read("solve", "--lam-b").lam_b is None
    assert read("solve", "--lam_b").lam_b is None
    assert read("solve", "--max-steps").max_steps is None
    assert read("hunt", "--lam-b").lam_b is None
    assert read("train", "--per-class").per_class is None


def test_none_is_a_word_where_it_means_something():
    assert parse(["train", "--norm", "none"]).norm == "none"
    assert parse(["solve", "--save", "none"]).save == "none"
    assert parse(["solve", "--out", "none"]).out == Path("none")


def test_losses_with_commas_are_those_with_spaces(capsys):
    for command in ("solve", "landscape"):
        found = parse([command, "--losses", "CE,mse:1,2", "ls:0.2"]).problems()
        assert list(found) == ["ce", "mse:1.0,2.0", "ls:0.2"]
    assert [loss.label() for loss in parse(["hunt", "--losses", "fl:1,fl:5"])._space().losses] == [
        "FL(γ=1)", "FL(γ=5)",
    ]  # fmt: skip
    assert objective_specs(("ce,mse:1,15",)) == ("ce", "mse:1.0,15.0")
    assert refused(capsys, "--losses", "ce,CE") == "--losses names a loss twice: ce CE"
    said = refused(capsys, "--losses", "ce,hinge")
    assert said.startswith("unknown loss 'hinge': choose ce, ls:ALPHA, fl:GAMMA or mse:SCALE,")
