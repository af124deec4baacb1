"""Folders of soft labels and of samples of unequal weights: numbers by NumPy, and forgeries."""

import numpy as np
import pytest
from dossiers import SCRIPT, failed, forge, verify

from ufm import as_classifier, examine, solve, write_dossier

#: K = 3, d = 4, 12 samples, of which the first and the last have equal labels.
N, K, DIM = 12, 3, 4
RNG = np.random.default_rng(5)
SOFT = np.vstack([RNG.dirichlet(np.ones(K), N - 1), np.zeros((1, K))])
SOFT[-1] = SOFT[0]
SOFT[[3, 4]] = 1.0, 1.0, 0.0  # a set of labels
TAGS = np.vstack([np.random.default_rng(6).uniform(size=(N - 6, K)), np.eye(3), 1.0 - np.eye(3)])
HARD, WEIGHTS = np.arange(N) % K, RNG.uniform(0.3, 2.0, N)
START = {"W": RNG.normal(size=(K, DIM)), "H": RNG.normal(size=(N, DIM)), "b": RNG.normal(size=K)}
DECAYS = {"lam_w": 2e-2, "lam_h": 3e-3, "lam_b": 1e-2}
CASES = {
    "soft": ("ls:0.2", SOFT, {}),
    "squares": ("mse", RNG.normal(size=(N, K)), {}),
    "tags": ("bce", TAGS, {}),
    "weights": ("ce", HARD, {"sample_weights": WEIGHTS, "class_weights": [0.5, 1, 2]}),
}


def layer_of(case: str, W, H, b):
    spec, labels, options = CASES[case]
    return as_classifier(W, H, labels, loss=spec, b=b, **DECAYS, **options)


def at_minimum(case: str):
    layer = layer_of(case, **START)
    end, weights = solve(layer.problem, layer.params).params, layer.problem.column_weights
    rows = np.empty((N, DIM))
    roots = 1.0 if weights is None else np.sqrt(np.asarray(weights))
    rows[layer.order] = (np.asarray(end.H) / roots).T
    return np.asarray(end.W), rows, np.asarray(end.b)


def losses(case: str, V: np.ndarray) -> np.ndarray:
    """The loss of each row of V, from its formula."""
    spec, labels, _ = CASES[case]
    y = np.eye(K)[labels] if labels.ndim == 1 else labels
    if spec == "bce":
        return np.sum(np.logaddexp(0.0, V) - y * V, axis=1)
    if spec == "mse":
        return 0.5 * np.sum((V - y) ** 2, axis=1)
    if spec == "ls:0.2":
        y = 0.8 * y + 0.2 * y.sum(axis=1, keepdims=True) / K
    return np.sum(y * (np.logaddexp.reduce(V, axis=1)[:, None] - V), axis=1)


def value(case: str, W, H, b) -> float:
    """f, with c of mean 1 in the penalty, and class weights times those of samples in the mean."""
    options = CASES[case][2]
    c = options.get("sample_weights", np.ones(N))
    u = c * np.array(options["class_weights"])[HARD] if "class_weights" in options else c
    decay = DECAYS["lam_w"] * np.sum(W**2) + DECAYS["lam_b"] * np.sum(b**2)
    decay += DECAYS["lam_h"] * np.sum(c / np.mean(c) * np.sum(H**2, axis=1))
    return float(np.average(losses(case, H @ W.T + b), weights=u)) + 0.5 * decay


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of each case a minimum, a point that is none, and the origin."""
    folder = tmp_path_factory.mktemp("soft")
    for case in CASES:
        points = {
            "minimum": at_minimum(case),
            "anywhere": tuple(START.values()),
            "origin": tuple(0.0 * x for x in START.values()),
        }
        for name, point in points.items():
            found = examine(layer_of(case, *point))
            said = write_dossier(found, folder / f"{case} {name}")
            assert said["claims"]["verdict"] == "GLOBAL_MINIMUM" or name != "minimum"
            own = SCRIPT.read(folder / f"{case} {name}").point
            assert own.value == pytest.approx(value(case, *point), rel=1e-13)
            assert said["claims"]["value"] == pytest.approx(value(case, *point), rel=1e-13)
    return folder


def test_true_certificates_pass(folders):
    for code, said in verify(*sorted(folders.iterdir())):
        assert (code, "0 failed, 0 not checkable" in said) == (0, True), said


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_the_script_are_differences_of_f(case, folders):
    """In the coordinates √c_i h_i, of columns ordered by class."""
    read, point = (
        SCRIPT.read(folders / f"{case} anywhere"),
        np.concatenate([x.ravel() for x in START.values()]),
    )
    with np.load(folders / f"{case} anywhere" / "arrays.npz") as arrays:
        order, roots = arrays["order"], np.sqrt(arrays.get("sample_weights", np.ones(N)))

    def at(x) -> float:
        W, H, b = np.split(x, [K * DIM, K * DIM + N * DIM])
        return value(case, W.reshape(K, DIM), H.reshape(N, DIM), b)

    scale = np.ones(point.size)
    scale[K * DIM : -K] = np.repeat(1.0 / roots[np.argsort(order)], DIM)
    axes = 1e-5 * np.diag(scale)
    slopes = [(at(point + e) - at(point - e)) / 2e-5 for e in axes]
    assert read.point.grad_norm == pytest.approx(np.linalg.norm(slopes), rel=1e-8)
    rng = np.random.default_rng(1)
    dW, dH = rng.normal(size=(K, DIM)), rng.normal(size=(DIM, N))
    rows = (dH / roots).T[np.argsort(order)]
    step = 1e-4 * np.concatenate([dW.ravel(), rows.ravel(), np.zeros(K)])
    bend, _ = SCRIPT.curvature(read.problem, read.point, dW, dH)
    difference = at(point + step) - 2 * at(point) + at(point - step)
    assert bend == pytest.approx(difference / 1e-8, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_no_bound_of_the_script_is_above_a_value(case, folders):
    """Values at points around the minimum, where bounds are tight, and far from it."""
    W, H, b = at_minimum(case)
    rng = np.random.default_rng(2)
    values = [
        value(case, *(x + size * rng.normal(size=x.shape) for x in (W, H, b)))
        for size in 10.0 ** rng.uniform(-7, 0, 200)
    ]
    bounds = [SCRIPT.read(folders / f"{case} {x}").bound.lower for x in ("minimum", "anywhere")]
    assert max(bounds) <= min(values)
    assert bounds[0] > min(values) - 1e-8


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


def problem(**changes):
    return lambda said, _: said["problem"].update(changes)


FORGED = {
    "other labels": ("soft", array("targets", lambda x: x[::-1].copy()), "f"),
    "no distribution": ("soft", array("targets", lambda x: 2.0 * x), "form"),
    "a tag above 1": ("tags", array("targets", lambda x: 1.1 + 0.0 * x), "form"),
    "other tags": ("tags", array("targets", lambda x: x[::-1].copy()), "f"),
    "negative labels": ("soft", array("targets", lambda x: -x), "form"),
    "other weights": ("weights", array("sample_weights", lambda x: x[::-1].copy()), "f"),
    "a weight of 0": ("weights", array("sample_weights", lambda x: 0.0 * x), "form"),
    "weights unsaid": ("weights", problem(sample_weights=False), "form"),
    "labels unsaid": ("soft", lambda said, _: said["problem"].pop("outputs"), "form"),
    "a focal loss": ("soft", problem(loss="fl:2.0"), "form"),
    "more outputs": ("soft", problem(outputs=4), "form"),
    "a metric": ("soft", lambda said, _: said["claims"].update(nc1=0.0), "form"),
    "no truth value": ("weights", problem(sample_weights=1), "form"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forgeries_fail(name, folders, tmp_path):
    case, change, check = FORGED[name]
    assert check in failed(forge(folders / f"{case} minimum", tmp_path / "forged", change))
