"""The output of `ufm train`, on the terminal and as files of a run."""

import decimal
import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ufm._support.text import command
from ufm.cli.output.console import Table, plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say

if TYPE_CHECKING:
    from ufm.networks import Choice, ImageData, TrainConfig, TrainResult
    from ufm.runs.run_folder import RunFolder

Entry = dict[str, Any]


# As files ------------------------------------------------------------------------------------


def entry(result: "TrainResult", data: "ImageData", choice: "Choice | None") -> Entry:
    """All results of a run, as JSON."""
    import importlib.metadata

    import msgspec

    from ufm.sweep.provenance import provenance

    objective = result.config.objective(data.num_classes)
    return {
        "loss": objective.spec,
        "label": objective.loss.label(),
        "normalisation": objective.normalisation,
        "factor": objective.factor,
        "status": str(result.status),
        "config": result.config.builtins() | {"batch_size": result.config.batch(len(data.labels))},
        "data": {
            "name": data.name,
            "classes": data.num_classes,
            "per_class": data.per_class,
            "test_images": len(data.test_labels),
            "image_shape": list(data.image_shape),
            "notes": list(data.notes),
            "sha256": data.fingerprint(),
        },
        "learning_rate": result.config.learning_rate,
        "learning_rate_choice": None if choice is None else msgspec.to_builtins(choice),
        "epochs_done": result.epochs_done,
        "lam_w": objective.decay(result.config.weight_decay),
        "history": {column: values.tolist() for column, values in result.history.items()},
        "seconds": result.seconds,
        "provenance": provenance() | {"equinox": importlib.metadata.version("equinox")},
    }


def store(folder: "RunFolder", result: "TrainResult", found: Entry) -> None:
    """Write the files of a run; its .json comes last, as a sign that all are complete."""
    from ufm._support.strict_json import dumps
    from ufm.report._table import to_csv
    from ufm.runs.run_folder import slug

    name = found["loss"]
    if result.history:
        folder.add(f"{slug(name)}.csv", to_csv([result.history]).encode())
    if result.layer is None:
        folder.add(f"{slug(name)}.json", dumps(found).encode())
    else:
        folder.store(name, result.layer.arrays(), found)


# On the terminal -----------------------------------------------------------------------------


def show(data: "ImageData", config: "TrainConfig", results: Sequence[Entry], folder: Path) -> None:
    """Print one row for each loss, then notes on its numbers."""
    from ufm.runs.run_folder import slug

    for line in headlines(data, config):
        say(line)
    show_table(_table(results))
    for line in notes(results):
        say(line)
    say(f"Results: {folder}")
    certified = next((x["loss"] for x in results if x["status"] == "completed"), None)
    if certified is not None:
        say(f"Last layer: {command('ufm', 'certify', folder / f'{slug(certified)}.npz')}")


def headlines(data: "ImageData", config: "TrainConfig") -> list[str]:
    """Describe data, network and optimiser."""
    rows, columns, channels = data.image_shape
    model, width, depth, norm = config.architecture
    layers = "hidden layers" if model == "mlp" else "blocks a stage"
    samples = len(data.labels)
    return [
        f"{data.name}: {samples:,} training images, {data.per_class:,} of each of "
        f"{data.num_classes} classes, {len(data.test_labels):,} test images, "
        f"{rows}×{columns}×{channels}",
        *(f"note: {note}" for note in data.notes),
        f"{model}: width {width:g}, {depth} {layers}, norm {norm}; {config.epochs} epochs in "
        f"batches of {config.batch(samples)}, momentum {config.momentum:g}, weight decay "
        f"{config.weight_decay:g}, rate ÷ 10 after 3/7 and 5/7",
    ]


def _table(results: Sequence[Entry]) -> Table:
    headings = ("loss", "train", "test", "NC1", "NC2", "NC3", "‖G‖₂/μ", "shape", "rate", "time")
    table = plain_table(headings, words=headings[:1], gap=2)
    for result in results:
        history = result["history"]
        table.add_row(
            result["label"],
            *(_percent(history, f"{part}_accuracy") for part in ("train", "test")),
            *(_first_and_last(history, name) for name in ("nc1", "nc2", "nc3")),
            _last(history, "centred_dual_ratio"),
            _last(history, "centred_shape_distance"),
            f"{result['learning_rate']:g}",
            f"{result['seconds']:.1f} s",
        )
    table.caption = (
        "NC1–NC3 of all training images: after the first epoch → after the last. ‖G‖₂/μ is 1 at a "
        "minimum of the model for the last layer, its features centred; shape: distance to the "
        "nearest minimiser after the best rescaling"
    )
    table.caption_justify = "left"
    return table


def _percent(history: Entry, name: str) -> str:
    return f"{100 * history[name][-1]:.2f} %" if history else "—"


def _first_and_last(history: Entry, name: str) -> str:
    """Format the first and last value of a metric; "—" if undefined."""
    if not history:
        return "—"
    shown = (
        "—" if x is None or x != x else f"{x:.1e}" for x in (history[name][0], history[name][-1])
    )
    return " → ".join(shown)


def _last(history: Entry, name: str) -> str:
    value = history[name][-1] if name in history else None
    return "—" if value is None or value != value else f"{value:.2g}"


def failures(results: Sequence[Entry]) -> str:
    """Name the losses without a trained network on one line; empty if there are none."""
    lost = [f"{x['loss']} ({x['status']})" for x in results if x["status"] != "completed"]
    if not lost:
        return ""
    return (
        f"{len(lost)} of {len(results)} losses ended without a trained network: {', '.join(lost)}; "
        "try a lower --learning-rate in another --out"
    )


def notes(results: Sequence[Entry]) -> list[str]:
    """Explain the numbers, and claim no more than was computed."""
    said = []
    for result in results:
        label, history = result["label"], result["history"]
        if result["status"] != "completed":
            what = "DIVERGED" if result["status"] == "diverged" else "the network has DIED"
            said.append(
                f"{label}: {what} in epoch {result['epochs_done']} at learning rate "
                f"{result['learning_rate']:g}; "
                + (
                    "the numbers are those of the last measurement before"
                    if history
                    else "no number"
                )
            )
        elif history["train_accuracy"][-1] < 1:
            said.append(
                f"{label}: not at zero training error; collapse belongs to what comes after"
            )
    said += [x["normalisation"] for x in results if x["factor"] != 1]
    said += [_spectrum(x) for x in results if "hessian" in x]
    chosen = [x for x in results if x["learning_rate_choice"] is not None]
    if chosen:
        said.append(
            "Rates are the best on a validation split of the training images: "
            + "; ".join(_trials(x) for x in chosen)
        )
    said += [x for x in map(_at_the_edge, chosen) if x]
    return said


def _at_the_edge(result: Entry) -> str:
    """State that the chosen rate is at an end of those tried, if so."""
    from ufm.networks.training.learning_rate import edge

    rate = result["learning_rate"]
    tried = [trial["learning_rate"] for trial in result["learning_rate_choice"]["trials"]]
    word = edge(rate, tried)
    if not word:
        return ""
    return (
        f"{result['label']}: the rate {rate:g} is the {word} tried, and a better one may lie "
        "beyond: compare with --learning-rate"
    )


def _spectrum(result: Entry) -> str:
    """Describe the ends of the Hessian's spectrum, its trace, and its negative share."""
    found, label = result["hessian"], result["label"]
    if "trace_lower" not in found:
        return f"{label}: the stored Hessian has no error bounds: run again with another --out"
    names = {"largest": "largest eigenvalue", "smallest": "smallest eigenvalue", "trace": "trace"}
    spans = [
        f"{word} {outward(found[f'{name}_lower'], found[f'{name}_upper'])}"
        for name, word in names.items()
    ]
    low, high = (100 * found[f"negative_share_{end}"] for end in ("lower", "upper"))
    text = (
        f"{label}: Hessian of {found['num_parameters']:,.0f} parameters: {'; '.join(spans)}; "
        f"{outward(low, high)} % of the eigenvalues negative (each with "
        f"{100 * found['confidence']:g} % confidence)"
    )
    missed = [name for name in ("largest", "smallest") if not found[f"{name}_converged"]]
    if missed:
        text += f". NOT CONVERGED: {' and '.join(missed)} (residual too large)"
    return text


def outward(low: float, high: float) -> str:
    """Format an interval with three digits, rounded outward so that it contains the exact one."""
    return f"{_rounded(low, ROUND_FLOOR)} to {_rounded(high, ROUND_CEILING)}"


def _rounded(x: float, rounding: str) -> str:
    if not math.isfinite(x):
        return f"{x:g}"
    digits = decimal.Context(prec=3, rounding=rounding).plus(decimal.Decimal(x))
    return f"{float(digits):.3g}"


def _trials(result: Entry) -> str:
    """List the candidate rates of a loss with their validation accuracies."""
    trials = result["learning_rate_choice"]["trials"]
    shown = (
        f"{trial['learning_rate']:g} diverged"
        if trial["validation_accuracy"] is None
        else f"{trial['learning_rate']:g} {100 * trial['validation_accuracy']:.1f} %"
        for trial in trials
    )
    return f"{result['label']} {', '.join(shown)}"
