"""The results of `ufm train` for a paper: table.tex, and figures if requested."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ufm.networks import NetworkCurvature, TrainResult

Entry = Mapping[str, Any]


def table(results: Sequence[Entry]) -> bytes:
    """Make table.tex: the last measurement for every loss."""
    from ufm.report.networks.table import network_table

    first = results[0]
    data, config = first["data"], first["config"]
    network = f"{config['model']}, width {config['width']:g}, depth {config['depth']}"
    described = (
        f"{data['name']}: {data['per_class']} training images in each of {data['classes']} "
        f"classes, {data['test_images']} test images; {network}, norm {config['norm']}, "
        f"{config['epochs']} epochs, weight decay {config['weight_decay']:g}, seed {config['seed']}"
    )
    return network_table([_row(result) for result in results], [described]).encode()


def figures(results: Sequence[Entry]) -> list[tuple[str, bytes]]:
    """Make figures of collapse along training, and of the last layer beside the model's minimiser.

    They show the losses with measurements; without any there are no files.
    """
    from ufm.report import network_files
    from ufm.report.networks.hessian import hessian_files

    runs = [_run(result) for result in results if result["history"]]
    files = network_files(runs) if runs else []
    measured = [
        {"loss": result["loss"], "num_classes": result["data"]["classes"], **result["hessian"]}
        for result in results
        if "nodes" in result.get("hessian", {})  # version 0.2 stored only both ends
    ]
    return files + (hessian_files(measured) if measured else [])


def curvature_entry(
    found: "NetworkCurvature", result: "TrainResult", num_classes: int
) -> dict[str, Any]:
    """All results on a network's Hessian, as JSON.

    They include the model's spectrum at the global minimum of the last layer's problem, times the
    factor of the training objective; it is empty if unknown.
    """
    from ufm.spectra.at_points import spectrum

    assert result.layer is not None  # implied by the Hessian
    model: dict[str, list[float]] = {"eigenvalues": [], "multiplicities": []}
    try:
        exact = spectrum(result.layer.classifier().problem)
    except ValueError:
        pass
    else:
        factor = result.config.objective(num_classes).factor
        model["eigenvalues"] = (factor * exact.eigenvalues).tolist()
        model["multiplicities"] = exact.multiplicities.tolist()
    return {
        **found.row(),
        "nodes": found.density.nodes.tolist(),
        "weights": found.density.weights.tolist(),
        "largest_values": found.largest.values.tolist(),
        **model,
    }


def _row(result: Entry) -> dict[str, Any]:
    def last(name: str) -> float:
        return float(_column(result, name)[-1]) if name in result["history"] else math.nan

    return {
        "loss": result["loss"],
        "settings": {},
        "learning_rate": result["learning_rate"],
        "train_accuracy": 100 * last("train_accuracy"),
        "test_accuracy": 100 * last("test_accuracy"),
        "test_deviation": math.nan,
        "nc": [last(name) for name in ("nc1", "nc2", "nc3")],
        "dual_ratio": last("centred_dual_ratio"),
        "shape_distance": last("centred_shape_distance"),
    }


def _run(result: Entry) -> dict[str, Any]:
    from ufm.networks.training.optimiser import drops

    own = {name: result["config"][name] for name in ("width", "epochs", "seed")}
    history = {name: _column(result, name) for name in result["history"]}
    return {**own, "loss": result["loss"], **history, "drops": drops(own["epochs"])}


def _column(result: Entry, name: str) -> np.ndarray:
    """The array of a history in JSON, with NaN for null."""
    values = [math.nan if x is None else x for x in result["history"][name]]
    return np.array(values, int if name == "epoch" else float)
