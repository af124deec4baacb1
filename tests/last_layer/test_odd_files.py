"""Files and arrays that are no last layer: one line each that says what to change."""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save, save_file
from stored_layers import LABELS, ROWS, SETTINGS, B, W

from ufm import load_classifier

LAYER = {"W": W, "b": B, "H": ROWS, "labels": LABELS}
TENSORS = save({"W": W, "b": B, "H": ROWS, "labels": LABELS})


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**changes) -> bytes:
    """LAYER with changes; None leaves a key out."""
    buffer = io.BytesIO()
    arrays = {name: array for name, array in (LAYER | changes).items() if array is not None}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def checkpoint() -> bytes:
    """A zip archive with the members of a PyTorch checkpoint, one of which is a trap."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", b"cos\nabort\n(tR.")
        archive.writestr("model/version", b"3")
    return buffer.getvalue()


def header(**entry) -> bytes:
    """A .safetensors file of one float with this header."""
    text = json.dumps({"W": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry})
    return len(text).to_bytes(8, "little") + text.encode() + bytes(4)


#: Files, options, and what is said; the folder is left out of messages.
ODD = {
    # Kinds of files.
    "nothing": ({}, {}, "x does not exist: check the path"),
    "empty": ({"x": b""}, {}, "x is not an .npz, .npy, .safetensors or .pt file: write it with"),
    "text": ({"x": b"1,2,3\n4,5,6\n"}, {}, "x is not an .npz, .npy, .safetensors or .pt file"),
    "HDF5": ({"x": b"\x89HDF\r\n\x1a\n" + bytes(99)}, {}, "x is not an .npz, .npy, .safetensors"),
    "pickle": ({"x": pickle.dumps(LAYER)}, {}, "x is a pickle, which is never loaded"),
    "empty folder": ({"x/readme": b""}, {}, "x is a folder without .npy files"),
    "zip": ({"x": b"PK\x05\x06" + bytes(18)}, {}, "x is a zip archive without NumPy arrays"),
    # Damage.
    "half an npz": ({"x": npz()[:300]}, {}, "x is damaged or truncated: write it again"),
    "half an npy": ({"x": npz(H=None), "H": npy(ROWS)[:250]}, {}, "H is damaged or truncated"),
    "half the tensors": ({"x": TENSORS[:-9]}, {}, "x is damaged or truncated: write it again"),
    "half a header": ({"x": TENSORS[:60]}, {}, "x is damaged or truncated: write it again"),
    "no JSON": ({"x": b"\x04" + bytes(7) + b"{{{{" + bytes(9)}, {}, "x is damaged or truncated"),
    "tensors beyond the end": ({"x": header(data_offsets=[0, 400])}, {}, "x is damaged or trun"),
    "more numbers than bytes": ({"x": header(shape=[9])}, {}, "x is damaged or truncated"),
    "a flipped byte": (
        {"x": npz().replace(W.tobytes(), ROWS.tobytes()[: W.nbytes])},
        {},
        "W in x is damaged or truncated: write the file again",
    ),
    # Python objects.
    "objects in an npz": (
        {"x": npz(H=np.array([{}] * 6, object))},
        {},
        "H in x is an array of Python objects (a pickle), which is never loaded",
    ),
    "objects in an npy": (
        {"x": npz(H=None), "H": npy(np.array([{}] * 6, object))},
        {},
        "H is an array of Python objects (a pickle), which is never loaded: save plain numbers",
    ),
    # Shards.
    "a shard is missing": (
        {"x": npz(H=None), "h_0.npy": npy(ROWS[:2]), "h_2.npy": npy(ROWS[4:])},
        {},
        "h has 2 shards, and number 1 is missing (they are 0 to 2): give all of them",
    ),
    "the last shard is missing": (
        {"x": npz(H=None), "h-1-of-3.npy": npy(ROWS[:2]), "h-2-of-3.npy": npy(ROWS[2:])},
        {},
        "h has 2 shards, and number 3 is missing (they are 1 to 3)",
    ),
    "the first shards are missing": (
        {"x/h_2.npy": npy(ROWS), "x/h_3.npy": npy(ROWS)},
        {},
        "x/h_2.npy is the first shard of h: shard 0 or 1 is missing",
    ),
    "shards of one number": (
        {"x": npz(H=None), "h_1.npy": npy(ROWS), "h_01.npy": npy(ROWS)},
        {},
        "h_1.npy and h_01.npy have the same number: leave one out",
    ),
    "shards of two dtypes": (
        {"x/h0.npy": npy(ROWS), "x/h1.npy": npy(ROWS.astype(np.float16))},
        {},
        "h has shards of different dtypes, float64 (h0.npy) and float16 (h1.npy): convert them",
    ),
    "shards of two widths": (
        {"x/h0.npy": npy(ROWS), "x/h1.npy": npy(np.ones((5, 3)))},
        {},
        "x/h1.npy has shape (5, 3), which does not continue h0.npy of shape (6, 4)",
    ),
    "shards of two dimensions": (
        {"x/h0.npy": npy(ROWS), "x/h1.npy": npy(B)},
        {},
        "x/h1.npy has shape (3,), which does not continue h0.npy of shape (6, 4)",
    ),
    "fewer features than labels": (
        {"x": npz(H=None), "h_0.npy": npy(ROWS[:2]), "h_1.npy": npy(ROWS[:3])},
        {},
        "H must have shape (4, 6) by columns or (6, 4) by rows for W with 4 columns and 6 labels, "
        "got (5, 4)",
    ),
    # Which array is which.
    "one name twice": ({"x": npz(), "H": npy(ROWS)}, {}, "H is in x and in H: give one of them"),
    "no labels": ({"x": npz(labels=None)}, {}, "x has no labels (it has H, W, b): add it, or say"),
    "no features": ({"x": npz(H=None)}, {}, "x has no H (it has W, b, labels): add it, or say"),
    "weights as W": ({"x": npz()}, {"weight": "b"}, "W must be K x d with at least 2 classes"),
    "no decay": ({"x": npz()}, {"lam_w": None}, "x has no lam_w (it has H, W, b, labels): add it"),
    "a cosine head": (
        {"x": npz(**{name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in
                     (("W", W), ("H", ROWS))}, b=None)},
        {"lam_b": None},
        "W has rows of norm 1, and H features of norm 1, as a cosine head has",
    ),
    # Numbers.
    "a dtype of eight bits": (
        {"x": save({"W": W.astype(ml_dtypes.float8_e4m3fn), "H": ROWS, "labels": LABELS})},
        {"lam_b": None},
        "W in x has dtype F8_E4M3: save it as F32, F16 or BF16",
    ),
    "NaN in a shard": (
        {"x": npz(H=None), "h_0.npy": npy(ROWS[:2]), "h_1.npy": npy(np.nan * ROWS[2:])},
        {},
        "H has 16 of 16 entries NaN or infinite, the first at [0, 0]",
    ),
    "enormous features without a bias": (
        {"x": npz(H=1e200 * ROWS, b=None)},
        {"lam_b": None},
        "H has entries above 1e+150, whose squares overflow: rescale",
    ),
    "a temperature for each class": (
        {"x": npz(temperature=np.ones(3))},
        {},
        "temperature must be a single value, got an array of shape (3,)",
    ),
    # Labels.
    "soft labels": (
        {"x": npz(labels=np.full((6, 3), 1 / 2))},
        {},
        "labels must be distributions (non-negative with sum 1) or 0/1 indicators of labels",
    ),
    "too few classes": (
        {"x": npz(labels=np.minimum(LABELS, 1))},
        {},
        "labels has no sample of class 2: every one of the 3 classes of W needs samples",
    ),
    "too many names": (
        {"x": npz(labels=np.array(["a", "b", "c", "d", "a", "b"]))},
        {},
        "labels are 4 names (a, b, c, d), and W has 3 classes: give `class_names` in the order",
    ),
    "an unknown name": (
        {"x": npz(labels=np.array(["a", "b", "c", "d", "a", "b"]))},
        {"class_names": ("a", "b", "c")},
        "labels have d, which `class_names` has not: add it",
    ),
    "from 1, said to be from 0": (
        {"x": npz(labels=LABELS + 1)},
        {"first_label": 0},
        "labels must lie in 0..2 (W has 3 classes), got 3 at sample 0: give `first_label` 1",
    ),
    "all ignored": (
        {"x": npz(labels=np.full(6, -100))},
        {},
        "all 6 samples have the label -100, which losses ignore: give labels of classes, or",
    ),
    "names of numbers": (
        {"x": npz()},
        {"class_names": ("a", "b", "c")},
        "labels are whole numbers, not names: leave `class_names` out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, options, message = ODD[name]
    for path, content in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    paths = ["x", *sorted(path for path in files if not path.startswith("x"))]
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        load_classifier(paths, **SETTINGS | options)
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_needs_pytorch_and_is_never_unpickled_without(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    path = tmp_path / "model.pt"
    path.write_bytes(checkpoint())
    with pytest.raises(ValueError, match="PyTorch is not installed here: where PyTorch is") as said:
        load_classifier(path, **SETTINGS)
    assert "numpy.savez(FILE" in str(said.value)


def test_tensors_are_read_whatever_the_file_is_called(tmp_path):
    save_file(LAYER, tmp_path / "layer.pkl")
    assert load_classifier(tmp_path / "layer.pkl", **SETTINGS).problem.num_columns == 6


# Labels that are read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "options", "note"),
    [
        (LABELS + 1, {}, "labels 1..3 are read as 0..2 (`first_label`)"),
        (LABELS + 1, {"first_label": 1}, None),
        (
            np.array(["cat", "dog", "eel"])[LABELS],
            {},
            "labels are names: class 0, 1, ... is cat, dog, eel, in sorted order (`class_names`)",
        ),
        (
            np.array(["eel", "cat", "dog"])[LABELS],
            {"class_names": ("eel", "cat", "dog")},
            "labels are names: class 0, 1, ... is eel, cat, dog, in the given order "
            "(`class_names`)",
        ),
        (
            LABELS.astype("S1"),
            {},
            "labels are texts of whole numbers, and read as these (`class_names`)",
        ),
        (LABELS.astype(np.uint8)[None], {}, "labels of shape (1, 6) are read as 6 labels"),
    ],
)
def test_labels_of_every_kind_are_the_same_classes(labels, options, note, tmp_path):
    path = tmp_path / "layer.npz"
    path.write_bytes(npz(labels=labels))
    layer = load_classifier(path, **SETTINGS, **options)
    np.testing.assert_array_equal(layer.problem.labels, LABELS[layer.order])
    np.testing.assert_array_equal(layer.params.H, ROWS[layer.order].T)
    said = [text for text in layer.notes if text.startswith("labels")]
    assert said == ([] if note is None else [note])
