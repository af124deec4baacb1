"""Forgeries by machine: every array, every number, every key, signed again, and none believed."""

import json
import shutil

import numpy as np
import pytest
from dossiers import failed, forge, write_streamed, write_three
from points import SKEWED, gaussian, make

from ufm import CrossEntropy

NAMES = ("minimum", "saddle", "anywhere", "centred")


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    """The last one has its features in files beside it."""
    folder = write_three(tmp_path_factory.mktemp("proofs"))
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    write_streamed(folder, problem, gaussian(problem, 1, 1.0), np.float64)
    return folder


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


BAD_REALS = {
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "complex": lambda x: x.astype(complex),
    "int64": lambda x: np.rint(x).astype(np.int64),
    "bool": lambda x: x.astype(bool),
    "text": lambda x: x.astype(str),
    "longdouble": lambda x: x.astype(np.longdouble),
    "pairs": lambda x: np.zeros(x.shape, [("re", float), ("im", float)]),
    "first": lambda x: x[:1],
    "one": lambda x: x[..., :1],
    "longer": lambda x: np.concatenate([x, x]),
    "an axis more": lambda x: x[None],
    "flat": lambda x: x.reshape(-1, 1),
    "single": lambda x: x.ravel()[0],
    "empty": lambda x: x[:0],
    "scaled": lambda x: 1.001 * x,
    "turned": lambda x: -x,
    "huge": lambda x: 1e200 * x + 1e200,
    "zero": lambda x: 0 * x,
    "nan": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 1, np.nan, x),
    "inf": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 1, np.inf, x),
}
BAD_WHOLE = {
    "float": lambda x: x.astype(float),
    "uint64": lambda x: x.astype(np.uint64),
    "bool": lambda x: x.astype(bool),
    "text": lambda x: x.astype(str),
    "first": lambda x: x[:1],
    "an axis more": lambda x: x[None],
    "empty": lambda x: x[:0],
    "next": lambda x: x + 1,
    "negative": lambda x: x - 1,
    "far": lambda x: x.astype(np.int64) + 2**32,
    "equal": lambda x: 0 * x,
}
#: A minimum with b = 0 is one whatever the decay of b, and its decays are balanced.
TRUE_ALL_THE_SAME = {("lam_b", "1e300"), ("lam_h_inferred", "true")}
#: Texts of JSON.
BAD_NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e300", "-1.0", '"1.0"', "true", "[1.0]",
    "{}", "1" + "0" * 400,
)  # fmt: skip
BAD_LOSSES = (
    "mse:-1.0,-1.0", "mse:0.0,1.0", "mse:1.0", "mse:1.0,inf", "fl:-0.5", "fl:nan", "fl:1e999", "fl",
    "ls:1.0", "ls:-0.1", "ls:0.10", "ls: 0.1", "ls:0.1,0.1", "ls:1_0.0", "CE", "ce:", "hinge", "",
)  # fmt: skip


def forgeries_of_arrays(arrays):
    for name, original in arrays.items():
        kinds = BAD_WHOLE if name in ("labels", "order") else BAD_REALS
        for kind, change in kinds.items():
            forged = change(original)
            # Zeros scaled are zeros, and a longer double may be none.
            if forged.dtype == original.dtype and np.array_equal(forged, original):
                continue
            yield f"{name}, {kind}", array(name, change)
        yield f"without {name}", lambda _, arrays, name=name: arrays.pop(name)
    yield "one array more", lambda _, arrays: arrays.update(c=np.zeros(3))


def leaves(value, path=()):
    """Paths to the numbers of certificate.json, and to what is null instead of one."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    elif not isinstance(value, str):
        yield path


def with_text(path, text):
    """certificate.json with this text in the place of one value."""

    def change(said, _):
        *above, last = path
        owner = said
        for key in above:
            owner = owner[key]
        owner[last] = "@value"
        return json.dumps(said).replace('"@value"', text)

    return change


def forgeries_of_json(said):
    for path in leaves(said):
        for text in BAD_NUMBERS:
            if (path[-1], text) in TRUE_ALL_THE_SAME:
                continue
            yield f"{path} = {text[:10]}", with_text(path, text)
    for loss in BAD_LOSSES:
        yield f"loss {loss}", with_text(("problem", "loss"), json.dumps(loss))
    for path in ((), ("problem",), ("claims",)):
        owner = said
        for key in path:
            owner = owner[key]
        for key, value in owner.items():
            again = f'{{"{key}": 0, "{key}": {json.dumps(value)}}}'
            yield f"{key} is a list", with_text((*path, key), "[[]]")
            yield f"{key} twice", with_text((*path, key), again)

            def remove(said, _, path=path, key=key):
                owner = said
                for step in path:
                    owner = owner[step]
                del owner[key]

            yield f"without {key}", remove
        yield f"one more in {path}", with_text((*path, "proof"), "1.0")
    twice = json.dumps(said)[:-1] + ', "tol": null}'
    yield "a key twice", lambda *_: twice


@pytest.mark.parametrize("which", NAMES)
def test_every_forgery_by_machine_is_refused(which, proofs, full):
    said = json.loads((proofs / which / "certificate.json").read_text())
    with np.load(proofs / which / "arrays.npz") as file:
        arrays = {name: file[name] for name in file.files}
    forgeries = [*forgeries_of_arrays(arrays), *forgeries_of_json(said)]
    assert len(forgeries) > 400
    if not full:  # every forgery of about one proof
        forgeries = forgeries[NAMES.index(which) :: len(NAMES)]
    believed, stumbled = [], []
    for i, (name, change) in enumerate(forgeries):
        # Beside the proof, so that files are at the recorded places.
        folder = proofs / str(i)
        found = failed(forge(proofs / which, folder, change))
        shutil.rmtree(folder)
        if not found:
            believed.append(name)
        # A line that says what is wrong, not the name of an accident.
        stumbled += [(name, text) for text in found.values() if "Error:" in text]
    assert not believed
    assert not stumbled
