"""`ufm solve` on models that are not plain: verdicts, headline, tables, figures and refusals."""

import json
from pathlib import Path

import jax
import pytest
from commands import complaint

from ufm.cli import main

SIZES = ("--num-classes", "3", "--per-class", "2", "--dim", "4", "--starts", "1", "--losses")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize(
    ("options", "headline", "kind", "rank"),
    [
        (
            ("ce", "--features", "nonnegative", "--lam-w", "5e-3", "--lam-h", "5e-3"),
            "features in NonNegative()",
            "orthogonal frame",
            2,
        ),
        (
            *[("ce", "--classifier", "sphere", "--features", "sphere:2", "--temperature", "0.5")],
            "τ=0.5, classifier in Sphere(radius=1), features in Sphere(radius=2)",
            "simplex ETF",
            2,
        ),
        (("ce", "--classifier", "etf"), "classifier in Fixed(", "simplex ETF", 2),
        (("supcon:0.2",), "K=3, d=4, n=2, τ=0.2, no bias", "simplex ETF", 2),
        (
            ("supcon:0.2", "--features", "nonnegative"),
            "features in NonNegative()",
            "orthogonal frame",
            3,
        ),
    ],
)
def test_each_variant_is_solved_and_proven(options, headline, kind, rank, capsys):
    assert main(["solve", *SIZES, *options, "--out", "out"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert headline in printed
    assert "1 of 1 runs ended at a proven global minimum; 1 of 1 have the predicted" in printed
    (result,) = json.loads(Path("out/results.json").read_text())["losses"]
    assert (result["minimum"]["kind"], result["minimum"]["rank"]) == (kind, rank)
    table = Path("out/table.tex").read_text()
    assert "None" not in table
    assert "K=3" in table


def test_a_folder_is_repeated_and_drawn(capsys):
    given = ["ce", "--classifier", "sphere", "--features", "sphere"]
    assert main(["solve", *SIZES, *given, "--out", "out"]) == 0
    config = json.loads(Path("out/config.json").read_text())
    assert {"classifier", "features"} <= set(config)
    assert not {"lam_w", "lam_h", "temperature"} & set(config)
    assert main(["solve", "--config", "out/config.json", "--out", "out", "--figures"]) == 0
    assert "already in out" in capsys.readouterr().err
    drawn = {path.name for path in Path("out/figures").glob("*.png")}
    # σ(G) = μ is a law of two factors under weight decay.
    assert {"convergence.png", "collapse.png", "gram.png"} <= drawn
    assert "singular-values.png" not in drawn


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("solve", "--classifier sphere --lam-w 5e-4", "lam-w must be None"),
        ("solve", "--lam-w None", "lam-w must be a number, got None"),
        ("solve", "--features sphere --dim 1", "two points"),
        ("solve", "--losses supcon:x", "'x' is not a temperature"),
        ("solve", "--losses supcon supcon:0.5", "names a loss twice"),
        ("solve", "--losses supcon --temperature 0.1", "is not for supcon, whose temperature is"),
        ("solve", "--losses supcon --features ball:2", "on the unit sphere, or its part"),
        ("landscape", "--features sphere", "ufm.explore does not support problems with"),
        ("landscape", "--lam-hidden 0.1", "all critical points are known for squared error"),
        ("spectrum", "--lam-hidden 0.1 --at frame", "at must be 'minimum' for problems with"),
        ("spectrum", "--features sphere --at origin", "at must be 'minimum' for problems with"),
    ],
)
def test_what_is_refused_in_one_line(command, options, message, capsys):
    said = complaint(capsys, command, *options.split())
    assert message in said.replace("`lam_w`", "lam-w").replace("lam_w", "lam-w")


@pytest.mark.parametrize("options", [("--features", "nonnegative"), ("--classifier", "etf:2.0")])
def test_spectra_of_variants_are_written_and_drawn(options, capsys):
    given = ["spectrum", "--num-classes", "3", "--dim", "3", "--per-class", "2", "--losses", "ce"]
    assert main([*given, *options, "--out", "out", "--figures"]) == 0
    assert "Modulo rotations the Hessian is positive definite." in capsys.readouterr().out
    (found,) = json.loads(Path("out/spectrum.json").read_text())["spectra"]
    assert found[options[0].removeprefix("--")] == options[1]
    assert Path("out/figures/spectrum.png").exists()
