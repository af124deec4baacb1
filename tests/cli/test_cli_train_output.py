"""What `ufm train` says of runs: notes below the table, and lines in a log."""

from tex import compile_table

from ufm.cli.output import train_report
from ufm.cli.output.progress import training_progress
from ufm.cli.output.train_output import notes
from ufm.networks import PAPER_LOSSES, EpochReport

ENTRY = {
    "label": "CE",
    "status": "completed",
    "history": {"train_accuracy": [1.0]},
    "factor": 1,
    "learning_rate_choice": None,
}
HESSIAN = {
    "num_parameters": 866.0,
    **{"largest_lower": 40.00001, "largest_upper": 40.04, "largest_converged": 1.0},
    **{"smallest_lower": -0.09951, "smallest_upper": -0.09944, "smallest_converged": 0.0},
    **{"trace_lower": 98.765, "trace_upper": 1234.5, "confidence": 0.95},
    **{"negative_share_lower": 0.05321, "negative_share_upper": 0.66639},
}


def test_intervals_are_rounded_outwards_and_what_did_not_converge_is_said():
    (said,) = notes([{**ENTRY, "hessian": HESSIAN}])
    assert "largest eigenvalue 40 to 40.1; smallest eigenvalue -0.0996 to -0.0994; " in said
    assert "trace 98.7 to 1.24e+03; 5.32 to 66.7 % of the eigenvalues negative" in said
    assert said.endswith("NOT CONVERGED: smallest (residual too large)")
    (said,) = notes([{**ENTRY, "hessian": {"trace": 1.0, "trace_error": 0.1}}])
    assert said == "CE: the stored Hessian has no error bounds: run again with another --out"


def test_limits_are_said():
    history = {"train_accuracy": [0.5, 0.9]}
    entry = {
        "label": "MSE", "status": "completed", "history": history, "epochs_done": 3, "factor": 0.2,
        "normalisation": "MSE: targets", "learning_rate": 0.1, "learning_rate_choice": None,
    }  # fmt: skip
    assert notes([entry]) == [
        "MSE: not at zero training error; collapse belongs to what comes after",
        "MSE: targets",
    ]
    (died, _) = notes([entry | {"status": "dead"}])
    assert died.startswith("MSE: the network has DIED in epoch 3 at learning rate 0.1; the numbers")
    assert notes([entry | {"history": {"train_accuracy": [1.0]}, "factor": 1.0}]) == []
    assert len(PAPER_LOSSES) == 4


def test_a_rate_at_an_end_of_those_tried_is_said():
    trials = [{"learning_rate": x, "validation_accuracy": 0.9} for x in (0.1, 0.03, 0.01)]
    for rate, word in ((0.1, "largest"), (0.03, ""), (0.01, "smallest")):
        said = notes([{**ENTRY, "learning_rate": rate, "learning_rate_choice": {"trials": trials}}])
        found = [line for line in said if "better one may lie beyond" in line]
        assert len(found) == bool(word)
        assert f"CE: the rate {rate:g} is the {word} tried" in "".join(found) or not word


def test_a_log_gets_a_line_with_accuracies_and_collapse(monkeypatch, capsys):
    monkeypatch.setattr("ufm.cli.output.progress._LOG_EVERY", 0.0)
    numbers = {"train_accuracy": 0.987, "test_accuracy": 0.9, "nc1": 0.5, "nc2": 0.26, "nc3": 2e-3}
    with training_progress("CE") as show:
        show(EpochReport(epoch=1, epochs=300, loss=1.25, measured={}))
        show(EpochReport(epoch=2, epochs=300, loss=1.0, measured=numbers))
    assert capsys.readouterr().err.splitlines() == [
        "CE: epoch 1 of 300, loss 1.25",
        "CE: epoch 2 of 300, train 98.7% test 90.0% NC1–3 5e-01 3e-01 2e-03",
    ]


def test_the_table_of_a_training_compiles(tmp_path):
    config = {"model": "mlp", "width": 8.0, "depth": 1, "norm": "batch", "epochs": 6}
    history = {
        name: [0.5, value]
        for name, value in {
            "train_accuracy": 1.0, "test_accuracy": 0.9, "nc1": 1e-3, "nc2": 0.2, "nc3": None,
            "centred_dual_ratio": 1.25, "centred_shape_distance": 0.1,
        }.items()
    }  # fmt: skip
    entry = {
        "loss": "mse:1.0,15.0",
        "learning_rate": 0.01,
        "data": {"name": "a_b.npz", "per_class": 12, "classes": 3, "test_images": 15},
        "config": config | {"weight_decay": 5e-4, "seed": 0},
        "history": history,
    }
    table = train_report.table([entry, entry | {"loss": "ce", "history": {}}]).decode()
    trained, lost = table.split("midrule\n")[1].splitlines()[:2]
    assert trained.startswith(r"MSE ($\kappa=1, M=15$) & 0.01 & 100.00 & 90.00 & ")
    assert (trained.count("& -- &"), lost.count("& --")) == (1, 7)
    compile_table(table, tmp_path)
