"""The TOML file of a sweep: what it expands to, and how it says no."""

import itertools
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sweeps import SIZES, TINY, loaded, written
from ufm import CrossEntropy, Problem, symmetric_minimum
from ufm._support import settings
from ufm.networks.sweeps.grid import NetworkSweepConfig, expand
from ufm.sweep import load_sweep

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"


def cells(folder, problem: str, loss: str = '["ce"]', rest: str = ""):
    text = f"loss = {loss}\n[problem]\n{SIZES}{problem}\n{rest}"
    return loaded(folder, text).cells


def test_the_last_axis_is_the_starts_and_the_first_the_losses(tmp_path):
    found = cells(
        tmp_path,
        "lam_w = [1e-3, 1e-2]\nlam_h = [5e-3, 5e-2, 5e-1]",
        '["ce", "ls:0.2"]',
        "[start]\ncount = 2\nseed = [3, 4]",
    )
    expected = itertools.product(("ce", "ls:0.2"), (1e-3, 1e-2), (5e-3, 5e-2, 5e-1), (3, 4), (0, 1))
    assert [(c.loss, c.spec.lam_w, c.spec.lam_h, c.seed, c.start) for c in found] == list(expected)
    assert [c.index for c in found] == list(range(48))
    assert {c.spec.lam_b for c in found} == {1e-2}


def test_ranges_have_the_ends_as_written_and_equal_steps(tmp_path):
    found = cells(
        tmp_path,
        'lam_w = { from = 1e-5, to = 1e-2, num = 4, spacing = "log" }\n'
        "lam_h = { from = 0.1, to = 0.7, num = 3 }",
    )
    assert [c.spec.lam_w for c in found[::3]] == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2], rel=1e-14)
    assert (found[0].spec.lam_w, found[-1].spec.lam_w) == (1e-5, 1e-2)
    assert [c.spec.lam_h for c in found[:3]] == pytest.approx([0.1, 0.4, 0.7])


def test_hyperparameters_of_a_loss_are_axes_too(tmp_path):
    found = cells(
        tmp_path,
        'lam_w = 1e-3\nlam_h = "lam_w"\nlam_b = [0.0, "none"]',
        '[{ name = "ls", alpha = [0.0, 0.3] }, { name = "mse", scale = [1, 5], target = 3 }]',
    )
    assert [(c.loss, c.spec.lam_b) for c in found] == [
        ("ls:0.0", 0.0), ("ls:0.0", None), ("ls:0.3", 0.0), ("ls:0.3", None),
        ("mse:1.0,3.0", 0.0), ("mse:1.0,3.0", None), ("mse:5.0,3.0", 0.0), ("mse:5.0,3.0", None),
    ]  # fmt: skip
    assert {c.spec.lam_h for c in found} == {1e-3}
    assert {c.program.has_bias for c in found} == {True, False}
    assert len({c.program for c in found}) == 4


def test_decays_relative_to_the_threshold(tmp_path):
    """CE and LS collapse at μ = (1 − α)/(K√n); MSE at 1/(K√n), in closed form."""
    times = 'lam_w = { values = [0.5, 2.0], times = "threshold" }\nlam_h = "lam_w"'
    found = cells(tmp_path, times, '["ce", "ls:0.2", "mse"]')
    for cell, (factor, share) in zip(
        found, itertools.product((1.0, 0.8, 1.0), (0.5, 2.0)), strict=True
    ):
        assert (
            cell.spec.lam_w == cell.spec.lam_h == pytest.approx(factor * share / (4 * math.sqrt(5)))
        )
        rho = float(symmetric_minimum(cell.spec.problem()).rho)
        assert (rho == 0) == (share > 1)


def test_random_draws_are_the_same_every_time_and_differ_between_fields(tmp_path):
    draw = '{ from = 1e-4, to = 1e-1, num = 200, spacing = "log_uniform" }'
    text = f"loss = ['ce']\ncombine = 'zip'\n[problem]\n{SIZES}lam_w = {draw}\nlam_h = {draw}\n"
    first, again = loaded(tmp_path, text).cells, loaded(tmp_path, text).cells
    assert first == again
    assert len(first) == 200
    logs = np.log10([[c.spec.lam_w, c.spec.lam_h] for c in first])
    assert -4 <= logs.min() < -3.9 < -1.1 < logs.max() <= -1
    # Uniform on an interval of length 3: mean −2.5, standard deviation 3/√12, errors 1/√200.
    np.testing.assert_allclose(logs.mean(axis=0), -2.5, atol=3 * 3 / math.sqrt(12 * 200))
    assert abs(np.corrcoef(logs.T)[0, 1]) < 3 / math.sqrt(200)
    other = loaded(tmp_path, text + "[start]\nseed = 1\n").cells
    assert not {c.spec.lam_w for c in first} & {c.spec.lam_w for c in other}


def test_sizes_and_methods_are_programs_of_their_own(tmp_path):
    text = """
    loss = ["ce"]
    [problem]
    num_classes = 4
    per_class = { from = 1, to = 4, num = 6 }
    dim = [3, 6]
    lam_w = 1e-3
    lam_h = 1e-3
    [solver]
    method = ["newton", "lbfgs"]
    """
    found = loaded(tmp_path, text).cells
    assert {c.spec.class_counts for c in found} == {(n,) * 4 for n in (1, 2, 3, 4)}
    assert len({c.program for c in found}) == len(found) == 16
    text = 'loss=["ce"]\n[problem]\nclass_counts = [[4, 2, 1], [2, 2, 2]]\ndim=3\nlam_w=1\nlam_h=1'
    assert [c.spec.class_counts for c in loaded(tmp_path, text).cells] == [(4, 2, 1), (2, 2, 2)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dim = 6", "dim = 'x'", "problem.dim: expected int | table | array, got str"),
        ("dim = 6", "dmi = 6", "problem: unknown field 'dmi'; perhaps you meant 'dim'"),
        ("dim = 6", "", "problem: the field 'dim' is missing"),
        ("[start]", "[strat]", "unknown field 'strat'; perhaps you meant 'start'"),
        ("count = 2", "count = 0", "start: count must be between 1 and 1,000,000, got 0"),
        ("count = 2", "seed = -1", "start.seed must be in [0, 2^32), got -1"),
        ("count = 2", "count = 2\nscale = -1", "start.scale: it must be non-negative"),
        ("[1e-3, 0.5]", "[1e-3, -0.5]", "problem: lam_w must be non-negative and finite, got -0.5"),
        ("[1e-3, 0.5]", "[]", "problem.lam_w: a list needs at least one value"),
        ("[1e-3, 0.5]", "{ from = 1, to = 2, nmu = 3 }", "problem.lam_w: unknown field 'nmu'"),
        ("[1e-3, 0.5]", "{ from = 1, to = 2 }", "problem.lam_w: a range needs from, to and num"),
        ("[1e-3, 0.5]", "{ values = [1], num = 3 }", "problem.lam_w: a range has either values,"),
        (
            "[1e-3, 0.5]",
            "{ from = 0, to = 1, num = 3, spacing = 'log' }",
            "problem.lam_w: a range of spacing 'log' needs positive ends",
        ),
        (
            "[1e-3, 0.5]",
            "{ from = 1, to = 2, num = 3, spacing = 'lin' }",
            "problem.lam_w.spacing: choose one of linear, log, uniform, log_uniform",
        ),
        ("[1e-2, 0.5]", "'lam_v'", "problem.lam_h: choose one of lam_w, or a number"),
        ('["ce"]', '["xe"]', "loss[0]: unknown loss 'xe'"),
        ('["ce"]', '[{ name = "xe" }]', "loss[0].name: choose one of ce, ls, fl, mse"),
        ('["ce"]', '[{ name = "ls", gamma = 1 }]', "loss[0]: unknown field 'gamma'"),
        ('["ce"]', '[{ name = "ls", alpha = 2 }]', "loss[0]: alpha must be"),
        ('["ce"]', "[]", "loss needs at least one"),
        ("lam_w", "num = 3\nlam_w", "problem: unknown field 'num'"),
        ("num_classes = 4", "", "problem: give num_classes and per_class, or class_counts"),
        ("[1e-3, 0.5]", "inf", "problem: lam_w must be non-negative and finite, got inf"),
        ("[1e-3, 0.5]", "[nan]", "problem: lam_w must be non-negative and finite, got nan"),
        ("[1e-3, 0.5]", "{ from = 1, to = 2, num = 10000000000 }", "problem.lam_w: num must be"),
        (
            "[1e-3, 0.5]",
            "{ from = -1e308, to = 1e308, num = 3 }",
            "problem.lam_w: from and to must",
        ),
        (
            "[1e-3, 0.5]",
            "{ from = 2, to = 1, num = 3, spacing = 'uniform' }",
            "problem.lam_w: random numbers need from ≤ to",
        ),
        ("[1e-3, 0.5]", "{ from = 1, to = 2, num = 1 }", "problem.lam_w: num = 1 leaves out to"),
        (
            "[1e-3, 0.5]",
            "{ values = [1.0], spacing = 'log' }",
            "problem.lam_w: a range has either values,",
        ),
        ("dim = 6", "dim = { values = [6.4] }", "problem.dim: needs whole numbers, got 6.4"),
        ("dim = 6", f"dim = {10**12}", "problem: 4 classes, 20 samples and 1,000,000,000,000"),
        (
            "num_classes = 4",
            f"num_classes = {10**18}",
            "problem: 1,000,000,000,000,000,000 classes",
        ),
        (
            "[1e-3, 0.5]\nlam_h = [1e-2, 0.5]\n[start]\ncount = 2",
            "{ from = 1, to = 2, num = 3, spacing = 'uniform' }\nlam_h = 1.0\n[start]\nseed = -1",
            "start.seed must be in [0, 2^32), got -1",
        ),
        (
            "dim = 6",
            "dim = { values = [6.0], times = 'threshold' }",
            "problem.dim: only lam_w and lam_h can be multiples of the threshold",
        ),
        ("count = 2", "seed = []", "start.seed: a list needs at least one value"),
        (
            "count = 2",
            "[certificate]\ngap_tol = [0.1, nan]",
            "certificate.gap_tol must be in [0, 1)",
        ),
        ("count = 2", "[solver]\nmethod = 'sgd'", "solver: unknown method 'sgd'"),
        ("count = 2", "[solver]\ntol = -1", "solver: tol must be a non-negative gradient norm"),
        ("count = 2", "[certificate]\ngap_tol = 2", "certificate.gap_tol must be in [0, 1)"),
        ("count = 2", "count = 1000000", "the ranges make 4,000,000 cells, more than 1,000,000"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(tmp_path, old, new, message):
    assert old in TINY
    path = written(tmp_path, TINY.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is what is tested
        load_sweep(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: {message}")
    assert "\n" not in said


def test_ranges_that_advance_together_need_one_length(tmp_path):
    text = f"loss=['ce']\ncombine='zip'\n[problem]\n{SIZES}lam_w=[1e-3,1e-2]\nlam_h=[1,2,3]"
    with pytest.raises(ValueError, match=r"problem.lam_w has 2, problem.lam_h has 3"):
        loaded(tmp_path, text)


def test_relative_ranges_are_for_decays_of_balanced_problems(tmp_path):
    with pytest.raises(ValueError, match=r"problem.dim: only lam_w and lam_h"):
        loaded(tmp_path, TINY.replace("dim = 6", "dim = { values = [6], times = 'threshold' }"))
    text = """
    loss = ["ce"]
    [problem]
    class_counts = [3, 2]
    dim = 3\nlam_h = 1
    lam_w = { values = [0.5], times = "threshold" }
    """
    with pytest.raises(ValueError, match="needs balanced classes"):
        loaded(tmp_path, text)


def test_a_cell_is_the_problem_that_it_says(tmp_path):
    problem = loaded(tmp_path).cells[-1].spec.problem()
    expected = Problem.balanced(
        loss=CrossEntropy(), num_classes=4, per_class=5, dim=6, lam_w=0.5, lam_h=0.5, lam_b=1e-2
    )
    assert (problem.class_counts, problem.dim) == (expected.class_counts, expected.dim)
    assert (problem.lam_w, problem.lam_h, problem.lam_b) == (0.5, 0.5, 1e-2)


ALONG = {"every-loss": (4000, 4), "decays": (84, 2), "smoothing": (300, 1), "imbalance": (36, 12)}
ALONG |= {"focal-spurious": (110, 1), "threshold": (114, 3), "minority": (180, 18)}
ALONG |= {"temperature": (120, 3), "deep": (420, 6)}


@pytest.mark.parametrize("name", ALONG)
def test_the_sweeps_that_come_along(name):
    cells = load_sweep(SWEEPS / f"{name}.toml").cells
    assert (len(cells), len({cell.program for cell in cells})) == ALONG[name]


@pytest.mark.parametrize(("name", "cells"), [("digits", 40), ("collapse", 20), ("grid", 180)])
def test_the_sweeps_over_networks_that_come_along(name, cells):
    values = settings.read(SWEEPS / f"networks-{name}.toml")
    assert len(expand(settings.convert(values, NetworkSweepConfig))) == cells


def test_no_sweep_is_left_out():
    named = {*ALONG, "networks-digits", "networks-collapse", "networks-grid"}
    assert named == {path.stem for path in SWEEPS.glob("*.toml")}


def test_seeds_and_tolerances_of_the_gap_have_ranges_too(tmp_path):
    text = TINY.replace("count = 2", "seed = { from = 0, to = 6, num = 3 }")
    cells = loaded(tmp_path, text + "[certificate]\ngap_tol = [1e-6, 1e-3]\n").cells
    assert [(cell.seed, cell.gap_tol) for cell in cells[:6]] == [
        (0, 1e-6), (0, 1e-3), (3, 1e-6), (3, 1e-3), (6, 1e-6), (6, 1e-3),
    ]  # fmt: skip
    drawn = "seed = { from = 0, to = 4e9, num = 5, spacing = 'uniform' }"
    seeds = {cell.seed for cell in loaded(tmp_path, TINY.replace("count = 2", drawn)).cells}
    assert len(seeds) == 5


def test_a_mark_of_byte_order_is_read_past(tmp_path):
    (tmp_path / "mine.toml").write_text(TINY, encoding="utf-8-sig")
    assert len(load_sweep(tmp_path / "mine.toml").cells) == 8


def test_a_file_nested_too_deep_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="it is nested too deeply"):
        loaded(tmp_path, "a = " + "[" * 5000 + "]" * 5000)


TIMES = 'lam_w = { values = [0.5, 0.5], times = "threshold" }'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["ce"]', '["ce", "CE"]', "cells 0 and 8 are the same (ce, λ_W=0.001, λ_H=0.01, "),
        ('["ce"]', '["ls:0.1", "ls:0.10"]', "cells 0 and 8 are the same (ls:0.1, "),
        ('["ce"]', '["mse", "mse:1"]', "cells 0 and 8 are the same (mse:1.0,1.0, "),
        ('["ce"]', '["ls:0.2", { name = "ls", alpha = [0, 0.2] }]', "cells 0 and 16 are the same"),
        ('["ce"]', '[{ name = "fl", gamma = [2, 2.0] }]', "loss[0].gamma: 2.0 occurs twice"),
        ("[1e-3, 0.5]", "[1e-3, 0.001]", "problem.lam_w: 0.001 occurs twice: give every value"),
        ("[1e-3, 0.5]", "[1, 2, 1.0, 1]", "problem.lam_w: 1.0 occurs 3 times"),
        ("[1e-3, 0.5]", "{ values = [3, 3] }", "problem.lam_w: 3.0 occurs twice"),
        ("[1e-3, 0.5]", "{ from = 1, to = 1, num = 3 }", "problem.lam_w: 1.0 occurs 3 times"),
        ("lam_w = [1e-3, 0.5]", TIMES, "problem.lam_w: 0.5 occurs twice"),
        ("dim = 6", "dim = [6, 6]", "problem.dim: 6 occurs twice"),
        ("per_class = 5", "per_class = { values = [5, 5.0] }", "problem.per_class: 5 occurs"),
        ("num_classes = 4", "num_classes = [4, 4]", "problem.num_classes: 4 occurs twice"),
        (
            "num_classes = 4\nper_class = 5",
            "class_counts = [[2, 1], [1, 2], [2, 1]]",
            "cells 0 and 16 are the same (ce, λ_W=0.001, λ_H=0.01, ce, K=2, d=6, counts [2, 1], ",
        ),
        ("dim = 6", "dim = 6\nlam_b = ['none', 0.0, 'none']", "problem.lam_b: none occurs twice"),
        ("count = 2", "seed = [1, 0, 1]", "start.seed: 1 occurs twice"),
        ("count = 2", "scale = [0.1, 0.10]", "start.scale: 0.1 occurs twice"),
        ("count = 2", "[solver]\nmethod = ['adam', 'adam']", "solver.method: adam occurs twice"),
        ("count = 2", "[solver]\ntol = [1e-8, 1e-8]", "solver.tol: 1e-08 occurs twice"),
        ("count = 2", "[solver]\nmax_steps = [9, 9]", "solver.max_steps: 9 occurs twice"),
        ("count = 2", "[certificate]\ngap_tol = [0, 0.0]", "certificate.gap_tol: 0.0 occurs"),
    ],
)
def test_what_is_there_twice_is_refused_for_it_would_count_as_two(tmp_path, old, new, message):
    assert old in TINY
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is what is tested
        loaded(tmp_path, TINY.replace(old, new, 1))
    said = str(caught.value).removeprefix(f"{tmp_path / 'tiny.toml'}: ")
    assert said.startswith(message)
    assert "\n" not in said


def test_ranges_that_advance_together_may_repeat_values_but_no_combination(tmp_path):
    text = f"loss=['ce']\ncombine='zip'\n[problem]\n{SIZES}lam_w=[1, 1, 2]\nlam_h=[1, 2, "
    assert len(loaded(tmp_path, text + "1]").cells) == 3
    with pytest.raises(ValueError, match=r"cells 0 and 1 are the same \(ce, λ_W=1, λ_H=1, "):
        loaded(tmp_path, text.replace("2, ", "1, ") + "1]")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("width = [10, 10.0]", "network.width: 10.0 occurs twice"),
        ("depth = [1, 1]", "network.depth: 1 occurs twice"),
        ("norm = ['none', 'none']", "network.norm: none occurs twice"),
    ],
)
def test_networks_that_are_there_twice_are_refused(given, message):
    values = {"network": tomllib.loads(given)}
    with pytest.raises(ValueError, match=message):
        expand(settings.convert(values, NetworkSweepConfig))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("seed = [0, 0]", "training.seed: 0 occurs twice"),
        ("epochs = [3, 3]", "training.epochs: 3 occurs twice"),
        ("learning_rate = [0.1, 0.1]", "training.learning_rate: 0.1 occurs twice"),
        ("losses = ['ls:0.1', 'LS:0.10']", "training.losses: names a loss twice"),
    ],
)
def test_trainings_that_are_there_twice_are_refused(given, message):
    values = {"network": {}, "training": tomllib.loads(given)}
    with pytest.raises(ValueError, match=message):
        expand(settings.convert(values, NetworkSweepConfig))
