"""Folders of layers with non-negative features: the polar by a cone program, and forgeries."""

import warnings

import jax
import numpy as np
import pytest
from dossiers import SCRIPT, failed, forge, verify

import ufm

with warnings.catch_warnings():
    # CVXPY's imports are not ours to fix.
    warnings.simplefilter("ignore")
    import cvxpy as cp

N, K, DIM = 12, 3, 4
RNG = np.random.default_rng(5)
LABELS, WEIGHTS = np.arange(N) % K, RNG.uniform(0.3, 2.0, N)
DECAYS = {"lam_w": 2e-2, "lam_h": 3e-3, "lam_b": 1e-2}
START = {"W": RNG.normal(size=(K, DIM)), "H": np.abs(RNG.normal(size=(N, DIM)))}
START |= {"b": RNG.normal(size=K)}


def layer_of(W, H, b):
    return ufm.as_classifier(
        W, H, LABELS, loss="ce", b=b, sample_weights=WEIGHTS, features="nonnegative", **DECAYS
    )


def value(W, H, b) -> float:
    V, c = H @ W.T + b, WEIGHTS / np.mean(WEIGHTS)
    losses = np.logaddexp.reduce(V, axis=1) - V[np.arange(N), LABELS]
    decay = DECAYS["lam_w"] * np.sum(W**2) + DECAYS["lam_b"] * np.sum(b**2)
    decay += DECAYS["lam_h"] * np.sum(c * np.sum(H**2, axis=1))
    return float(np.mean(c * losses)) + 0.5 * decay


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A minimum, a point that is none, and a saddle at which H = 0."""
    folder = tmp_path_factory.mktemp("sets")
    problem = layer_of(**START).problem
    end = ufm.solve(problem, ufm.init_params(problem, jax.random.key(3))).params
    rows, order = np.empty((N, DIM)), layer_of(**START).order
    rows[order] = (np.asarray(end.H) / np.sqrt(np.asarray(problem.column_weights))).T
    shares = np.bincount(LABELS, WEIGHTS) / WEIGHTS.sum()
    # The best bias at the origin: b solves softmax(b) − shares + λ_b b = 0.
    b = np.log(shares)
    for _ in range(50):
        p = np.exp(b) / np.sum(np.exp(b))
        hessian = np.diag(p) - np.outer(p, p) + 1e-2 * np.eye(K)
        b = b - np.linalg.solve(hessian, p - shares + 1e-2 * b)
    points = {
        "GLOBAL_MINIMUM": (np.asarray(end.W), rows, np.asarray(end.b)),
        "NOT_CRITICAL": tuple(START.values()),
        "STRICT_SADDLE": (0 * START["W"], 0 * START["H"], b),
    }
    for verdict, point in points.items():
        found = ufm.examine(layer_of(*point))
        assert found.certificate.verdict.name == verdict
        ufm.write_dossier(found, folder / verdict)
        assert SCRIPT.read(folder / verdict).point.value == pytest.approx(value(*point), rel=1e-13)
    return folder


def test_true_certificates_pass(folders):
    for code, said in verify(*sorted(folders.iterdir())):
        assert (code, "0 failed, 0 not checkable" in said) == (0, True), said
        assert "H >= 0" in said.splitlines()[0]


def test_the_gradient_of_the_script_is_the_feasible_part_of_differences_of_f(folders):
    """Along √c_i h_i; entries of H that are 0 count only where f falls."""
    read = SCRIPT.read(folders / "NOT_CRITICAL")
    at = np.concatenate([x.ravel() for x in START.values()])

    def f(x) -> float:
        W, H, b = np.split(x, [K * DIM, K * DIM + N * DIM])
        return value(W.reshape(K, DIM), H.reshape(N, DIM), b)

    scale = np.ones(at.size)
    scale[K * DIM : -K] = np.repeat(1 / np.sqrt(WEIGHTS / np.mean(WEIGHTS)), DIM)
    slopes = np.array([(f(at + e) - f(at - e)) / 2e-5 for e in 1e-5 * np.diag(scale)])
    assert read.point.grad_norm == pytest.approx(np.linalg.norm(slopes), rel=1e-8)
    dW, dH = RNG.normal(size=(K, DIM)), RNG.normal(size=(DIM, N))
    rows = dH.T[np.argsort(layer_of(**START).order)]
    along = np.concatenate([dW.ravel(), rows.ravel(), np.zeros(K)])
    assert SCRIPT.slope(read.problem, read.point, dW, dH) == pytest.approx(slopes @ along, rel=1e-7)
    H, gradient = np.array([[0.0, 0.0, 1.0]]), np.array([[2.0, -3.0, 4.0]])
    assert SCRIPT.feasible(read.problem, H, gradient).tolist() == [[0.0, -3.0, 4.0]]


@pytest.mark.parametrize("size", [3, 4])
def test_the_polar_is_that_of_a_cone_program(size):
    """max tr AX over X ⪰ 0, X ≥ 0, tr X = 1 is exact up to 4 columns (Diananda, 1962)."""
    rng = np.random.default_rng(size)
    for _ in range(6):
        G = rng.normal(size=(3, size))
        X = cp.Variable((size, size), PSD=True)
        program = cp.Problem(cp.Maximize(cp.trace(G.T @ G @ X)), [X >= 0, cp.trace(X) == 1])
        square = float(program.solve(solver=cp.CLARABEL))
        below, above = SCRIPT.polar(G)
        assert below**2 <= square + 1e-7
        assert above**2 == pytest.approx(square, rel=1e-7)


def test_the_bound_of_the_minimum_is_below_all_values(folders):
    W, H, b = (np.asarray(x) for x in _stored(folders / "GLOBAL_MINIMUM"))
    rng, values = np.random.default_rng(2), []
    for size in 10.0 ** rng.uniform(-7, 0, 300):
        steps = [size * rng.normal(size=x.shape) for x in (W, H, b)]
        values.append(value(W + steps[0], np.maximum(H + steps[1], 0.0), b + steps[2]))
    bounds = [SCRIPT.read(path).bound.lower for path in folders.iterdir()]
    assert max(bounds) <= min(values)
    assert max(bounds) > min(values) - 1e-8


def _stored(folder):
    """W, rows of H in the order of the labels, and b."""
    with np.load(folder / "arrays.npz") as arrays:
        rows = (arrays["H"] / np.sqrt(arrays["sample_weights"])).T[np.argsort(arrays["order"])]
        return arrays["W"], rows, arrays["b"]


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


def outwards(_, arrays):
    """The opposite direction, of the same curvature, along which H becomes negative."""
    for name in ("escape_W", "escape_H"):
        arrays[name] = -arrays[name]


FORGED = {
    "H below 0": ("GLOBAL_MINIMUM", array("H", lambda H: H - 1e-12), "form"),
    "any H": ("GLOBAL_MINIMUM", lambda said, _: [said["problem"].pop("features")], "|Gamma|_2"),
    "another set": (
        "GLOBAL_MINIMUM",
        lambda said, _: said["problem"].update(features="sphere"),
        "form",
    ),
    "a way out": ("STRICT_SADDLE", outwards, "verdict"),
    "a focal loss": ("NOT_CRITICAL", lambda said, _: said["problem"].update(loss="fl:2.0"), "form"),
    "a higher bound": (
        "NOT_CRITICAL",
        lambda said, _: said["claims"].update(lower_bound=said["claims"]["value"] - 1e-3, gap=1e-3),
        "lower bound",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forgeries_fail(name, folders, tmp_path):
    verdict, change, check = FORGED[name]
    assert check in failed(forge(folders / verdict, tmp_path / "forged", change))
