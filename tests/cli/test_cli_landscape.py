"""`ufm landscape`: what is printed and stored, after interruptions, and bad input."""

import contextlib
import copy
import json
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import complaint
from figures import names_of
from landscapes import DECAYS, EFFORT, SIZES, small_census
from model_oracle import objective_and_gradient

from ufm import Params, load_classifier
from ufm._support import quick_jit
from ufm.cli import main
from ufm.cli.output.landscape_output import conclusions, notes
from ufm.landscape.stored import census_entry

#: The census of landscapes.py.
SMALL = [
    part
    for name, value in (SIZES | DECAYS | EFFORT).items()
    for part in (f"--{name.replace('_', '-')}", str(value))
]
FILES = ["ce.csv", "ce.json", "ce.npz", "config.json", "results.json", "table.tex"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def quick(monkeypatch):
    """The search itself replaced by what it found before; its calls are counted."""
    calls = []

    def explore(problem, key, **options):
        calls.append(options)
        return small_census()

    monkeypatch.setattr("ufm.landscape.explore", explore)
    return calls


def landscape(*options: str) -> int:
    return main(["landscape", *SMALL, "--losses", "ce", "--out", "run", *options])


def refused(capsys, *options: str) -> str:
    return complaint(capsys, "landscape", *options)


def stored(name: str = "run/ce.json"):
    return json.loads(Path(name).read_text(encoding="utf-8"))


# What is written ---------------------------------------------------------------------------------


def test_the_search_itself_is_stored_and_printed(capsys):
    assert landscape("--save-points") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert sorted(os.listdir("run")) == sorted([*FILES, "points"])
    entry, census = stored(), small_census()
    assert [point["value"] for point in entry["points"]] == [p.value for p in census.points]
    total = len(census.points)
    said = (
        f"CE: {total} critical points found: 1 global minimum, {total - 1} strict saddles; no "
        "local minimum above the lowest was found."
    )
    assert said in printed.out
    # The list is short: the index of the origin, and its zeros.
    assert re.search(r" 0 +18 +0 \(0\) ", printed.out)
    for number, point in enumerate(entry["points"]):
        layer = load_classifier(f"run/points/ce-{number:03d}.npz")
        assert (layer.problem.dim, float(layer.problem.lam_h)) == (6, DECAYS["lam_h"])
        value, gradient = objective_and_gradient(layer.problem, layer.params)
        assert value == pytest.approx(point["value"], rel=1e-13)
        assert np.linalg.norm(gradient) < 2e-10
        assert np.linalg.norm(gradient) == pytest.approx(point["grad_norm"], abs=1e-13)


def test_every_loss_counts_its_runs_anew(monkeypatch):
    counts = []

    def explore(problem, key, **options):
        counts.append(quick_jit._count.get())
        return small_census()

    monkeypatch.setattr("ufm.landscape.explore", explore)
    assert landscape("--losses", "ce", "ls") == 0
    assert len({None, *counts}) == 3


def test_arrays_are_the_points_of_the_search_space(quick, capsys):
    assert landscape() == 0
    (options,) = quick
    assert options["root_starts"] == EFFORT["root_starts"]
    assert options["descend"] is True
    with np.load("run/ce.npz", allow_pickle=False) as file:
        arrays = dict(file)
    census = small_census()
    assert arrays["W"].shape == (len(census.points), 4, 4)
    W, H = arrays["W"], arrays["H"]
    for i, point in enumerate(census.points):
        Z = np.linalg.svd(W[i] @ H[i], compute_uv=False)
        np.testing.assert_allclose(Z, point.singular_values, atol=1e-12)
        product = point.direction
        assert isinstance(product, Params)
        np.testing.assert_array_equal(arrays["direction_W"][i], product.W)
    assert jnp.linalg.norm(arrays["direction_H"][0]) <= 1.0 + 1e-12
    assert Path("run/ce.npz").stat().st_size < 20_000


def test_a_point_can_be_certified(quick, capsys):
    assert landscape("--save-points") == 0
    last = sorted(Path("run/points").iterdir())[-1]
    capsys.readouterr()
    assert main(["certify", str(last), "--json"]) == 0
    assert '"STRICT_SADDLE"' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["spectrum", "run/ce.npz"])
    assert "ufm landscape --config run/config.json --out run --save-points" in (
        capsys.readouterr().err
    )


def test_json_is_all_that_is_printed(quick, capsys):
    assert landscape("--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == stored("run/results.json")
    assert printed["losses"] == [stored()]
    assert printed["losses"][0]["verdicts"]["GLOBAL_MINIMUM"] == 1
    assert printed["losses"][0]["root_finder"]["starts"] == EFFORT["root_starts"]


# In a folder that is there -----------------------------------------------------------------------


def test_a_finished_folder_is_printed_and_drawn_without_a_search(quick, monkeypatch, capsys):
    assert landscape("--no-descents") == 0
    assert quick[0]["descend"] is False
    first = capsys.readouterr().out
    monkeypatch.setattr("ufm.landscape.explore", None)  # would raise if called
    assert landscape("--no-descents", "--figures") == 0
    again = capsys.readouterr()
    assert again.err == "ce: already in run\n"
    assert again.out in first  # but for the command that draws
    names = names_of("connections", "curvature", "flow", "index")
    assert set(os.listdir("run/figures")) == names
    assert main(["landscape", "--config", "run/config.json", "--out", "run"]) == 0


def test_an_interrupted_search_goes_on_where_it_was(quick, monkeypatch, capsys):
    explore = __import__("ufm").landscape.explore

    def stopped(problem, key, **options):
        if quick:
            raise KeyboardInterrupt
        return explore(problem, key, **options)

    with monkeypatch.context() as patch:
        patch.setattr("ufm.landscape.explore", stopped)
        assert landscape("--losses", "ce", "mse") == 130
    assert "1 of 2 losses are done. Continue with --out run" in capsys.readouterr().err
    assert sorted(os.listdir("run")) == ["ce.csv", "ce.json", "ce.npz", "config.json"]
    assert landscape("--losses", "ce", "mse", "--json") == 0
    assert "ce: already in run" in capsys.readouterr().err
    assert len(quick) == 2
    assert "another configuration" in refused(capsys, *SMALL, "--seed", "7", "--out", "run")


def test_what_was_stored_and_cannot_be_read_is_named(quick, capsys):
    assert landscape() == 0
    whole = Path("run/ce.npz").read_bytes()
    Path("run/ce.npz").write_bytes(whole[:200])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        landscape("--save-points")
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ufm: error: run/ce.npz cannot be read")
    assert "remove it and the .json beside it" in error


def fields_of(value, path=()):
    """The ways to every field of an object, of lists to that of the first entry."""
    if isinstance(value, list):
        yield from fields_of(value[0], (*path, 0)) if value else ()
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from fields_of(inner, (*path, name))


def test_a_field_that_is_missing_is_named_with_its_own_file(quick, capsys, full):
    """Of each file of JSON, and never is the .npz beside it blamed."""
    assert landscape() == 0
    whole = json.loads(Path("run/ce.json").read_text())
    missed = set()
    told = {"points", "verdicts", "minimum", "reason", "hits", "verdict", "searches"}
    ways = {way[-1]: way for way in fields_of(whole)}
    # Of the others one in six: each costs what printing the whole folder costs.
    chosen = list(ways) if full else [*told, *[name for name in ways if name not in told][::6]]
    for *way, name in map(ways.get, chosen):
        entry = copy.deepcopy(whole)
        inner = entry
        for step in way:
            inner = inner[step]
        del inner[name]
        Path("run/ce.json").write_text(json.dumps(entry))
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            landscape()
        if error := capsys.readouterr().err.partition("ufm: error: ")[2]:
            said = f"run/ce.json cannot be read (the field {name!r} is missing): remove it or"
            assert error.startswith(said)
            missed.add(name)
    assert missed >= told


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--root-starts -1", "--root-starts must be at least 0, got -1"),
        ("--starts-per-rank -2", "--starts-per-rank must be at least 0, got -2"),
        ("--lam-w 0", "a search for critical points needs lam_w > 0 and lam_h > 0"),
        ("--lam-h nan", "lam_h must be non-negative and finite, got nan"),
        ("--losses hinge", "unknown loss 'hinge': choose ce, ls:ALPHA, fl:GAMMA or mse:"),
        ("--num-classes 64 --dim 64", "the class means have 8,256 dimensions, and a census takes"),
        ("--counts 1000000000000 2", "2 classes, 1,000,000,000,002 samples and 11 dimensions make"),
        ("--seed -1", "--seed must be in [0, 2^32), got -1"),
        ("--root-start", "Unrecognized options: --root-start; perhaps you meant --root-starts"),
    ],
)
def test_bad_options_are_one_line_and_no_folder(options, message, capsys):
    assert refused(capsys, *options.split(), "--out", "run").startswith(message)
    assert os.listdir() == []


def test_a_file_of_options_is_named_where_it_is_refused(capsys):
    Path("mine.toml").write_text("flows = -3\n")
    assert refused(capsys, "--config", "mine.toml") == (
        "--flows must be at least 0, got -3 (with options from mine.toml and flags)"
    )


SIZES_3 = ("--num-classes", "3", "--per-class", "2", "--dim", "3")
HIDDEN = (*SIZES_3, "--lam-b", "None", "--lam-hidden", "5e-3")


def test_hidden_layers_have_the_list_of_squared_error(capsys):
    options = ["landscape", *HIDDEN, "--losses", "mse", "--out", "run", "--no-descents"]
    assert main([*options, "--figures"]) == 0
    assert "MSE: the list is complete by theory" in capsys.readouterr().out
    assert [x["index"] for x in stored("run/mse_1.0_1.0.json")["points"]].count(0) == 4
    assert sorted(x.stem for x in Path("run/figures").glob("*.csv")) == ["connections", "index"]


def test_hidden_layers_and_other_losses_or_files_are_refused(capsys):
    assert "all critical points are known for squared error" in complaint(
        capsys, "landscape", *HIDDEN, "--losses", "ce"
    )
    assert "leave it out with --lam-hidden" in complaint(
        capsys, "landscape", *HIDDEN, "--losses", "mse", "--save-points"
    )
    assert not list(Path().iterdir())


# In words ----------------------------------------------------------------------------------------


@pytest.fixture
def entry():
    return copy.deepcopy(census_entry(small_census(), 1.0))


def test_local_minima_are_said_first(entry):
    entry["verdicts"] |= {"LOCAL_MINIMUM": 2, "UNDECIDED": 1}
    entry["counterexamples"] = 2
    (line,) = conclusions(entry)
    assert ", 2 local minima, 1 undecided; 2 of them are local minima that are not global." in line
    entry["counterexamples"] = 1
    assert "1 of them is a local minimum that is not global." in conclusions(entry)[0]


def test_limits_of_the_search_are_said(entry):
    assert notes(entry) == []
    entry["is_complete_space"] = False
    entry["partitions_total"] = 627
    entry["points"][1]["is_degenerate"] = True
    entry["searches"][2] |= {"gradient_flat": 3, "unfinished": 2}
    entry["note"] = "something was left out"
    entry["minimum"] |= {"is_exact": False, "reason": "a gap remains"}
    said = notes(entry)
    assert said[0] == "f* is unknown: a gap remains"
    assert said[1].startswith("only points with equal features within classes were searched")
    assert said[2] == "5 of 627 partitions were searched, drawn at random"
    assert said[3].startswith("1 point has more zero eigenvalues than symmetry forces")
    starts = sum(search["starts"] for search in entry["searches"])
    assert said[4] == (
        f"of {starts} searches, 3 ended at gradient-flat points (∇²f ∇f = 0, ∇f ≠ 0) and 2 at no "
        "critical point: not counted"
    )
    assert said[5] == "something was left out"
