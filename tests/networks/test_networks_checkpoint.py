"""Checkpoints: the same bits after interruptions and kill -9, and files that are refused."""

import json
import signal
import subprocess
import sys
import time

import jax
import msgspec
import numpy as np
import pytest
from images import small_data, write_images

from ufm.networks import TrainConfig, TrainStatus, load_data, train

SMALL = TrainConfig(width=8, depth=1, epochs=6, batch_size=10, measurements=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data):
    return train(SMALL, data)


def same_bits(result, expected):
    for found, other in zip(
        jax.tree.leaves((result.network, result.stats)),
        jax.tree.leaves((expected.network, expected.stats)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, other)
    assert list(result.history) == list(expected.history)
    for name, column in expected.history.items():
        np.testing.assert_array_equal(result.history[name], column, err_msg=name)
        assert result.history[name].dtype == column.dtype
    np.testing.assert_array_equal(result.layer.H, expected.layer.H)
    assert (result.status, result.epochs_done) == (expected.status, expected.epochs_done)


def stopping_after(epochs: int):
    asked = iter([False] * epochs)
    return lambda: next(asked, True)


@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_an_interrupted_run_goes_on_with_the_same_bits(epochs, data, whole, tmp_path):
    path = tmp_path / "run.npz"
    first = train(SMALL, data, checkpoint=path, should_stop=stopping_after(epochs))
    assert (first.status, first.epochs_done) == (TrainStatus.STOPPED, epochs)
    kept = json.loads(str(np.load(path)["meta"]))["seconds"]
    reports = []
    result = train(SMALL, data, checkpoint=path, on_epoch=reports.append)
    assert [report.epoch for report in reports] == list(range(epochs + 1, 7))
    same_bits(result, whole)
    # Not first.seconds: that goes on until the result is put together, after the file is written.
    assert result.seconds > kept > 0
    # A run that has ended is read, not computed.
    again = train(SMALL, data, checkpoint=path, on_epoch=reports.append)
    assert len(reports) == 6 - epochs
    same_bits(again, whole)


def test_a_diverged_run_stays_diverged(data, tmp_path, monkeypatch):
    from ufm.networks.training.run import Run

    monkeypatch.setattr(Run, "advance", lambda run: float("nan"))
    path = tmp_path / "run.npz"
    assert train(SMALL, data, checkpoint=path).status is TrainStatus.DIVERGED
    monkeypatch.setattr(Run, "advance", None)  # would raise if called
    assert train(SMALL, data, checkpoint=path).status is TrainStatus.DIVERGED


CHILD = """
import sys, jax
jax.config.update("jax_enable_x64", True)
from pathlib import Path
from ufm.networks import TrainConfig, load_data, train
config = TrainConfig(width=8, depth=1, epochs=2000, batch_size=10, measurements=3)
train(config, load_data(sys.argv[1]), checkpoint=Path(sys.argv[2]), checkpoint_seconds=0.0,
      on_epoch=lambda report: print(report.epoch, flush=True))
"""


def test_kill_9_leaves_a_whole_checkpoint(tmp_path, full):
    file, path = str(write_images(tmp_path / "images.npz")), tmp_path / "run.npz"
    rng = np.random.default_rng(0)
    reached = []
    for _ in range(2 if full else 1):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, file, str(path)], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            for _ in range(20):
                last = int(next(child.stdout))
            time.sleep(rng.uniform(0.0, 0.05))
            child.send_signal(signal.SIGKILL)
        reached.append(last)
    assert reached[-1] > reached[0] or not full  # the second went on
    config = TrainConfig(width=8, depth=1, epochs=2000, batch_size=10, measurements=3)
    data = load_data(file)
    found = train(config, data, checkpoint=path, should_stop=lambda: True)
    # All that was reported is there, but for the epoch that was being written.
    assert found.epochs_done >= reached[-1] - 1
    same_bits(found, train(config, data, should_stop=stopping_after(found.epochs_done)))
    # And a run goes on from there.
    further = train(config, data, checkpoint=path, should_stop=stopping_after(2))
    assert further.epochs_done == found.epochs_done + 2
    same_bits(further, train(config, data, should_stop=stopping_after(further.epochs_done)))


# Files that are refused ----------------------------------------------------------------------


@pytest.fixture
def path(data, tmp_path):
    path = tmp_path / "run.npz"
    train(SMALL, data, checkpoint=path, should_stop=stopping_after(1))
    return path


def refused(data, path, config=SMALL) -> str:
    before = path.read_bytes()
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is the test
        train(config, data, checkpoint=path)
    assert path.read_bytes() == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_checkpoints_of_other_runs_are_refused(data, path, tmp_path):
    other = msgspec.structs.replace(SMALL, seed=1)
    assert "belongs to another run (seed = 0, not 1)" in refused(data, path, other)
    wider = msgspec.structs.replace(SMALL, width=9)
    assert "belongs to another run (width = 8.0, not 9.0)" in refused(data, path, wider)
    fewer = load_data(str(write_images(tmp_path / "images.npz")), per_class=8)
    assert "belongs to a run on other data" in refused(fewer, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:300], "is damaged or truncated"),
        (lambda content: b"", "is not an .npz file"),
        (lambda content: content.replace(b'"', b"'"), "damaged or truncated"),
    ],
)
def test_damaged_checkpoints_are_refused(damage, message, data, path):
    path.write_bytes(damage(path.read_bytes()))
    assert message in refused(data, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": None},
        {"meta": np.array("{}")},
        {"meta": np.array("[1")},
        {"leaf_0": None},
        {"leaf_0": np.zeros(3)},
        {"history_nc1": None},
    ],
)
def test_what_is_no_checkpoint_is_refused(changes, data, path):
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    assert "is not a checkpoint of this program: remove it to start again" in refused(data, path)


def test_a_checkpoint_that_cannot_be_written_is_one_line(data, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ValueError, match="cannot be written"):
        train(SMALL, data, checkpoint=tmp_path / "file" / "run.npz")


def test_a_resnet_goes_on_with_the_same_bits(data, tmp_path):
    config = TrainConfig(
        model="resnet", width=0.1, norm="batch", epochs=2, batch_size=10, measurements=1
    )
    path = tmp_path / "run.npz"
    train(config, data, checkpoint=path, should_stop=stopping_after(1))
    same_bits(train(config, data, checkpoint=path), train(config, data))
