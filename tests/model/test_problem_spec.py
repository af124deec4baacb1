"""Problems as plain values: the same from a file, from flags and from a stored row."""

import dataclasses
import math
import pickle
import sqlite3

import pytest

from sweeps import loaded
from ufm.cli import parse
from ufm.losses import FAMILIES, HYPERPARAMETERS, loss_family, loss_spec, make_loss, parse_loss
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
    assert set(row) <= set(columns_for(FAMILIES, targets=True))
    assert "targets" not in columns_for(["ls"])
    assert ProblemSpec.from_row({name: row[name] for name in decisive(row)}) == spec
    assert ProblemSpec.of(problem) == spec
    assert problem.num_outputs == 2
    assert spec.named()["targets"] == spec.targets
    assert "targets" not in ProblemSpec(parse_loss("ce"), **SIZES, lam_b=None).named()
