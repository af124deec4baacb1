"""`ufm train`: what is printed and stored, after interruptions, and bad input."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import complaint
from images import raw_images, write_images

from ufm import MSE, load_classifier
from ufm.cli import main, parse
from ufm.networks import TrainConfig, load_data, train

SMALL = ["--data", "images.npz", "--width", "8", "--depth", "1", "--epochs", "6"]
SMALL += ["--batch-size", "10", "--measurements", "3"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_images(Path("images.npz"))
    yield
    jax.config.update("jax_enable_x64", True)


def trained(*options: str) -> int:
    return main(["train", *SMALL, "--out", "run", *options])


def refused(capsys, *options: str) -> str:
    return complaint(capsys, "train", *options)


def stored(name: str):
    return json.loads(Path("run", name).read_text(encoding="utf-8"))


# What is written and printed ---------------------------------------------------------------------


def test_every_loss_is_trained_stored_and_printed(whole, monkeypatch):
    monkeypatch.chdir(whole.parent)
    printed = Path("said.txt").read_text(encoding="utf-8")
    assert Path("complained.txt").read_text(encoding="utf-8") == ""
    losses = {
        "ce": "CE",
        "ls_0.05": "LS(α=0.05)",
        "fl_3.0": "FL(γ=3)",
        "mse_1.0_15.0": "MSE(κ=1, M=15)",
    }
    endings = ("checkpoint.npz", "csv", "json", "learning-rate.json", "npz")
    files = [f"{name}.{ending}" for name in losses for ending in endings]
    assert sorted(os.listdir("run")) == sorted(
        [*files, "config.json", "data.sha256", "results.json", "table.tex"]
    )
    assert "images.npz: 36 training images, 12 of each of 3 classes, 15 test images" in printed
    assert "targets 15·one-hot, squared error averaged over the 3 outputs without ½" in printed
    for name, label in losses.items():
        entry = stored(f"{name}.json")
        (line,) = [x for x in printed.splitlines() if x.startswith(label) and "→" in x]
        history = entry["history"]
        assert f"{100 * history['test_accuracy'][-1]:.2f} %" in line
        for metric in ("nc1", "nc2", "nc3"):
            assert f"{history[metric][0]:.1e} → {history[metric][-1]:.1e}" in line
        assert f" {entry['learning_rate']:g} " in line
        choice = entry["learning_rate_choice"]
        assert choice == stored(f"{name}.learning-rate.json")
        assert f"{label} 0.1 {100 * choice['trials'][0]['validation_accuracy']:.1f} %" in printed
        assert entry["learning_rate"] == choice["learning_rate"]
        with open(f"run/{name}.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["nc1"]) for row in rows] == history["nc1"]
        assert {"commit", "equinox", "jax", "processor"} <= entry["provenance"].keys()
    entries = stored("results.json")["losses"]
    assert [x["loss"] for x in entries] == [*("ce", "ls:0.05", "fl:3.0", "mse:1.0,15.0")]


def test_the_numbers_are_those_of_the_library():
    assert trained("--losses", "mse:1,15", "--learning-rate", "0.01", "--seed", "5") == 0
    config = TrainConfig(
        width=8, depth=1, epochs=6, batch_size=10, measurements=3, loss="mse:1,15",
        learning_rate=0.01, seed=5,
    )  # fmt: skip
    result = train(config, load_data("images.npz", seed=5))
    entry = stored("mse_1.0_15.0.json")
    assert entry["config"] == config.builtins()
    assert entry["learning_rate_choice"] is None
    for name, column in result.history.items():
        assert entry["history"][name] == column.tolist()


def test_the_last_layer_can_be_certified(capsys):
    assert (
        trained("--losses", "mse:1,15", "--learning-rate", "0.01", "--weight-decay", "0.002") == 0
    )
    assert "Last layer: ufm certify run/mse_1.0_15.0.npz" in capsys.readouterr().out
    layer = load_classifier("run/mse_1.0_15.0.npz")  # as `ufm certify` does
    assert layer.problem.class_counts == (12, 12, 12)
    assert layer.problem.loss == MSE(scale=1.0, target=15.0)
    # λ of the network times K/2 for the loss ½ ‖z − 15 e_k‖².
    assert layer.problem.lam_w == layer.problem.lam_b == pytest.approx(0.003, rel=1e-12)
    assert layer.lam_h_inferred
    found = train_accuracy(layer)
    assert found == stored("mse_1.0_15.0.json")["history"]["train_accuracy"][-1]


def test_the_hessian_at_the_end_is_told_when_asked_for(capsys):
    options = ["--losses", "ce", "--learning-rate", "0.05", "--hessian", "--figures"]
    assert trained(*options) == 0
    printed = capsys.readouterr().out
    found = stored("ce.json")["hessian"]
    parameters = sum(np.load("run/ce.npz")[name].size for name in "Wb")
    assert found["num_parameters"] > parameters
    assert found["largest"] > 0
    assert found["largest_converged"] == 1
    # What data do not reach is flat but for the decay, so the smallest lies below it.
    assert found["smallest"] <= 5e-4 + 1e-9
    said = " ".join(printed.split())
    assert f"CE: Hessian of {found['num_parameters']:,.0f} parameters: largest eigenvalue" in said
    assert "% of the eigenvalues negative (each with 95 % confidence)" in said
    assert "NOT CONVERGED" not in said
    with open("run/figures/network-hessian.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    largest = [float(row["eigenvalue"]) for row in rows if row["what"] == "network, largest"]
    assert largest == found["largest_values"]
    assert largest[0] == found["largest"]
    model = sum(float(row["count"]) for row in rows if row["what"] == "model")
    assert model == 3 * 8 + 8 * 36 + 3  # W, H, b
    # The last layer is beside the model's minimiser.
    history = stored("ce.json")["history"]
    assert len(history["dual_ratio"]) == len(history["epoch"]) == 6
    assert history["lam_w"][-1] == 5e-4
    assert "‖G‖₂/μ" in printed


def test_a_folder_that_was_begun_with_other_images_is_refused(capsys):
    assert trained("--losses", "ce", "--learning-rate", "0.05") == 0
    write_images(Path("images.npz"), images=raw_images().images[::-1].copy())
    options = (*SMALL, "--losses", "ce", "--learning-rate", "0.05", "--out", "run")
    assert "run was begun with other images than images.npz has now" in refused(capsys, *options)


def train_accuracy(layer) -> float:
    z = np.asarray(layer.params.W @ layer.params.H) + np.asarray(layer.params.b)[:, None]
    return float(np.mean(np.argmax(z, axis=0) == layer.problem.labels))


def test_json_is_all_that_is_printed(capsys):
    assert trained("--losses", "ce", "--learning-rate", "0.1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == stored("results.json")


def test_how_images_were_read_is_printed_and_stored(capsys):
    raw = raw_images(channels=3)
    images, test_images = (np.moveaxis(x, -1, 1) for x in (raw.images, raw.test_images))
    write_images(Path("images.npz"), images=images, test_images=test_images)
    assert trained("--losses", "ce", "--learning-rate", "0.1", "--epochs", "1") == 0
    printed = capsys.readouterr().out
    note = "images of shape (36, 3, 4, 4) are read channels first: 3 channels of 4 x 4"
    assert f"15 test images, 4×4×3\nnote: {note}\n" in printed
    assert stored("ce.json")["data"]["notes"] == [note]


# Going on ----------------------------------------------------------------------------------------


def test_a_finished_folder_is_printed_without_training(monkeypatch, capsys):
    options = ("--losses", "ce", "--learning-rate", "0.1")
    assert trained(*options) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("ufm.networks.train", None)  # would raise if called
    assert main(["train", "--config", "run/config.json", "--out", "run"]) == 0
    again = capsys.readouterr()
    assert again.err == "ce: already in run\n"
    assert again.out == first
    assert main(["train", "--config", "run/config.json", "--out", "run", "--figures"]) == 0
    assert {x.stem for x in Path("run/figures").iterdir()} == {"network-collapse", "network-model"}
    with open("run/figures/network-collapse.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["nc3"]) for row in rows] == stored("ce.json")["history"]["nc3"]
    message = "run holds results of another configuration: choose another --out"
    assert refused(capsys, *SMALL, "--out", "run", "--seed", "1") == message


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of all losses that nothing interrupts; beside it are the texts that it printed."""
    folder = tmp_path_factory.mktemp("whole")
    write_images(folder / "images.npz")
    with (
        contextlib.chdir(folder),
        open("said.txt", "w", encoding="utf-8") as said,
        open("complained.txt", "w", encoding="utf-8") as complained,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        assert main(["train", *SMALL, "--out", "run"]) == 0
    return folder / "run"


@pytest.mark.repeats
@pytest.mark.parametrize("at", [0, 3, 20, 75])
def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(at, whole, monkeypatch, capsys):
    from ufm.networks.training.run import Run

    advance, epochs = Run.advance, []

    def interrupted(run):
        if len(epochs) == at:
            signal.raise_signal(signal.SIGINT)
        epochs.append(1)
        return advance(run)

    options = ("--losses", "ce", "mse:1,15")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", interrupted)
        assert trained(*options) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "Stopping after this epoch; press Ctrl-C again to stop at once." in said.err
    done = 0 if at < 42 else 1  # six trials of six epochs, then six epochs
    again = "ufm train --config run/config.json --out run"
    assert f"Interrupted: {done} of 2 losses are done. Continue with: {again}" in said.err
    assert main(again.split()[1:]) == 0
    for name in ("ce.npz", "mse_1.0_15.0.npz"):
        with np.load(f"run/{name}") as one, np.load(whole / name) as other:
            for array in ("W", "H", "b"):
                np.testing.assert_array_equal(one[array], other[array])
    assert Path("run/ce.csv").read_bytes() == (whole / "ce.csv").read_bytes()


def test_sigterm_ends_the_process_with_130():
    command = [sys.executable, "-c", "import sys; from ufm.cli import main; sys.exit(main())"]
    options = ["train", *SMALL, "--epochs", "1000000", "--losses", "ce", "--learning-rate", "0.1"]
    checkpoint = Path("run/ce.checkpoint.npz")
    with subprocess.Popen(
        [*command, *options, "--out", "run"], stderr=subprocess.PIPE, text=True
    ) as child:
        while not Path("run/config.json").exists():
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate()
    assert child.returncode == 130
    assert "Interrupted: 0 of 1 losses are done. Continue with: ufm train" in said
    assert "Traceback" not in said
    assert checkpoint.exists()


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data mnist", "unknown data 'mnist': choose digits, fashion-mnist or the path of an"),
        ("--data nowhere.npz", "nowhere.npz does not exist: check the path"),
        ("--data images.npz --per-class 99", "per_class = 99 is more than class 0 has: 12"),
        ("--losses hinge", "unknown loss 'hinge': choose ce, ls:ALPHA, fl:GAMMA or mse:"),
        ("--losses ce ce", "--losses names a loss twice: ce ce"),
        ("--losses", "--losses needs at least one loss"),
        ("--width 0", "width must be positive and finite, got 0.0"),
        ("--epochs 0", "epochs must be at least 1, got 0"),
        ("--learning-rate nan", "learning_rate must be positive and finite, got nan"),
        ("--batch-size 5000", "batch_size = 5000 is more than the 1340 training images"),
        ("--data images.npz --per-class 2", "2 training images of each class cannot be split"),
        ("--model vgg", "invalid choice 'vgg' for argument '--model'. Expected one of ('mlp'"),
        ("--epoch", "Unrecognized options: --epoch; perhaps you meant --epochs"),
        ("--out images.npz", "images.npz exists and holds no ufm results: choose another --out"),
    ],
)
def test_bad_options_are_one_line_and_no_folder(options, message, capsys):
    out = () if "--out" in options else ("--out", "run")
    assert refused(capsys, *options.split(), *out).startswith(message)
    assert os.listdir() == ["images.npz"]


def test_a_file_of_options_is_named_where_it_is_refused(capsys):
    Path("mine.toml").write_text("epochs = 0\n")
    said = refused(capsys, "--config", "mine.toml")
    assert said == "epochs must be at least 1, got 0 (with options from mine.toml and flags)"


def test_a_damaged_choice_of_the_rate_is_named(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ufm.cli.train.Train._train", interrupted)
        assert trained("--losses", "ce") == 130
    Path("run/ce.learning-rate.json").write_text("{")
    said = refused(capsys, *SMALL, "--losses", "ce", "--out", "run")
    assert said.startswith("run/ce.learning-rate.json cannot be read")


# In words ----------------------------------------------------------------------------------------


def test_what_went_wrong_is_said_first(capsys):
    options = ("--losses", "ce", "--learning-rate", "1e30", "--norm", "none")
    assert trained(*options) == 1
    captured = capsys.readouterr()
    printed = captured.out
    assert "CE: DIVERGED in epoch 1 at learning rate 1e+30" in printed
    assert "Last layer" not in printed
    assert captured.err == (
        "1 of 1 losses ended without a trained network: ce (diverged); try a lower "
        "--learning-rate in another --out\n"
    )
    # It did not become a success by being done already.
    assert trained(*options) == 1
    assert not Path("run/ce.npz").exists()
    assert stored("ce.json")["status"] == "diverged"
    assert "ce: already in run" not in printed


def test_one_lost_loss_of_two_is_a_failure_and_the_other_is_kept(capsys):
    # The squared error with targets of 1e12 blows up where cross-entropy does not.
    options = ("--losses", "ce", "mse:1,1e12", "--learning-rate", "0.05", "--norm", "none")
    assert trained(*options, "--json") == 1
    captured = capsys.readouterr()
    entries = json.loads(captured.out)["losses"]
    assert [x["status"] for x in entries] == ["completed", "diverged"]
    assert "1 of 2 losses ended without a trained network: mse:1.0,1" in captured.err
    assert Path("run/ce.npz").exists()


def test_a_folder_of_version_0_1_keeps_its_squared_error(tmp_path, capsys):
    """There "mse" alone was the paper's; anywhere else it has to be written out."""
    old = tmp_path / "config.json"
    old.write_text('{"losses": ["ce", "mse"], "learning_rate": 0.1}')
    _, configs = parse(["train", "--config", str(old)])._checked()
    assert list(configs) == ["ce", "mse:1.0,15.0"]
    assert parse(["train", "--config", str(old)]).configuration()["losses"] == ("ce", "mse")
    assert refused(capsys, "--losses", "ce", "mse") == (
        "loss 'mse': write mse:1,15 for the squared error of Zhou et al., or mse:1,1 for targets "
        "of 1"
    )
