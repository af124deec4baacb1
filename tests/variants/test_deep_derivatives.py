"""Objective, gradient, Hessian and starts of deep linear models against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_model import plain_loss

import ufm
from ufm.model.class_means import from_class_means
from ufm.variants.deep.curvature import third_derivative
from ufm.variants.deep.derivatives import value_gradient_state
from ufm.variants.deep.hessian import flat, reduced, unflat

LOSSES = (ufm.CrossEntropy(), ufm.LabelSmoothing(0.1), ufm.Focal(2.0), ufm.MSE())


def make(loss=LOSSES[0], lam_b=1e-2, layers=2, counts=(2, 1, 3), weights=None):
    return ufm.Problem(
        loss=loss, class_counts=counts, dim=4, lam_w=2e-2, lam_h=1e-2, lam_b=lam_b,
        column_weights=weights, lam_hidden=(3e-2, 5e-3)[:layers], hidden_dims=(3, 2)[:layers],
    )  # fmt: skip


def definition(problem, params):
    """f, one sample at a time, in NumPy."""
    Z = np.asarray(params.W)
    for F in (*params.hidden, params.H):
        Z = Z @ np.asarray(F)
    c = np.ones(Z.shape[1])
    if problem.column_weights is not None:
        c = np.asarray(problem.column_weights)
    V = Z / np.sqrt(c) + (0.0 if params.b is None else np.asarray(params.b)[:, None])
    values = [plain_loss(problem.loss, v, k) for v, k in zip(V.T, problem.labels, strict=True)]
    decays = [problem.lam_w, *problem.lam_hidden, problem.lam_h]
    factors = [params.W, *params.hidden, params.H]
    if params.b is not None:
        decays, factors = [*decays, problem.lam_b], [*factors, params.b]
    penalty = sum(
        0.5 * x * np.sum(np.asarray(F) ** 2) for x, F in zip(decays, factors, strict=True)
    )
    return float(c @ values / c.sum() + penalty)


def differentiable(problem, like):
    """The same in JAX, as a function of the vector of all parameters."""
    labels = jnp.asarray(problem.labels)
    c = jnp.ones(problem.num_columns)
    if problem.column_weights is not None:
        c = problem.column_weights

    def f(x):
        params = unflat(like, x)
        Z = jnp.linalg.multi_dot([params.W, *params.hidden, params.H]) / jnp.sqrt(c)[None, :]
        Z = Z if params.b is None else Z + params.b[:, None]
        log_p = Z - jax.scipy.special.logsumexp(Z, axis=0)[None, :]
        own = log_p[labels, jnp.arange(len(labels))]
        match problem.loss:
            case ufm.MSE():
                values = 0.5 * jnp.sum((Z - jax.nn.one_hot(labels, len(Z), axis=0)) ** 2, axis=0)
            case ufm.Focal():
                values = -((-jnp.expm1(own)) ** 2) * own
            case ufm.LabelSmoothing():
                values = -0.9 * own - 0.1 * jnp.mean(log_p, axis=0)
            case _:
                values = -own
        decays = [problem.lam_w, *problem.lam_hidden, problem.lam_h]
        factors = [params.W, *params.hidden, params.H]
        if params.b is not None:
            decays, factors = [*decays, problem.lam_b], [*factors, params.b]
        penalty = sum(0.5 * x * jnp.sum(F**2) for x, F in zip(decays, factors, strict=True))
        return jnp.sum(c * values) / jnp.sum(c) + penalty

    return f


@pytest.mark.parametrize(
    ("loss", "layers"),
    [
        (LOSSES[0], 1),
        (LOSSES[0], 2),
        (LOSSES[1], 1),
        (LOSSES[2], 2),
        (LOSSES[3], 2),
        # Every loss and both depths are above.
        *(pytest.param(LOSSES[i], x, marks=pytest.mark.slow) for i, x in ((1, 2), (2, 1), (3, 1))),
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_value_gradient_and_hessian(loss, layers):
    lam_b = {1: None, 2: 1e-2}[layers]
    weights = None if layers == 1 else np.array([1.0, 2.0, 1.5, 1.0, 4.0, 1.0])
    problem = make(loss, lam_b, layers, weights=weights)
    params = ufm.init_params(problem, jax.random.key(1), 0.3)
    direction = ufm.init_params(problem, jax.random.key(2))
    f, x = differentiable(problem, params), flat(params)
    # One program for all three.
    at_x, slope, hessian = jax.jit(lambda x: (*jax.value_and_grad(f)(x), jax.hessian(f)(x)))(x)
    value, gradient, _, _ = value_gradient_state(problem, params)
    expected = definition(problem, params)
    for found in (value, ufm.objective(problem, params), at_x):
        assert float(found) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(flat(gradient), slope, rtol=0, atol=1e-13)
    hessian = np.asarray(hessian)
    np.testing.assert_allclose(ufm.dense_hessian(problem, params), hessian, rtol=0, atol=1e-12)
    image = flat(ufm.hvp(problem, params, direction))
    np.testing.assert_allclose(image, hessian @ flat(direction), rtol=0, atol=1e-12)
    counted = ufm.inertia(problem, params)
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert counted.negative == np.sum(eigenvalues < counted.lower)
    assert counted.positive == np.sum(eigenvalues > counted.upper)


def test_one_hidden_layer_that_is_the_identity_is_the_plain_model():
    problem = make(layers=1, counts=(2, 2, 2))
    plain = ufm.Problem(
        loss=problem.loss, class_counts=(2, 2, 2), dim=4, lam_w=2e-2, lam_h=1e-2, lam_b=1e-2
    )
    deep = ufm.Problem(
        loss=problem.loss, class_counts=(2, 2, 2), dim=4, lam_w=2e-2, lam_h=1e-2, lam_b=1e-2,
        lam_hidden=(1e-2,),
    )  # fmt: skip
    params = ufm.init_params(plain, jax.random.key(0))
    same = ufm.Params(params.W, params.H, params.b, (jnp.eye(4),))
    penalty = 0.5 * 1e-2 * 4
    expected = float(ufm.objective(plain, params)) + penalty
    assert float(ufm.objective(deep, same)) == pytest.approx(expected, rel=1e-14)


def test_counts_from_class_means_are_those_of_all_columns(monkeypatch):
    problem = make(counts=(3, 2, 4), lam_b=None)
    means = ufm.init_params(make(counts=(1, 1, 1), lam_b=None), jax.random.key(3), 0.3)
    H = from_class_means(problem, means.H)
    params = ufm.Params(means.W, H, None, means.hidden)
    whole = ufm.inertia(problem, params, shift=0.02, tol=1e-6)
    assert whole.zero + whole.negative > 0
    monkeypatch.setattr("ufm.variants.deep.hessian.LARGEST", 40)  # enough for the means alone
    with pytest.raises(ValueError, match="the Hessian has 59 dimensions, more than 40"):
        ufm.dense_hessian(problem, params)
    parts = ufm.inertia(problem, params, shift=0.02, tol=1e-6)
    assert (parts.negative, parts.zero, parts.positive) == (
        whole.negative,
        whole.zero,
        whole.positive,
    )


def test_the_reduced_point_is_the_point_itself():
    """Of rank 2 in widths 3, 2, 4: the logits and the penalty stay, and no part is lost."""
    problem = make(counts=(3, 2, 4), lam_b=None)
    means = ufm.init_params(make(counts=(1, 1, 1), lam_b=None), jax.random.key(3), 0.3)
    rng = np.random.default_rng(0)
    Q, R = (np.linalg.qr(rng.standard_normal((d, 2)))[0] for d in (3, 4))
    W, F, G, H = (np.asarray(x) for x in (means.W, *means.hidden, means.H))
    cut = (W @ Q @ Q.T, Q @ Q.T @ F, G @ R @ R.T, R @ R.T @ H)
    W, F, G, H = map(jnp.asarray, cut)
    params = ufm.Params(W, from_class_means(problem, H), None, (F, G))
    near = reduced(problem, params)
    assert near.rank == 2
    assert near.moved < 1e-13
    before, after = (float(ufm.objective(*x)) for x in ((problem, params), near[:2]))
    assert after == pytest.approx(before, rel=1e-13)


@pytest.mark.parametrize("loss", [ufm.CrossEntropy(), ufm.MSE()], ids=lambda x: x.name)
def test_the_bound_on_the_third_derivative_holds(loss):
    """For squared error only the products of factors have one."""
    problem = make(loss, lam_b=1e-2)
    params = ufm.init_params(problem, jax.random.key(4), 0.3)
    f, x = differentiable(problem, params), flat(params)
    bound = third_derivative(problem, params)
    third = jax.jacfwd(jax.jacfwd(jax.jacfwd(lambda t, u: f(x + t * u))))
    with_slope = jax.jit(jax.value_and_grad(lambda u: third(0.0, u)))
    rng = np.random.default_rng(0)
    found = [
        abs(float(with_slope(u / np.linalg.norm(u))[0])) for u in rng.standard_normal((200, len(x)))
    ]
    # Steepest along the sum of the largest singular directions: climb from the best.
    u = rng.standard_normal(len(x))
    for _ in range(60):
        grad = np.asarray(with_slope(u / np.linalg.norm(u))[1])
        u = u / np.linalg.norm(u) + 0.5 * grad / np.linalg.norm(grad)
    found.append(abs(float(with_slope(u / np.linalg.norm(u))[0])))
    assert max(found) <= bound
    assert max(found) > (5e-4 if loss.shift_invariant else 0.03) * bound


def test_starts_are_balanced_and_logits_have_their_size():
    problem = ufm.Problem.balanced(
        loss=ufm.CrossEntropy(), num_classes=6, per_class=20, dim=40, lam_w=2e-2, lam_h=1e-3,
        lam_b=None, lam_hidden=(5e-3, 7e-4), hidden_dims=(30, 50),
    )  # fmt: skip
    params = ufm.init_params(problem, jax.random.key(0), 0.1)
    factors = (params.W, *params.hidden, params.H)
    decays = (problem.lam_w, *problem.lam_hidden, problem.lam_h)
    shares = [x * float(jnp.sum(F**2)) for x, F in zip(decays, factors, strict=True)]
    assert max(shares) < 1.15 * min(shares)
    Z = jnp.linalg.multi_dot(factors)
    assert float(jnp.std(Z)) == pytest.approx(2.0, rel=0.3)
    batch = ufm.init_params(problem, jax.random.key(0), 0.1, num_starts=2)
    longer = ufm.init_params(problem, jax.random.key(0), 0.1, num_starts=3)
    np.testing.assert_array_equal(batch.H, longer.H[:2])
    traced = jax.jit(ufm.init_params)(problem, jax.random.key(0))
    np.testing.assert_allclose(traced.W, params.W, rtol=1e-12)
    np.testing.assert_allclose(traced.H, params.H, rtol=1e-12)


def test_what_is_not_answered_is_refused():
    problem = make()
    params = ufm.init_params(problem, jax.random.key(0))
    with pytest.raises(ValueError, match="part must be 'all' for problems with hidden layers"):
        ufm.hvp(problem, params, params, "decay")
    with pytest.raises(ValueError, match="does not support problems with hidden layers"):
        ufm.hessian_operator(problem, params)
    with pytest.raises(ValueError, match="modulo_rotations is for problems without hidden layers"):
        ufm.inertia(problem, params, modulo_rotations=True)
    with pytest.raises(ValueError, match="tol must be positive"):
        ufm.inertia(problem, params, tol=0.0)
    with pytest.raises(ValueError, match="scale must be non-negative"):
        ufm.init_params(problem, jax.random.key(0), -1.0)
    with pytest.raises(ValueError, match="method 'lbfgs' is not for problems with hidden layers"):
        ufm.solve(problem, params, method="lbfgs")
    with pytest.raises(ValueError, match=r"params\.hidden must have 2 matrices"):
        ufm.objective(problem, ufm.Params(params.W, params.H, params.b))
