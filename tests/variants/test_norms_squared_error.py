"""Squared error on spheres: an orthogonal frame, by SciPy's minimiser and the dual certificate."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize

import ufm

KEY = jax.random.key(0)
COUNTS, DIM, TAU, KAPPA, TARGET = (3, 2, 1), 3, 0.8, 2.0, 1.5
LABELS = np.repeat(np.arange(3), COUNTS)
SPHERE, BALL = ufm.Sphere(0.9), ufm.Ball(1.2)


def make(classifier, features, **changes) -> ufm.Problem:
    decays = [0.02 if x is None else None for x in (classifier, features)]
    sets = {"classifier": classifier, "features": features, "temperature": TAU}
    loss = ufm.MSE(KAPPA, TARGET)
    return ufm.Problem(loss, COUNTS, DIM, *decays, None, **sets | changes)


def attained(problem) -> float:
    """The lowest f of quasi-Newton runs in NumPy, with vectors projected to their sets."""

    def vectors(x, given):
        size = np.linalg.norm(x, axis=1, keepdims=True)
        if given is None:
            return x
        scale = given.radius / size if isinstance(given, ufm.Sphere) else 1.0
        return x * (scale if isinstance(given, ufm.Sphere) else np.minimum(1, given.radius / size))

    def value(x):
        W, H = vectors(x[:9].reshape(3, 3), problem.classifier), x[9:].reshape(6, 3)
        H = vectors(H, problem.features)
        V = H @ W.T / float(problem.temperature)
        own = V[np.arange(6), LABELS]
        loss = 0.5 * (KAPPA * (own - TARGET) ** 2 + np.sum(V**2, axis=1) - own**2)
        decays = [(problem.lam_w, W), (problem.lam_h, H)]
        return np.mean(loss) + sum(0.5 * lam * np.sum(y**2) for lam, y in decays if lam)

    rng = np.random.default_rng(0)
    return min(minimize(value, rng.standard_normal(27), tol=1e-9).fun for _ in range(2))


@pytest.mark.parametrize(
    ("classifier", "features", "kind"),
    [(SPHERE, BALL, "orthogonal frame"), (None, SPHERE, "imbalanced"), (BALL, None, "orthogonal")],
    ids=["both", "W decayed", "H decayed"],
)
def test_no_point_is_below_the_orthogonal_frame(classifier, features, kind):
    problem = make(classifier, features)
    found = ufm.global_minimum(problem)
    assert found.reason.startswith("closed form: no margin exceeds")
    assert found.kind.startswith(kind)
    assert attained(problem) == pytest.approx(found.value, abs=1e-8)
    point = found.params(KEY)
    W, H = np.asarray(point.W), np.asarray(point.H)
    np.testing.assert_allclose(W @ W.T, np.diag(np.diag(W @ W.T)), atol=1e-14)
    assert np.linalg.matrix_rank(W @ H) == 3
    proof = ufm.certify(problem, point)
    assert proof.verdict is ufm.Verdict.GLOBAL_MINIMUM
    assert float(proof.value) == pytest.approx(found.value, abs=1e-14)
    assert float(proof.gap) < 1e-11
    assert ufm.compare_geometry(problem, point).matches is True


@pytest.mark.parametrize(
    ("classifier", "tau"),
    [(SPHERE, 0.5), (ufm.Budget(1.0), TAU)],  # rR/τ beyond M; no bound for each vector
    ids=["low temperature", "budget"],
)
def test_where_the_closed_form_does_not_hold_a_run_is_certified(classifier, tau):
    found = ufm.global_minimum(make(classifier, BALL, temperature=tau))
    assert found.is_exact
    assert found.reason.startswith("reduced problem, certified by")
