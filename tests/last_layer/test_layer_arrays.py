"""Layers as PyTorch, Flax and Keras store them: the same point, or a line that says what to do."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from ufm import as_classifier, load_classifier, objective
from ufm.last_layer.arrays import layouts

#: K = 3, d = 4, N = 6, not ordered by class.
LABELS = np.array([2, 0, 1, 0, 2, 1])
RNG = np.random.default_rng(0)
W, ROWS, B = RNG.normal(size=(3, 4)), RNG.normal(size=(6, 4)), RNG.normal(size=3)
DECAYS = {"lam_w": 2e-2, "lam_h": 5e-3, "lam_b": 1e-2}


def layer_of(W=W, H=ROWS, labels=LABELS, b=B, **options):
    return as_classifier(W, H, labels, b=b, loss="ce", **DECAYS | options)


def plain_value(W=W, H=ROWS, labels=LABELS, b=B) -> float:
    """f with W (K, d), sample by sample."""
    total = 0.0
    for h, y in zip(H, labels, strict=True):
        v = W @ h + b
        total += (np.logaddexp.reduce(v) - v[y]) / len(labels)
    return total + 0.5 * (2e-2 * np.sum(W**2) + 5e-3 * np.sum(H**2) + 1e-2 * np.sum(b**2))


def value(layer) -> float:
    return float(objective(layer.problem, layer.params))


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is the test
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Axes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [ROWS, ROWS.T], ids=["rows", "columns"])
def test_a_kernel_of_in_by_out_is_transposed_and_said(features):
    # Before labels are looked at: with 4 classes for 3 features some would have no sample.
    layer = layer_of(W.T, features)
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    said = "W is stored as d x K, as Flax and Keras do: it was transposed (`classifier`)"
    assert layer.notes[0] == said
    assert not any("transposed" in note for note in layer_of(W, features).notes)


def test_shapes_alone_decide_unless_w_or_h_is_square():
    """By brute force: whatever the sizes, the layout they came from is found or asked for."""
    sizes = range(2, 6)
    for classes, dim, samples in np.ndindex(4, 4, 4):
        K, d, N = sizes[classes], sizes[dim], sizes[samples]
        for w, h in np.ndindex(2, 2):
            truth = ("columns" if w else "rows", "columns" if h else "rows")
            shapes = ((d, K) if w else (K, d), [(d, N) if h else (N, d)])
            if d == N:
                assert "say how it is stored with `features`" in refusal(
                    layouts, *shapes, N, None, None
                )
                found = layouts(*shapes, N, None, truth[1])
            else:
                found = layouts(*shapes, N, None, None)
            assert found[1] == truth[1]
            assert found[0] == ("rows" if d == K else truth[0])
            assert layouts(*shapes, N, *truth) == truth


def trained(dim: int, seed: int = 0):
    """W (dim, dim) stationary given features: descent on the cross-entropy with decay alone."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * dim) % dim
    H = rng.normal(size=(2 * dim, dim))
    V = np.zeros((dim, dim))
    for _ in range(4000):
        p = np.exp(H @ V.T)
        p /= p.sum(axis=1, keepdims=True)
        V -= 0.5 * ((p - np.eye(dim)[labels]).T @ H / len(H) + 2e-2 * V)
    return V, H, labels


def test_a_square_w_is_read_as_documented_unless_the_loss_says_otherwise():
    V, H, labels = trained(3)
    b = np.zeros(3)
    layer = layer_of(V, H, labels, b)
    assert value(layer) == pytest.approx(plain_value(V, H, labels, b), rel=1e-14)
    assert "W is square and is read as K x d, one row for each class" in layer.notes[-1]
    said = refusal(layer_of, V.T, H, labels, b)
    assert said.startswith("W is 3 x 3, as many classes as features, and seems to be transposed")
    assert "`classifier` columns (d x K, as Flax and Keras do)" in said
    told = layer_of(V.T, H, labels, b, classifier="columns")
    assert value(told) == pytest.approx(plain_value(V, H, labels, b), rel=1e-14)
    # Told, it is believed, and nothing is to be said of a symmetric one.
    assert np.array_equal(layer_of(V.T, H, labels, b, classifier="rows").params.W, V.T)
    assert not any("square" in note for note in layer_of(V + V.T, H, labels, b).notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"H": ROWS[:, :, None, None]}, "got shape (6, 4, 1, 1): flatten it, H.reshape(6, -1)"),
        ({"H": ROWS[:, 0]}, "H must be a matrix, N x d or d x N, got shape (6,)"),
        ({"classifier": "columns"}, "H must have shape (3, 6) by columns or (6, 3) by rows for W"),
        ({"features": "columns"}, "with 6 labels and W of shape (3, 4) it is stored by rows"),
        ({"W": W.T, "b": np.zeros(4)}, "b must have one entry for each of the 3 classes of W"),
    ],
)
def test_shapes_that_do_not_fit_say_what_to_change(changes, message):
    assert message in refusal(layer_of, **changes)


# Labels --------------------------------------------------------------------------------------

ONE_HOT = np.eye(3)[LABELS]


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (LABELS[:, None], "labels of shape (6, 1) are read as 6 labels"),
        (LABELS[None, :].astype(np.uint8), "labels of shape (1, 6) are read as 6 labels"),
        (ONE_HOT, "labels of shape (6, 3) are one-hot: the class of each sample was taken"),
        (ONE_HOT.T.astype(bool), "labels of shape (3, 6) are one-hot: the class of each sample"),
    ],
)
def test_labels_of_keras_are_the_classes_of_samples(labels, note):
    layer = layer_of(labels=labels)
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    assert layer.problem.class_counts == (2, 2, 2)
    assert any(said.startswith(note) for said in layer.notes)


def ignored(label, keep=LABELS):
    return {"labels": np.append(keep, [label, label]), "H": np.vstack([ROWS, ROWS[:2]])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ignored(255),
            "got 255 at sample 6: if the loss ignored these 2 of 8 samples, give `ignore_index` "
            "255",
        ),
        (ignored(-1), "ignored these 2 of 8 samples, give `ignore_index` -1"),
        # No class is missing from the end where samples are left out: numbers begin at -1 here.
        ({"labels": LABELS - 1}, "labels must lie in 0..2 (W has 3 classes), got -1 at sample 1"),
        ({"labels": LABELS + 0.5}, "labels must be whole numbers 0..K-1"),
        ({"labels": 0.9 * ONE_HOT}, "labels must be distributions (non-negative with sum 1) or"),
        ({"labels": 2 * ONE_HOT}, "labels must be distributions (non-negative with sum 1) or"),
        ({"labels": np.eye(6)}, "one-hot by rows and by columns: save the class of each sample"),
        ({"labels": np.array(["a"] * 6)}, "labels are 1 names (a), and W has 3 classes"),
        ({"labels": 3}, "got shape ()"),
    ],
)
def test_labels_that_are_none_get_advice_that_does_no_harm(changes, message):
    said = refusal(layer_of, **changes)
    assert message in said
    assert "argmax" not in said or "one-hot by rows and by columns" in said


@pytest.mark.parametrize(("label", "options"), [(-100, {}), (255, {"ignore_index": 255})])
def test_dropping_what_was_ignored_is_the_mean_that_pytorch_takes(label, options):
    layer = layer_of(**ignored(label), **options)
    assert value(layer) == pytest.approx(plain_value(), rel=1e-14)
    assert layer.order.tolist() == [1, 3, 2, 5, 0, 4]
    said = f"2 of 8 samples have the label {label}, which losses ignore: they were left out"
    assert any(note.startswith(said) for note in layer.notes)


# Numbers -------------------------------------------------------------------------------------


class Tensor:
    """What a tensor of PyTorch does when NumPy asks for its numbers."""

    def __init__(self, array, dtype="torch.float32", grad=True):
        self.array, self.dtype, self.grad = np.asarray(array), dtype, grad

    def detach(self):
        return Tensor(self.array, self.dtype, grad=False)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array, grad=self.grad)

    def __array__(self, dtype=None, copy=None):
        if self.grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_tensors_are_taken_as_they_are(dtype):
    narrow = W.astype(jnp.bfloat16).astype(np.float32)
    layer = layer_of(Tensor(narrow, dtype), Tensor(ROWS), Tensor(LABELS), Tensor(B))
    assert value(layer) == pytest.approx(plain_value(narrow.astype(np.float64)), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, jnp.bfloat16, np.int8])
def test_narrow_numbers_are_widened_exactly_and_named(dtype):
    narrow = (8 * W).astype(dtype)
    layer = layer_of(narrow)
    assert np.array_equal(layer.params.W, narrow.astype(np.float64))
    assert any(f"W ({np.dtype(dtype)})" in note for note in layer.notes)


@pytest.mark.parametrize("name", ["W", "H", "b"])
def test_what_an_npz_makes_of_bfloat16_has_a_remedy(name, tmp_path):
    arrays = {"W": W, "H": ROWS, "b": B}
    arrays[name] = arrays[name].astype(jnp.bfloat16)
    path = tmp_path / "layer.npz"
    np.savez(path, **arrays, labels=LABELS, loss="ce", **DECAYS)
    assert refusal(load_classifier, path) == (
        f"{name} must be an array of real numbers, got dtype |V2, which is how an .npz stores "
        f"bfloat16: save {name} as float32, {name}.astype('float32') or, in PyTorch, {name}.float()"
    )


# What else is in the file --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weight", "weights in the loss define a different problem"),
        ("pos_weight", "weights in the loss define a different problem"),
        ("logit_scale", "give `temperature` T for logits (W H + b) / T"),
        ("logit_adjustment", "a shift of the logits in the loss defines a different problem"),
        ("label_smoothing", "it belongs in loss, as in 'ls:0.1'"),
        ("mask", "drop the samples that the loss did not see"),
        ("cosine", "give `classifier` sphere, `features` sphere, and leave it out"),
        ("reduction", "give `reduction`, and leave it out"),
    ],
)
def test_a_file_about_another_problem_is_refused(name, message, tmp_path):
    path = tmp_path / "layer.npz"
    np.savez(path, W=W, H=ROWS, b=B, labels=LABELS, loss="ce", **DECAYS, **{name: np.ones(3)})
    said = refusal(load_classifier, path)
    assert said.startswith(f"{path} has {name} beside the layer: ")
    assert message in said


@pytest.mark.parametrize(("name", "meant"), [("lam_H", "lam_h"), ("lambda_h", "lam_h")])
def test_another_name_of_a_decay_is_not_passed_over(name, meant, tmp_path):
    path = tmp_path / "layer.npz"
    np.savez(path, W=W, H=ROWS, labels=LABELS, loss="ce", lam_w=2e-2, **{name: 5e-3})
    assert refusal(load_classifier, path) == (
        f"{path} has {name}, which is not read: save it as {meant}, or give `{meant}`"
    )


def test_the_advice_on_a_sigmoid_is_exact():
    """W = [-w/2, w/2] with twice the decays is the logistic loss of wh + c with decay λ."""
    w, c, y = W[:1], 0.7, LABELS % 2
    margins = (ROWS @ w[0] + c) * (2 * y - 1)
    expected = np.mean(np.logaddexp(0, -margins)) + 0.5 * (
        2e-2 * np.sum(w**2) + 5e-3 * np.sum(ROWS**2) + 1e-2 * c**2
    )
    assert re.search(
        r"W = \[-w/2, w/2\], b alike, with twice lam_w", refusal(layer_of, w, labels=y)
    )
    both = np.array([[-0.5], [0.5]])
    layer = layer_of(both * w, labels=y, b=both[:, 0] * c, lam_w=4e-2, lam_b=2e-2)
    assert value(layer) == pytest.approx(expected, rel=1e-14)


def test_entries_whose_squares_are_not_numbers():
    assert refusal(layer_of, H=1e200 * ROWS) == (
        "H has entries above 1e+150, whose squares overflow: rescale"
    )
    tiny = refusal(as_classifier, W, 1e-200 * ROWS, LABELS, loss="ce", lam_w=2e-2)
    assert tiny.startswith("H is so small that its squares are zero")
    assert value(layer_of(H=1e-200 * ROWS)) == pytest.approx(plain_value(H=0 * ROWS), rel=1e-14)
