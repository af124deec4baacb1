"""Reading somebody's last layer: what is recognised, what is inferred, and what is refused."""

import io
import pickle
import re
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from ufm import LabelSmoothing, as_classifier, load_classifier, objective
from ufm.solvers import solve

#: K = 3, d = 4, N = 6, not ordered by class.
LABELS = np.array([2, 0, 1, 0, 2, 1])
RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 4))
ROWS = RNG.normal(size=(6, 4))
B = RNG.normal(size=3)
GOOD = {"W": W, "H": ROWS, "labels": LABELS, "lam_w": 2e-2, "lam_h": 5e-3, "loss": "ls:0.1"}


def plain_value(b=None, lam_h=5e-3, lam_b=0.0) -> float:
    """f, sample by sample, in the order of the file."""
    total = 0.0
    for h, y in zip(ROWS, LABELS, strict=True):
        v = W @ h + (0.0 if b is None else b)
        log_p = v - np.logaddexp.reduce(v)
        total -= np.sum((0.9 * np.eye(3)[y] + 0.1 / 3) * log_p) / 6
    penalty = 2e-2 * np.sum(W**2) + lam_h * np.sum(ROWS**2)
    return total + 0.5 * (penalty + (0.0 if b is None else lam_b * np.sum(b**2)))


def save(path, **changes):
    """GOOD with changes; None leaves a key out."""
    arrays = {name: value for name, value in (GOOD | changes).items() if value is not None}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layer.npz"


def value(layer) -> float:
    return float(objective(layer.problem, layer.params))


@pytest.mark.parametrize("features", [ROWS, ROWS.T], ids=["rows", "columns"])
def test_unsorted_samples_give_the_value_of_the_file(path, features):
    layer = load_classifier(save(path, H=features))
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    assert layer.problem.class_counts == (2, 2, 2)
    assert isinstance(layer.problem.loss, LabelSmoothing)
    assert not layer.lam_h_inferred


def test_the_order_says_where_each_column_came_from(path):
    layer = load_classifier(save(path))
    # Stable: samples of a class stay in the order of the file.
    assert layer.order.tolist() == [1, 3, 2, 5, 0, 4]
    assert np.array_equal(layer.params.H, ROWS[layer.order].T)
    assert np.array_equal(layer.problem.labels, LABELS[layer.order])
    assert any("sorted" in note for note in layer.notes)
    assert any("rows" in note for note in layer.notes)


def test_as_many_samples_as_features_need_to_be_told_apart(path):
    square = RNG.normal(size=(6, 6))
    wide = RNG.normal(size=(3, 6))
    save(path, W=wide, H=square)
    with pytest.raises(ValueError, match="`features` rows"):
        load_classifier(path)
    by_rows = load_classifier(path, features="rows")
    by_columns = load_classifier(path, features="columns")
    assert np.array_equal(by_rows.params.H, square[by_rows.order].T)
    assert np.array_equal(by_columns.params.H, square[:, by_columns.order])


def test_an_inferred_decay_is_that_of_a_critical_point_and_is_said(path):
    layer = load_classifier(save(path, lam_h=None))
    expected = 2e-2 * np.sum(W**2) / np.sum(ROWS**2)
    assert float(layer.problem.lam_h) == pytest.approx(expected, rel=1e-14)
    assert layer.lam_h_inferred
    assert "inferred" in layer.notes[0]
    assert "the verdict concerns the problem with this decay" in layer.notes[0]
    # At a critical point of a problem with some lam_h it returns that very lam_h.
    given = load_classifier(path, lam_h=7e-3)
    found = solve(given.problem, given.params).params
    again = as_classifier(
        found.W, found.H, given.problem.labels, loss="ls:0.1", lam_w=2e-2, features="columns"
    )
    assert float(again.problem.lam_h) == pytest.approx(7e-3, rel=1e-7)


def test_flags_override_the_file_and_say_so(path):
    layer = load_classifier(save(path), loss="CE", lam_w=1e-3)
    assert layer.problem.loss.label() == "CE"
    assert layer.problem.lam_w == 1e-3
    said = " ".join(layer.notes)
    assert "the given lam_w = 0.001 overrides 0.02 of the file" in said
    assert "the given loss = ce overrides ls:0.1 of the file" in said
    # The same value is no override.
    assert not load_classifier(path, loss="LS:0.1", lam_w=2e-2).notes[0].startswith("l")


def test_a_bias_comes_with_its_decay(path):
    layer = load_classifier(save(path, b=B, lam_b=0.3))
    assert value(layer) == pytest.approx(plain_value(B, lam_b=0.3), rel=1e-14)
    with pytest.raises(ValueError, match="give `lam_b`"):
        load_classifier(save(path, b=B))
    with pytest.raises(ValueError, match="there is no b"):
        load_classifier(save(path, lam_b=0.3))


def test_single_precision_is_widened_and_said(path):
    layer = load_classifier(save(path, W=W.astype(np.float32), loss=b"ls:0.1"))
    assert layer.params.W.dtype == jnp.float64
    assert np.array_equal(layer.params.W, W.astype(np.float32))
    assert any("W (float32)" in note for note in layer.notes)


def test_other_arrays_are_named_and_not_read(path):
    save(path, epoch=3, junk=np.array([{}], dtype=object))
    layer = load_classifier(path)
    assert "not used: epoch, junk" in layer.notes


NAN = np.where(np.arange(12).reshape(3, 4) == 6, np.nan, W)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"W": None},
            "has no W (it has H, labels, lam_h, lam_w, loss): add it, or say which it is with "
            "`weight` NAME",
        ),
        (
            {"lam_w": None},
            "has no lam_w (it has H, W, labels, lam_h, loss): add it, or give `lam_w`",
        ),
        ({"loss": None}, "or give `loss`"),
        ({"W": NAN}, "W has 1 of 12 entries NaN or infinite, the first at [1, 2]"),
        ({"H": ROWS * np.inf}, "H has 24 of 24 entries NaN or infinite"),
        ({"b": B * np.nan, "lam_b": 0.0}, "b has 3 of 3 entries NaN or infinite"),
        ({"W": W[None]}, "W must be K x d with at least 2 classes and 1 feature"),
        ({"W": W[:1]}, "got shape (1, 4); the row w of a sigmoid is W = [-w/2, w/2], b alike,"),
        ({"W": W[:, :0]}, "got shape (3, 0)"),
        ({"W": W + 0j}, "got dtype complex128: save W.real if its imaginary part is 0"),
        ({"W": np.full((3, 4), "x")}, "W must be an array of real numbers, got dtype <U1"),
        ({"H": ROWS[:5]}, "H must have shape (4, 6) by columns or (6, 4) by rows"),
        ({"b": np.zeros(4), "lam_b": 0.0}, "b must have one entry for each of the 3 classes of"),
        ({"labels": LABELS + 2}, "labels must lie in 0..2 (W has 3 classes), got 4 at sample 0"),
        (
            {"labels": np.where(LABELS == 1, 0, LABELS)},
            "labels has no sample of class 1: every one of the 3 classes of W needs samples",
        ),
        ({"labels": LABELS[:0], "H": ROWS[:0]}, "labels has no sample of class 0, 1, 2"),
        ({"lam_w": -1.0}, "lam_w must be non-negative and finite, got -1.0"),
        ({"lam_h": np.nan}, "lam_h must be non-negative and finite, got nan"),
        ({"b": B, "lam_b": -0.1}, "lam_b must be non-negative and finite, got -0.1"),
        ({"lam_w": [1.0, 2.0]}, "lam_w must be a single value, got an array of shape (2,)"),
        ({"lam_w": "much"}, "lam_w must be a number, got 'much'"),
        ({"lam_h": None, "H": 0 * ROWS}, "H is zero, so that lam_h cannot be inferred"),
        ({"loss": "hinge"}, "unknown loss 'hinge': choose ce"),
        ({"loss": "ls:1"}, "alpha must be in [0, 1)"),
        ({"loss": 3.0}, "loss must be text such as 'ce'"),
        (
            {"labels": np.array([{}] * 6, dtype=object)},
            "labels in {} is an array of Python objects",
        ),
    ],
)
def test_what_is_no_last_layer_is_refused_with_a_remedy(path, changes, message):
    save(path, **changes)
    with pytest.raises(ValueError, match=re.escape(message.replace("{}", str(path)))) as refusal:
        load_classifier(path)
    assert "\n" not in str(refusal.value)


def broken_files() -> dict[str, tuple[bytes, str]]:
    buffer = io.BytesIO()
    np.savez(buffer, **GOOD)
    whole = buffer.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("model/weights", b"\x80\x04.")
    array = io.BytesIO()
    np.save(array, W)
    flipped = bytearray(whole)
    flipped[whole.index(W.tobytes()[:16]) + 20] ^= 0xFF
    return {
        "truncated": (whole[: len(whole) // 2], "is damaged or truncated"),
        "flipped": (bytes(flipped), "W in {} is damaged or truncated"),
        "pickle": (pickle.dumps({"W": W}), "is a pickle, which is never loaded"),
        "text": (b"W = 1\n", "is not an .npz, .npy, .safetensors or .pt file: write it with"),
        "empty": (b"", "is not an .npz, .npy, .safetensors or .pt file"),
        "zip": (archive.getvalue(), "is a zip archive without NumPy arrays"),
        "npy": (array.getvalue(), "has no H (it has layer): add it"),
    }


@pytest.mark.parametrize("kind", broken_files())
def test_files_that_are_no_npz_are_named(path, kind):
    content, message = broken_files()[kind]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message.replace("{}", str(path)))) as refusal:
        load_classifier(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_that_are_not_there_or_not_readable_are_named(path, monkeypatch):
    with pytest.raises(ValueError, match="does not exist"):
        load_classifier(path)
    with pytest.raises(ValueError, match=r"is a folder without \.npy files"):
        load_classifier(path.parent)
    save(path)

    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\)"):
        load_classifier(path)


def test_a_pickle_inside_is_never_run(path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    save(path, W=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="which is never loaded"):
        load_classifier(path)
