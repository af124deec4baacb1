"""What a tracker takes from other libraries, and one line for what it cannot take."""

import jax.numpy as jnp
import numpy as np
import pytest

from ufm import CollapseTracker

FEATURES = np.array([[1.0, 0.5, 0.0], [-1.5, 2.0, 0.25], [0.75, 1.0, -2.0], [3.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 1, 0])


class OnADevice:
    """A tensor as PyTorch's: it must leave the graph and the device, and its bfloat16 too."""

    def __init__(self, array: np.ndarray, dtype: str, left: tuple[str, ...] = ()) -> None:
        self.array, self.dtype, self.left = array, dtype, left

    def detach(self):
        return OnADevice(self.array, self.dtype, (*self.left, "graph"))

    def cpu(self):
        return OnADevice(self.array, self.dtype, (*self.left, "device"))

    def float(self):
        return OnADevice(self.array, "torch.float32", self.left)

    def __array__(self, dtype=None, copy=None):
        if self.left != ("graph", "device") or self.dtype == "torch.bfloat16":
            raise RuntimeError("not an array of the host")
        return self.array


class OnlyDLPack:
    """An array that has no `__array__`, or refuses it, as CuPy's."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options):
        assert options.pop("dl_device", (1, 0)) == (1, 0)  # the CPU
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class RefusesArray(OnlyDLPack):
    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


def tracked(features, labels) -> CollapseTracker:
    tracker = CollapseTracker(2, 3)
    tracker.update(features, labels)
    return tracker


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.tolist(),
        lambda x: x if x.dtype == int else x.astype(np.float16),
        lambda x: x.astype(np.uint8) if x.dtype == int else x.astype(np.float32),
        lambda x: jnp.asarray(x) if x.dtype == int else jnp.asarray(x, jnp.float32),
        lambda x: jnp.asarray(x) if x.dtype == int else jnp.asarray(x, jnp.bfloat16),
        lambda x: OnADevice(x, "torch.float64"),
        lambda x: OnADevice(x, "torch.bfloat16"),
        OnlyDLPack,
        RefusesArray,
        np.asfortranarray,
    ],
    ids=["lists", "float16", "uint8 labels", "JAX", "bfloat16", "device", "bfloat16 on a device",
         "DLPack", "CuPy", "columns"],
)  # fmt: skip
def test_arrays_of_any_library_and_type_are_read(convert):
    # The numbers are exact in eight bits of mantissa.
    tracker = tracked(convert(FEATURES), convert(LABELS))
    means = np.stack([FEATURES[k == LABELS].mean(axis=0) for k in range(2)])
    np.testing.assert_array_equal(tracker.means, means)
    np.testing.assert_array_equal(tracker.counts, [2, 2])
    W = convert(means)
    assert tracker.compute(W).nc2 == pytest.approx(tracker.compute(means).nc2, rel=1e-6)


def test_an_empty_batch_changes_nothing():
    tracker = tracked(FEATURES, LABELS)
    tracker.update(np.empty((0, 3)), [])
    tracker.update_out_of_distribution(np.empty((0, 3)))
    np.testing.assert_array_equal(tracker.counts, [2, 2])
    assert np.isnan(tracker.compute().nc5)


def with_entry(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


REAL = "features must be an array of real numbers, got dtype"
NAN = "features has NaN or infinity in row"
WHOLE = "labels must be whole numbers of an integer type, got"
BAD_BATCHES = [
    (FEATURES[0], LABELS[:1], "features must have shape (m, 3), one row for each sample, got (3,)"),
    (FEATURES.T, LABELS[:3], "got (3, 4)"),
    (FEATURES[:2].T, LABELS[:2], "got (3, 2): transpose it"),
    (FEATURES[None], LABELS, "got (1, 4, 3)"),
    (FEATURES + 1j, LABELS, f"{REAL} complex128"),
    (FEATURES.astype(str), LABELS, f"{REAL} <U32"),
    (FEATURES.astype(object), LABELS, f"{REAL} object"),
    (with_entry(FEATURES, (2, 1), np.nan), LABELS, f"{NAN} 2 of 4"),
    (with_entry(FEATURES, (1, 0), np.inf), LABELS, f"{NAN} 1 of 4"),
    (FEATURES, LABELS[:3], "labels must have shape (4,), one class for each row of features"),
    (FEATURES, LABELS[:, None], "got (4, 1): flatten it"),
    (FEATURES, np.eye(2)[LABELS], "got (4, 2): labels.argmax(1) if one-hot"),
    (FEATURES, LABELS.astype(float), f"{WHOLE} float64"),
    (FEATURES, LABELS.astype(bool), f"{WHOLE} bool"),
    (FEATURES, LABELS.astype(str), f"{WHOLE} <U21"),
    (FEATURES, LABELS + 1, "labels must lie in 0..1, got 2 in row 1"),
    (FEATURES, with_entry(LABELS, (3,), -100), "got -100 in row 3: leave out samples that the"),
]


def refusal(work) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        work()
    return str(refused.value)


@pytest.mark.parametrize(("features", "labels", "says"), BAD_BATCHES)
def test_a_bad_batch_is_one_line_and_changes_nothing(features, labels, says):
    tracker = tracked(FEATURES, LABELS)
    assert says in refusal(lambda: tracker.update(features, labels))
    np.testing.assert_array_equal(tracker.counts, [2, 2])


@pytest.mark.parametrize(
    ("W", "b", "says"),
    [
        (np.ones((3, 2)), None, "W must have shape (2, 3), got (3, 2): transpose it"),
        (np.ones((4, 3)), None, "W must have shape (2, 3), got (4, 3)"),
        (np.ones((2, 3)), np.ones(3), "b must have shape (2,), got (3,)"),
        (np.ones((2, 3), complex), None, "W must be an array of real numbers, got dtype"),
        (None, np.ones(2), "b needs the W that it belongs to"),
    ],
)  # fmt: skip
def test_a_classifier_of_another_shape_is_one_line(W, b, says):
    tracker = tracked(FEATURES, LABELS)
    assert says in refusal(lambda: tracker.compute(W, b))


def test_a_diverged_classifier_is_undefined():
    found = tracked(FEATURES, LABELS).compute(np.full((2, 3), np.nan))
    assert np.isnan([found.nc0, found.nc2, found.nc3]).all()
    assert found.nc1 >= 0.0


def test_other_mistakes_are_one_line():
    with pytest.raises(ValueError, match="num_classes must be a whole number ≥ 2, got 1"):
        CollapseTracker(1, 3)
    with pytest.raises(ValueError, match="dim must be a positive whole number, got 0"):
        CollapseTracker(2, 0)
    with pytest.raises(ValueError, match=r"num_classes must be a whole number ≥ 2, got True"):
        CollapseTracker(True, 4)
    tracker = CollapseTracker(2, 3)
    with pytest.raises(ValueError, match=r"num_classes, dim = \(2, 3\), got \(2, 4\)"):
        tracker.merge(CollapseTracker(2, 4))
    with pytest.raises(ValueError, match="W must be given: NC4 compares"):
        tracker.nearest_mean(None)
    with pytest.raises(ValueError, match=r"lacks \['means', 'scatter'\]"):
        CollapseTracker.from_state(
            {k: v for k, v in tracker.state().items() if k not in ("means", "scatter")}
        )
    with pytest.raises(ValueError, match=r"state\['counts'\] must have shape \(2,\) beside means"):
        CollapseTracker.from_state(tracker.state() | {"counts": np.zeros(3, int)})
    with pytest.raises(ValueError, match=r"beside means of shape \(3,\)"):
        CollapseTracker.from_state(tracker.state() | {"means": np.zeros(3)})
