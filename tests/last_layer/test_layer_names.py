"""Arrays by their usual names, by shape where several have one, and asked for where it is open."""

import numpy as np
import pytest
from stored_layers import LABELS, ROWS, SETTINGS, B, W, plain_value

from ufm import load_classifier, objective

DATA = {"H": ROWS, "labels": LABELS}


def load(tmp_path, arrays, **options):
    np.savez(tmp_path / "layer.npz", **arrays)
    return load_classifier(tmp_path / "layer.npz", **SETTINGS | options)


def refusal(tmp_path, arrays, **options) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is the test
        load(tmp_path, arrays, **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(tmp_path), "")


def value(layer) -> float:
    return float(objective(layer.problem, layer.params))


@pytest.mark.parametrize("weight", [
    *("weight", "fc.weight", "head.weight", "classifier.1.weight", "module.fc.weight"),
    *("params.Dense_0.kernel", "model.backbone.last_layer.weight", "fc_weight", "head_kernel"),
])  # fmt: skip
def test_a_weight_is_found_with_the_bias_beside_it(weight, tmp_path):
    bias = weight.replace("weight", "bias").replace("kernel", "bias")
    matrix = W.T if weight.endswith("kernel") else W
    layer = load(tmp_path, DATA | {weight: matrix, bias: B})
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    size = " x ".join(map(str, matrix.shape))
    assert f"W is {weight} ({size}) (`weight`)" in layer.notes


def test_a_bias_of_another_layer_is_not_taken(tmp_path):
    arrays = DATA | {"fc_weight": W, "stem_bias": np.ones(5)}
    with pytest.raises(ValueError, match="lam_b is given but there is no b"):
        load(tmp_path, arrays)
    assert value(load(tmp_path, arrays | {"bias": B})) == pytest.approx(plain_value(), rel=1e-14)


def test_weights_in_the_loss_are_not_a_layer(tmp_path):
    arrays = DATA | {"fc_weight": W, "fc_bias": B, "pos_weight": np.ones(3)}
    assert "pos_weight beside the layer: weights in the loss" in refusal(tmp_path, arrays)


@pytest.mark.parametrize(
    "name", ["features", "feats", "train_embeddings", "Penultimate", "h", "data.feats"]
)
def test_features_have_many_names(name, tmp_path):
    layer = load(tmp_path, {"W": W, "b": B, name: ROWS, "y_train": LABELS})
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    assert layer.notes[:2] == (
        f"H is {name} (6 x 4) (`features_name`)",
        "labels are y_train (6) (`labels`)",
    )


def test_layers_that_are_numbered_are_told_by_what_they_take(tmp_path):
    arrays = {"0.weight": np.ones((7, 5)), "2.weight": np.ones((4, 7)), "4.weight": W, "4.bias": B}
    layer = load(tmp_path, DATA | arrays)
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)


OTHER = np.ones((3, 4))


def test_the_last_layer_is_told_by_its_shape_or_its_usual_name(tmp_path):
    # The first does not take features of dimension 4, the second is not a head by its name.
    arrays = {"fc1.weight": np.ones((4, 5)), "proj.weight": OTHER, "fc.weight": W, "fc.bias": B}
    layer = load(tmp_path, DATA | arrays)
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    told = load(tmp_path, DATA | arrays, weight="proj.weight", bias="fc.bias")
    assert value(told) == pytest.approx(plain_value(W=OTHER), rel=1e-14)
    assert not any("(`weight`)" in note for note in told.notes)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"a.weight": W, "b.weight": OTHER, "a.bias": B},
            "W may be a.weight (3 x 4) or b.weight (3 x 4): say which with `weight` NAME",
        ),
        (
            {"fc.weight": W, "ema.fc.weight": OTHER, "fc.bias": B},
            "W may be ema.fc.weight (3 x 4) or fc.weight (3 x 4): say which with `weight` NAME",
        ),
        (
            {"W1": W, "W2": OTHER, "b": B},
            "W may be W1 (3 x 4) or W2 (3 x 4): say which with `weight` NAME",
        ),
        (
            {"fc.weight_g": np.ones((3, 1)), "fc.weight_v": W, "fc.bias": B},
            "/layer.npz has no W (it has H, fc.bias, fc.weight_g, fc.weight_v, labels): add it, or "
            "say which it is with `weight` NAME",
        ),
    ],
)
def test_what_is_open_is_asked(arrays, message, tmp_path):
    assert refusal(tmp_path, DATA | arrays) == message


def test_a_name_that_is_not_there_is_told_with_those_that_are(tmp_path):
    arrays = DATA | {"W": W, "b": B}
    assert refusal(tmp_path, arrays, labels="targets") == (
        "/layer.npz has no targets (it has H, W, b, labels): correct `labels`"
    )


def test_names_of_another_layer_are_of_no_concern(tmp_path):
    arrays = {"W": W, "b": B, "bn.weight": np.ones(4), "norm.scale": np.ones(4), "gate.s": 1.0}
    assert "not used: bn.weight, norm.scale, gate.s" in load(tmp_path, DATA | arrays).notes


def test_the_buffer_of_a_loss_is_its_class_weights(tmp_path):
    arrays = DATA | {"fc.weight": W, "fc.bias": B}
    layer = load(tmp_path, arrays | {"criterion.weight": np.array([1.0, 2.0, 3.0])})
    assert "class_weights are criterion.weight (3) (`class_weights`)" in layer.notes
    assert layer.problem.loss.label() == "CE with class weights"
