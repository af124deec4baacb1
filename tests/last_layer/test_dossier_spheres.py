"""Folders of layers on spheres: f, its derivatives on the sphere and its bounds by NumPy."""

import jax
import numpy as np
import pytest
from dossiers import SCRIPT, failed, forge, verify

import ufm
from ufm.last_layer.dossier import why_unwritten

N, K, DIM, TAU, LAM, LAM_B = 12, 3, 4, 1.2, 1e-2, 1e-2
RNG = np.random.default_rng(5)
LABELS, WEIGHTS = np.arange(N) % K, RNG.uniform(0.3, 2.0, N)
ANYWHERE = (RNG.normal(size=(K, DIM)), RNG.normal(size=(N, DIM)), RNG.normal(size=K))
#: Options of the reader, and the radii of rows of W and features, None for a decayed factor.
CASES = {
    "both": ({"classifier": "sphere", "features": "rows,sphere:2"}, 1.0, 2.0),
    "features": ({"features": "sphere", "lam_w": LAM}, None, 1.0),
    "classifier": ({"classifier": "sphere:3", "lam_h": LAM, "sample_weights": WEIGHTS}, 3.0, None),
}


def layer_of(case: str, W, H, b, **options):
    options = {"loss": "ls:0.1", "b": b, "lam_b": LAM_B, "temperature": TAU} | options
    return ufm.as_classifier(W, H, LABELS, **CASES[case][0] | options)


def counted(case: str) -> np.ndarray:
    c = CASES[case][0].get("sample_weights", np.ones(N))
    return c / np.mean(c)


def on_spheres(case: str, W, H, b):
    """The point of raw vectors."""
    _, of_w, of_h = CASES[case]
    W = W if of_w is None else of_w * W / np.linalg.norm(W, axis=1, keepdims=True)
    H = H if of_h is None else of_h * H / np.linalg.norm(H, axis=1, keepdims=True)
    return W, H, b


def value(case: str, W, H, b) -> float:
    """f at a point of the spheres, the b of the model: of training it is τ b."""
    (_, of_w, of_h), c = CASES[case], counted(case)
    V, y = H @ W.T / TAU + b, 0.9 * np.eye(K)[LABELS] + 0.1 / K
    losses = np.logaddexp.reduce(V, axis=1) - np.sum(y * V, axis=1)
    decay = 0.0 if of_w is not None else LAM * np.sum(W**2)
    decay += 0.0 if of_h is not None else LAM * np.sum(c * np.sum(H**2, axis=1))
    decay += TAU**2 * LAM_B * np.sum(b**2)
    return float(np.mean(c * losses)) + 0.5 * decay


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of each case a point that is not critical; minima in closed form; a saddle."""
    folder, points = tmp_path_factory.mktemp("spheres"), {}
    for case in ("both", "features"):
        problem = layer_of(case, *ANYWHERE).problem
        star = ufm.global_minimum(problem).params(jax.random.key(0))
        rows = np.empty((N, DIM))
        rows[layer_of(case, *ANYWHERE).order] = np.asarray(star.H).T
        points[case, "GLOBAL_MINIMUM"] = np.asarray(star.W), rows, TAU * np.asarray(star.b)
    same = np.tile(ANYWHERE[0][:1], (K, 1))
    points["both", "STRICT_SADDLE"] = same, np.tile(same[:1], (N, 1)), 0 * ANYWHERE[2]
    points |= {(case, "NOT_CRITICAL"): ANYWHERE for case in CASES}
    for (case, verdict), point in points.items():
        found = ufm.examine(layer_of(case, *point))
        assert found.certificate.verdict.name == verdict
        ufm.write_dossier(found, folder / f"{case} {verdict}")
        exact = value(case, *on_spheres(case, *point[:2], point[2] / TAU))
        own = SCRIPT.read(folder / f"{case} {verdict}").point.value
        assert own == pytest.approx(exact, rel=1e-13)
    return folder


def test_true_certificates_pass(folders):
    for code, said in verify(*sorted(folders.iterdir())):
        assert (code, "0 failed" in said) == (0, True), said
        # Multipliers of the saddle are 0, which decides nothing about their ratio.
        unknown = [line for line in said.splitlines() if line.startswith("not checkable")]
        assert [line.split()[2:4] for line in unknown] in ([], [["dual", "norm"]])


def points_of(case: str):
    """The point as one vector in √c_i h_i, f of such vectors moved to the spheres, and tangents."""
    c, (W, H, b) = counted(case), on_spheres(case, *ANYWHERE[:2], ANYWHERE[2] / TAU)

    def unpacked(x):
        W, H, b = np.split(x, [K * DIM, K * DIM + N * DIM])
        return W.reshape(K, DIM), H.reshape(N, DIM) / np.sqrt(c)[:, None], b

    def tangent(x):
        dW, dH, db = unpacked(x)
        _, of_w, of_h = CASES[case]
        if of_w is not None:
            dW = dW - W * np.sum(W * dW, axis=1, keepdims=True) / of_w**2
        if of_h is not None:
            dH = dH - H * np.sum(H * dH, axis=1, keepdims=True) / of_h**2
        return np.concatenate([dW.ravel(), (dH * np.sqrt(c)[:, None]).ravel(), db])

    at = np.concatenate([W.ravel(), (H * np.sqrt(c)[:, None]).ravel(), b])
    return at, lambda x: value(case, *on_spheres(case, *unpacked(x))), tangent


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_the_script_are_differences_of_f_on_the_spheres(case, folders):
    """The projection is a second-order retraction, so that second differences are the Hessian."""
    read, (at, f, tangent) = SCRIPT.read(folders / f"{case} NOT_CRITICAL"), points_of(case)
    slopes = [(f(at + e) - f(at - e)) / 2e-5 for e in 1e-5 * np.eye(len(at))]
    assert read.point.grad_norm == pytest.approx(np.linalg.norm(slopes), rel=1e-8)
    step = tangent(np.concatenate([RNG.normal(size=len(at) - K), np.zeros(K)]))
    with np.load(folders / f"{case} NOT_CRITICAL" / "arrays.npz") as arrays:
        dH = step[K * DIM : -K].reshape(N, DIM)[arrays["order"]].T
    bend, _ = SCRIPT.curvature(read.problem, read.point, step[: K * DIM].reshape(K, DIM), dH)
    difference = f(at + 1e-4 * step) - 2 * f(at) + f(at - 1e-4 * step)
    assert bend == pytest.approx(difference / 1e-8, rel=1e-5)


def test_no_bound_of_the_script_is_above_a_value(folders):
    for case in CASES:
        rng, values = np.random.default_rng(2), []
        start = (*ANYWHERE[:2], 0 * ANYWHERE[2])
        if case != "classifier":
            with np.load(folders / f"{case} GLOBAL_MINIMUM" / "arrays.npz") as arrays:
                rows = arrays["H"].T[np.argsort(arrays["order"])]
                start = arrays["W"], rows, arrays["b"]
        for size in 10.0 ** rng.uniform(-7, 1, 300):
            near = (x + size * rng.normal(size=x.shape) for x in start)
            values.append(value(case, *on_spheres(case, *near)))
        paths = [path for path in folders.iterdir() if path.name.startswith(case)]
        bounds = [SCRIPT.read(path).bound.lower for path in paths]
        assert max(bounds) <= min(values)
        assert case == "classifier" or max(bounds) > min(values) - 1e-8


def test_the_scalar_bound_is_the_minimum_of_its_function(folders):
    """φ(s) with the largest margin, or with the decay that a margin costs, on a fine grid."""
    s = np.linspace(0.0, 30.0, 3_000_001)
    phi = np.log1p((K - 1) * np.exp(-s)) + 0.1 * (K - 1) / K * s
    rate = LAM * (TAU * (K - 1)) ** 2 / K
    expected = {
        "both": np.min(phi[s <= K / (K - 1) * 2.0 / TAU]),
        "features": np.min(phi + 0.5 * rate * s**2),
    }
    for case, least in expected.items():
        problem = SCRIPT.read(folders / f"{case} GLOBAL_MINIMUM").problem
        assert SCRIPT.scalar_bound(problem) == pytest.approx(least, abs=1e-11)
        assert SCRIPT.read(folders / f"{case} GLOBAL_MINIMUM").point.value >= least - 1e-11


def test_nc4_counts_the_decisions_at_the_temperature():
    tau = 0.1
    layer = layer_of("both", *ANYWHERE, temperature=tau)
    W, H, b = on_spheres("both", *ANYWHERE[:2], ANYWHERE[2] / tau)
    means = np.stack([H[k == LABELS].mean(axis=0) for k in range(K)])
    nearest = np.argmin(((H[:, None] - means) ** 2).sum(axis=2), axis=1)
    share = np.mean(np.argmax(H @ W.T / tau + b, axis=1) != nearest)
    assert share != np.mean(np.argmax(H @ W.T + b, axis=1) != nearest)
    assert float(ufm.nc_metrics(layer.problem, layer.params).nc4) == pytest.approx(share)


def array(name, change):
    def tamper(_, arrays):
        arrays[name] = change(arrays[name])

    return tamper


def problem(**changes):
    return lambda said, _: said["problem"].update(changes)


FORGED = {
    "W off its sphere": ("both GLOBAL_MINIMUM", array("W", lambda W: 1.001 * W), "form"),
    "H off its sphere": ("features NOT_CRITICAL", array("H", lambda H: 1.001 * H), "form"),
    "a minimiser off": ("both GLOBAL_MINIMUM", array("minimum_W", lambda W: 1.01 * W), "form"),
    "another radius": ("both GLOBAL_MINIMUM", problem(features="sphere:2.5"), "form"),
    "another temperature": ("both GLOBAL_MINIMUM", problem(temperature=1.1), "f"),
    "no temperature below 0": ("both GLOBAL_MINIMUM", problem(temperature=-0.5), "form"),
    "a decay of a sphere": ("both GLOBAL_MINIMUM", problem(lam_w=1e-2), "form"),
    "a set of its own": ("both GLOBAL_MINIMUM", problem(features="cube"), "form"),
    "a radius of no number": ("both GLOBAL_MINIMUM", problem(features="sphere:1e"), "form"),
    "a free bias": ("both GLOBAL_MINIMUM", problem(lam_b=0.0), "form"),
    "a way off": ("both STRICT_SADDLE", array("escape_W", lambda x: x + 1e-3), "verdict"),
    "a higher bound": (
        "classifier NOT_CRITICAL",
        lambda said, _: said["claims"].update(lower_bound=said["claims"]["value"] - 1e-3, gap=1e-3),
        "lower bound",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forgeries_fail(name, folders, tmp_path):
    folder, change, check = FORGED[name]
    assert check in failed(forge(folders / folder, tmp_path / "forged", change))


def test_sets_that_the_script_has_not_are_said_before_the_examination():
    ball = ufm.as_classifier(
        *ANYWHERE[:2], LABELS, loss="ce", classifier="ball:1", features="sphere"
    )
    assert (
        why_unwritten(ball) == "verify.py checks non-negative features and spheres, no other sets"
    )
    free = layer_of("both", *ANYWHERE, lam_b=0.0)
    assert why_unwritten(free) == "verify.py has no bound for a free bias beside a sphere"
    focal = layer_of("both", *ANYWHERE, loss="fl:2")
    assert why_unwritten(focal) == "verify.py has no bound for the focal loss in sets"
