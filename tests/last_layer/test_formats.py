"""One layer in every format: the same problem and point, and nothing read before it is needed."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from stored_layers import DECAYS, LABELS, ROWS, SETTINGS, WRITERS, B, W, plain_value, write_shards

from ufm import load_classifier, objective
from ufm.last_layer.files import read_layer
from ufm.last_layer.formats.read_files import read_files

#: NumPy's .npz and .npy have no bfloat16; there its numbers are stored as float32.
DTYPES = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_layer(kind, dtype, tmp_path):
    layer = load_classifier(WRITERS[kind](tmp_path, dtype), **SETTINGS)
    narrow, rows = (x.astype(dtype).astype(float) for x in (W, ROWS))
    np.testing.assert_array_equal(layer.params.W, narrow)
    np.testing.assert_array_equal(layer.params.H, rows[layer.order].T)
    np.testing.assert_array_equal(layer.params.b, B)
    expected = plain_value(W=narrow, H=rows)
    assert float(objective(layer.problem, layer.params)) == pytest.approx(expected, rel=1e-14)


def test_what_was_found_is_said(tmp_path):
    paths = WRITERS["safetensors"](tmp_path, np.float32)
    assert load_classifier(paths, **SETTINGS).notes[:5] == (
        "H is features (6 x 4) (`features_name`)",
        "labels are targets (6) (`labels`)",
        "W is module.fc.weight (3 x 4) (`weight`)",
        "b is module.fc.bias (3) (`bias`)",
        "not used: body.0.bias, body.0.weight",
    )
    (tmp_path / "shards").mkdir()
    notes = load_classifier(write_shards(tmp_path / "shards", np.float64), **SETTINGS).notes
    assert notes[0] == "H is feats (1 x 4 + 3 x 4 + 2 x 4) (`features_name`)"


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_features_stay_on_disk_until_they_are_converted(kind, tmp_path):
    names = dict.fromkeys(("weight", "bias", "features_name", "labels"))
    stored = read_layer(WRITERS[kind](tmp_path, np.float16), names, SETTINGS)
    assert stored.layout == "rows"
    assert len(stored.shards) == (3 if kind == "npy" else 1)
    for shard in stored.shards:
        assert isinstance(shard, np.memmap)
        assert shard.dtype == np.float16
    np.testing.assert_array_equal(np.concatenate(stored.shards), ROWS.astype(np.float16))
    np.testing.assert_array_equal(stored.labels, LABELS)
    assert stored.class_counts == (2, 2, 2)
    np.testing.assert_array_equal(stored.columns(), ROWS.astype(np.float16)[stored.order].T)


def test_shards_follow_their_numbers_and_columns_are_joined_along_samples(tmp_path):
    columns = np.arange(48.0).reshape(4, 12)
    for i in range(12):
        np.save(tmp_path / f"h_{i + 1}.npy", columns[:, i : i + 1])
    array = read_files([tmp_path])["h"]
    np.testing.assert_array_equal(np.concatenate(array.read(), axis=1), columns)
    for name, value in (("W", W), ("labels", np.repeat(LABELS, 2)), ("b", B)):
        np.save(tmp_path / f"{name}.npy", value)
    layer = load_classifier(tmp_path, features_name="h", **SETTINGS)
    np.testing.assert_array_equal(layer.params.H, columns[:, layer.order])


def test_the_content_tells_the_kind_of_a_file(tmp_path):
    save_file({"W": W, "b": B}, tmp_path / "head.npz")
    with open(tmp_path / "H.pt", "wb") as file:
        np.save(file, ROWS)
    with open(tmp_path / "rest", "wb") as file:
        np.savez(file, labels=LABELS, loss="ce", **DECAYS)
    layer = load_classifier([tmp_path / name for name in ("head.npz", "H.pt", "rest")])
    value = float(objective(layer.problem, layer.params))
    assert value == pytest.approx(plain_value(), rel=1e-14)


def test_an_empty_tensor_and_one_of_another_dtype_do_no_harm(tmp_path):
    extra = {"empty": np.empty((0, 3)), "flags": np.ones(3, bool)}
    save_file({"W": W, "b": B, "H": ROWS, "labels": LABELS, **extra}, tmp_path / "x")
    arrays = read_files([tmp_path / "x"])
    assert arrays["empty"].whole().shape == (0, 3)
    layer = load_classifier(tmp_path / "x", **SETTINGS)
    assert "not used: empty, flags" in layer.notes
