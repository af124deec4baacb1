"""What a sweep over networks says of its runs: made-up stores, no training."""

import re
from pathlib import Path

import numpy as np
import pytest
from network_sweeps import SMALL, loaded

from ufm.networks import paired_equivalence
from ufm.networks.sweeps.columns import COLUMNS
from ufm.networks.sweeps.page_contents import page_data
from ufm.networks.sweeps.summary import conclusions, standing, summarise
from ufm.report.networks.page import render_networks
from ufm.sweep.record import Record
from ufm.sweep.writer import Writer, make_store


def made_up(
    tmp_path: Path,
    accuracies: dict[str, list[float]],
    falls: float = 20.0,
    text: str = "",
    **changes,
):
    """A store with these test accuracies (shares) by loss and seed; `changes(cell)` by column."""
    seeds = len(next(iter(accuracies.values())))
    text = text or SMALL.replace("epochs = [2, 3]", "epochs = 3")
    text = text.replace("seed = [4, 7]", f"seed = {list(range(seeds))}")
    losses = ", ".join(f'"{loss}"' for loss in accuracies)
    tmp_path.mkdir(exist_ok=True)
    sweep = loaded(tmp_path, text.replace('"ce", "mse:1,15"', losses))
    store = make_store(tmp_path / "made-up", sweep.contents)
    records = []
    for cell in sweep.cells:
        row = {name: "" if kind == "text" else 1 for name, kind in COLUMNS.items()}
        given = cell.config.builtins() | {"cell": cell.index, "status": "completed"}
        row |= {name: value for name, value in given.items() if name in row}
        name = next(name for name in accuracies if cell.loss.startswith(name))
        row |= {"test_accuracy": accuracies[name][cell.config.seed], "batch_size": 10}
        row |= {"num_classes": 10} | {f"first_nc{i}": falls for i in (1, 2, 3)}
        row |= {column: change(cell, row[column]) for column, change in changes.items()}
        history = {name: np.array([1.0, 0.5]) for name in ("nc1", "nc2", "nc3", "train_accuracy")}
        history |= {
            "epoch": np.array([1, 3]),
            "test_accuracy": np.array([0.1, row["test_accuracy"]]),
        }
        if row["status"] != "unfinished":
            records.append(Record(row, {f"history_{name}": x for name, x in history.items()}))
    writer = Writer(store)
    writer.add(records)
    writer.close()
    return store


CE = [0.850, 0.852, 0.849, 0.851, 0.850]


def of_loss(loss: str, seeds: tuple[int, ...], value):
    """A change of these runs only."""
    return lambda cell, old: (
        value if cell.loss.startswith(loss) and cell.config.seed in seeds else old
    )


def test_equivalence_is_that_of_paired_seeds_in_points(tmp_path):
    close = [0.851, 0.850, 0.850, 0.852, 0.849]
    store = made_up(tmp_path, {"ce": CE, "ls": close})
    (group,) = summarise(store)
    ce, other = group.rows
    expected = paired_equivalence([100 * x for x in close], [100 * x for x in CE])
    assert ce.against is None
    assert other.against == expected
    assert other.test_deviation == pytest.approx(np.std(np.multiply(close, 100), ddof=1))
    assert other.test_accuracies == {i: pytest.approx(100 * x) for i, x in enumerate(close)}
    assert group.collapsed
    assert standing([group]) == "holds"
    first, second = conclusions([group])
    assert first == (
        "10 of 10 runs completed. NC1-NC3 fell at least 10-fold since the first epoch in every run "
        "of every loss in 1 of 1 setting."
    )
    assert (
        "equivalent to ce's within 1 point (paired TOST, alpha = 0.05) in 1 of 1. Of 1 " in second
    )


def test_what_falls_short_is_said(tmp_path):
    far = [x - 0.02 for x in CE[:-1]] + [CE[-1] - 0.021]
    groups = summarise(made_up(tmp_path, {"ce": CE, "ls": far}, falls=9.0))
    assert standing(groups) == "short"
    first, second = conclusions(groups)
    assert "in 0 of 1 setting" in first
    assert "in 0 of 1. Of 1 single comparisons 1 find a difference and no equivalence" in second


@pytest.mark.repeats
@pytest.mark.parametrize("status", ["diverged", "dead", "unfinished"])
@pytest.mark.parametrize("seeds", [(0, 1, 2, 3, 4), (2,)])
def test_runs_that_did_not_complete_are_no_evidence(tmp_path, status, seeds):
    """Neither that losses agree, nor that they collapse, nor in any mean."""
    broken = of_loss("ls", seeds, status)
    wrong = of_loss("ls", seeds, 0.01)
    store = made_up(tmp_path, {"ce": CE, "ls": CE, "fl": CE}, status=broken, test_accuracy=wrong)
    (group,) = summarise(store)
    assert group.agrees is None
    assert not group.collapsed
    _, ls, fl = group.rows
    assert (ls.completed, ls.runs, ls.against) == (5 - len(seeds), 5, None)
    assert fl.against is not None
    assert np.isnan(ls.test_accuracy) if len(seeds) == 5 else ls.test_accuracy > 84
    assert standing([group]) == ("open" if status == "unfinished" else "short")
    said = " ".join(conclusions([group]))
    assert "equivalent" not in said
    assert (
        f"{len(seeds)} {'are not finished' if status == 'unfinished' else 'diverged or died'}"
        in said
    )
    page = render_networks(**page_data(store))
    assert page.count('role="img"') == 4 + 2 + 1 - (len(seeds) == 5)


def test_where_nothing_completed_the_page_says_so(tmp_path):
    store = made_up(tmp_path, {"ce": CE}, status=lambda *_: "diverged")
    page = render_networks(**page_data(store))
    assert "0 of 5 runs completed, 5 diverged or died" in page
    assert "<svg" not in page


def test_too_few_seeds_neither_agree_nor_fall_short(tmp_path):
    """Three accuracies that are all the same prove nothing, and contradict nothing."""
    groups = summarise(made_up(tmp_path, {"ce": CE[:3], "ls": CE[:3]}))
    assert groups[0].agrees is None
    assert standing(groups) == "open"
    assert conclusions(groups)[1:] == [
        "Fewer than 5 seeds in 1 of 1 setting: accuracies there are shown, and neither agreement "
        "nor difference is claimed."
    ]


def test_a_chosen_rate_at_an_end_of_those_tried_is_said(tmp_path):
    rates = {"ce": 0.1, "ls": 0.03, "fl": 3e-4}
    text = SMALL.replace("learning_rate = 0.02\n", "").replace("epochs = [2, 3]", "epochs = 3")
    store = made_up(
        tmp_path, {"ce": CE, "ls": CE, "fl": CE}, text=text,
        learning_rate=lambda cell, _: rates[cell.loss[:2]],
    )  # fmt: skip
    groups = summarise(store)
    assert [row.rate_edge for row in groups[0].rows] == ["largest", "", "smallest"]
    assert conclusions(groups)[-2:] == [
        "The learning rate chosen for ce is the largest tried, 0.1, in 1 of 1 setting: a better "
        "one may lie beyond.",
        "The learning rate chosen for fl:3.0 is the smallest tried, 0.0003, in 1 of 1 setting: a "
        "better one may lie beyond.",
    ]
    assert "<td>0.1†</td>" in render_networks(**page_data(store))
    given = summarise(made_up(tmp_path / "given", {"ce": CE}, learning_rate=lambda *_: 0.1))
    assert given[0].rows[0].rate_edge == ""  # nothing was chosen


def test_a_nan_is_no_fall(tmp_path):
    (group,) = summarise(made_up(tmp_path, {"ce": CE}, nc2=of_loss("ce", (3,), float("nan"))))
    assert not group.collapsed


def test_networks_that_differ_in_anything_are_not_pooled(tmp_path):
    text = SMALL.replace("epochs = [2, 3]", "epochs = 3").replace("depth = 1", "depth = [1, 2]")
    text = text.replace("learning_rate = 0.02", "learning_rate = [0.02, 0.01]")

    def better(cell, old):
        return old + 0.1 * (cell.config.depth == 2) + 0.02 * (cell.config.learning_rate == 0.01)

    store = made_up(tmp_path, {"ce": CE, "ls": CE}, text=text, test_accuracy=better)
    groups = summarise(store)
    assert [round(group.rows[0].test_accuracy, 2) for group in groups] == [
        85.04,
        87.04,
        95.04,
        97.04,
    ]
    variants = page_data(store)["variants"]
    assert [each["label"] for each in variants] == [
        f"depth {depth}, learning rate {rate}" for depth in (1, 2) for rate in ("0.02", "0.01")
    ]
    for each, group in zip(variants, groups, strict=True):
        assert len(each["runs"]) == 10
        found = sorted({100 * run["test_accuracy"][-1] for run in each["runs"]})
        assert found == pytest.approx(sorted(set(group.rows[0].test_accuracies.values())))


def test_chance_is_an_accuracy_too(tmp_path):
    (group,) = summarise(made_up(tmp_path, {"ce": [0.0] * 5, "ls": [0.01] * 5}))
    assert group.rows[1].against.difference == pytest.approx(1.0)


def test_every_squared_error_is_described_as_it_is(tmp_path):
    store = made_up(tmp_path, {"ce": CE, "mse:1.0,1.0": CE, "mse:5.0,15.0": CE})
    said = page_data(store)["normalisation"]
    assert said.count("averaged over the 10 outputs without ½") == 2
    assert "targets 1·one-hot" in said
    assert "weighted by 5" in said


def test_the_page_shows_every_loss_and_test(tmp_path):
    store = made_up(tmp_path, {"ce": CE, "mse:1.0,15.0": [x + 0.001 for x in CE]})
    page = render_networks(**page_data(store))
    assert "small networks" in page
    assert "targets 15·one-hot, squared error averaged over the 10 outputs without ½" in page
    # NC1-NC3 and accuracy, a map of gaps, a test.
    assert page.count('role="img"') == 4 + 1 + 1
    assert "+0.10" in page
    assert "equivalent" in page
    assert not re.search(r"(src|href)=\"https?:", page)
