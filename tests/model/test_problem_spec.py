"""Problems as plain values: the same from a file, from flags and from a stored row."""

import dataclasses
import math
import pickle
import sqlite3

import numpy as np
import pytest

from sweeps import loaded
from ufm.cli import parse
from ufm.losses import FAMILIES, HYPERPARAMETERS, loss_family, loss_spec, make_loss, parse_loss
from ufm.model.constraint_text import make_constraint
from ufm.model.constraints import Fixed
from ufm.model.problem import Problem
from ufm.model.problem_spec import ProblemSpec, decisive
from ufm.sweep.problems.columns import COLUMNS, columns_for

LOSSES = ("ce", "ls:0.3", "fl:2.5", "mse:4,2")
SIZES = {"class_counts": (5, 5, 2), "dim": 4, "lam_w": 4e-3, "lam_h": 1e-2}


@pytest.mark.parametrize("text", LOSSES)
@pytest.mark.parametrize("lam_b", [None, 0.0, 0.5])
def test_a_row_says_what_the_problem_is(text, lam_b):
    spec = ProblemSpec(parse_loss(text), **SIZES, lam_b=lam_b)
    row = spec.row()
    assert set(row) <= set(columns_for(FAMILIES))
    assert ProblemSpec.from_row({name: row[name] for name in decisive(row)}) == spec
    # As SQL has it: NULL where there is nothing.
    assert ProblemSpec.from_row({k: None if x != x else x for k, x in row.items()}) == spec
    assert (row["num_classes"], row["per_class"], row["class_counts"]) == (3, -1, "5 5 2")
    assert row["mu"] == pytest.approx(math.sqrt(4e-5), rel=1e-15)
    assert parse_loss(row["loss"]) == spec.loss
    assert row["family"] == text.partition(":")[0]


def test_the_problem_has_the_values():
    spec = ProblemSpec(parse_loss("ls:0.3"), **SIZES, lam_b=0.5)
    problem = spec.problem()
    assert isinstance(problem, Problem)
    for name, value in SIZES.items():
        assert getattr(problem, name) == value
    assert (problem.loss.label(), problem.lam_b) == ("LS(α=0.3)", 0.5)
    assert ProblemSpec.of(problem) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(ValueError, match="lam_w must be non-negative"):
        dataclasses.replace(spec, lam_w=-1.0).problem()


def test_a_file_and_flags_give_the_same(tmp_path):
    text = """
    loss = ["ls:0.3", { name = "ls", alpha = 0.25 }, { name = "mse", target = 2 }]
    [problem]
    class_counts = [5, 5, 2]\ndim = 4\nlam_w = 4e-3\nlam_h = 1e-2\nlam_b = "none"
    """
    from_file = [cell.spec for cell in loaded(tmp_path, text).cells]
    flags = "--counts 5 5 2 --dim 4 --lam-w 4e-3 --lam-h 1e-2 --lam-b None"
    losses = ["--losses", "ls:0.3", "ls:0.25", "mse:1,2"]
    from_flags = parse(["solve", *flags.split(), *losses]).problems()
    assert from_file == [ProblemSpec.of(problem) for problem in from_flags.values()]
    assert len({*from_file, *map(ProblemSpec.of, from_flags.values())}) == 3


def test_the_table_of_losses_has_every_hyperparameter_once():
    for family, (make, defaults) in FAMILIES.items():
        fields = [field.name for field in dataclasses.fields(make)]
        assert list(defaults) == fields
        loss = make_loss(family, {})
        assert type(loss) is make
        assert parse_loss(family) == parse_loss(loss_spec(loss)) == loss
        assert loss_family(loss) == family
        # What belongs to another loss is passed over.
        assert make_loss(family, dict.fromkeys(HYPERPARAMETERS, 0.5) | defaults) == loss
    assert HYPERPARAMETERS[:4] == ("alpha", "gamma", "scale", "target")
    assert len(set(HYPERPARAMETERS)) == len(HYPERPARAMETERS)
    # They are the names of columns in a database.
    columns = ", ".join(f"{name} REAL" for name in HYPERPARAMETERS)
    sqlite3.connect(":memory:").execute(f"CREATE TABLE cells ({columns})")


def test_a_table_has_the_hyperparameters_of_its_losses_only():
    assert columns_for(["ce", "fl", "mse"]) == COLUMNS
    more = columns_for(["ce", "gce", "bitempered"])
    assert {name for name in more if name not in COLUMNS} == {"exponent", "t1", "t2"}
    row = ProblemSpec(parse_loss("gce:0.4"), **SIZES, lam_b=None).row()
    assert decisive(more).count("exponent") == 1
    assert "epsilon" not in decisive(more)
    found = ProblemSpec.from_row({name: row[name] for name in decisive(columns_for(["gce"]))})
    assert found.loss == parse_loss("gce:0.4")


def test_targets_are_part_of_a_problem():
    spec = ProblemSpec(
        parse_loss("ls:0.3"), **SIZES, lam_b=None, targets=((0.5, 0.5), (0.0, 1.0), (0.1, 0.9))
    )
    row, problem = spec.row(), spec.problem()
    assert set(row) <= set(columns_for(FAMILIES, ("targets",)))
    assert "targets" not in columns_for(["ls"])
    assert ProblemSpec.from_row({name: row[name] for name in decisive(row)}) == spec
    assert ProblemSpec.of(problem) == spec
    assert problem.num_outputs == 2
    assert spec.named()["targets"] == spec.targets
    assert "targets" not in ProblemSpec(parse_loss("ce"), **SIZES, lam_b=None).named()


VARIANTS = [
    {"classifier": "sphere", "features": "ball:2.0", "temperature": 0.5},
    {"classifier": "budget:1.5", "features": "nonnegative", "lam_h": 1e-2},
    {"classifier": "etf:2.0", "features": "sphere:3.0"},
    {"lam_w": 1e-3, "lam_h": 1e-2, "lam_hidden": (1e-3, 2e-3), "hidden_dims": (3, 5)},
]


@pytest.mark.parametrize("given", VARIANTS)
def test_a_problem_that_is_not_plain_is_plain_values_too(given):
    spec = ProblemSpec(
        parse_loss("ce"), (5, 5, 2), 4, **{"lam_w": None, "lam_h": None, "lam_b": 0.5, **given}
    )
    row = spec.row()
    assert set(row) <= {*columns_for(FAMILIES), *given}
    assert ProblemSpec.from_row({name: row[name] for name in decisive(row)}) == spec
    assert ProblemSpec.from_row({k: None if x != x else x for k, x in row.items()}) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert {name for name in spec.named() if name not in SIZES} >= set(given) - set(SIZES)
    problem = spec.problem()
    assert problem.temperature == given.get("temperature")
    assert ProblemSpec.of(problem) == spec
    if not given.get("classifier", "").startswith("etf"):
        return
    gram = np.asarray(problem.classifier.matrix @ problem.classifier.matrix.T)
    np.testing.assert_allclose(gram, 4.0 * (1.5 * np.eye(3) - 0.5), atol=1e-14)
    turned = dataclasses.replace(problem, classifier=Fixed(problem.classifier.matrix[::-1]))
    with pytest.raises(ValueError, match="a matrix, which no text names"):
        ProblemSpec.of(turned)


@pytest.mark.parametrize(
    ("factor", "text", "message"),
    [
        ("classifier", "spher", "classifier: unknown set 'spher'; choose one of"),
        ("features", "ball", "features: ball needs a number, as in ball:RADIUS"),
        ("features", "nonnegative:2", "nonnegative has no number"),
        ("features", "sphere:x", "'x' in 'sphere:x' is not a number"),
        ("classifier", "sphere:-1", "radius must be positive"),
        ("classifier", "etf:0", "the norm of etf must be positive"),
    ],
)
def test_texts_of_sets_that_are_wrong(factor, text, message):
    with pytest.raises(ValueError, match=message):
        make_constraint(factor, text, 3, 4)


def test_a_simplex_needs_room():
    with pytest.raises(ValueError, match="etf needs dim ≥ K−1 = 9, got 8"):
        make_constraint("classifier", "etf", 10, 8)


def test_a_sweep_over_sets_and_temperatures(tmp_path):
    text = """
    loss = ["ce"]
    [problem]
    num_classes = 3\nper_class = 2\ndim = 4\nlam_b = "none"
    classifier = ["sphere", "sphere:2"]\nfeatures = "sphere"\ntemperature = [0.1, 1.0]
    """
    sweep = loaded(tmp_path, text)
    specs = [cell.spec for cell in sweep.cells]
    assert [(x.classifier, x.temperature) for x in specs] == [
        *(("sphere", 0.1), ("sphere", 1.0)),
        *(("sphere:2", 0.1), ("sphere:2", 1.0)),
    ]
    assert {"classifier", "features", "temperature"} <= set(sweep.columns)
    assert "lam_hidden" not in sweep.columns
    assert len({cell.program for cell in sweep.cells}) == 1  # radius and temperature are traced
    assert sweep.cells[0].program.describe() == (
        "ce, K=3, d=4, n=2, no bias, sphere, sphere, temperature, newton"
    )
    flags = "--num-classes 3 --per-class 2 --dim 4 --lam-b None --classifier sphere:2 "
    flags += "--features sphere --temperature 0.1 --losses ce"
    (problem,) = parse(["solve", *flags.split()]).problems().values()
    assert ProblemSpec.of(problem) == dataclasses.replace(specs[2], classifier="sphere:2.0")


def test_a_factor_needs_a_decay_or_a_set(tmp_path):
    text = 'loss = ["ce"]\n[problem]\nnum_classes = 3\nper_class = 2\ndim = 4\nlam_w = 0.1\n'
    with pytest.raises(ValueError, match=r"problem: lam_h is missing"):
        loaded(tmp_path, text)
    with pytest.raises(ValueError, match="lam_w must be None with classifier=Sphere"):
        loaded(tmp_path, text + 'lam_h = 0.1\nclassifier = "sphere"\n')
