"""Extremal eigenpairs: prescribed spectra, dense Hessians, traps of Krylov methods; saddles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import minimiser
from model_oracle import dense_hessian
from points import BALANCED, SKEWED, cast, gaussian, make, origin

import ufm
from ufm import MSE, CrossEntropy, Focal, Params, extremal_eigenpairs, extremal_eigenpairs_of
from ufm.hessian.krylov.block_lanczos import leading_eigenpairs
from ufm.hessian.products.trees import unflatten
from ufm.hessian.symmetry_zeros import frame, without_gauge


def prescribed(values, seed=0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    A = Q @ np.diag(values) @ Q.T
    return (A + A.T) / 2


def product(A, block):
    return block @ A


def quadratic(x, A):
    return 0.5 * x @ A @ x


def start(block, size, seed=0, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), (block, size), dtype)


def ends(values, count, largest) -> np.ndarray:
    ordered = np.sort(values)
    return ordered[::-1][:count] if largest else ordered[:count]


# The method -------------------------------------------------------------------------------------

SPECTRA = {
    "spread": np.linspace(-3.0, 5.0, 90),
    "multiple": np.repeat([-1.0, -0.5, 0.0, 2.0, 3.0], [5, 1, 60, 20, 4]),
    "two values": np.repeat([1.0, 4.0], [40, 50]),
    "one value": np.full(90, -2.0),
    "zero": np.zeros(90),
    "clustered": np.concatenate([np.linspace(0, 1e-3, 80), np.linspace(1, 2, 10)]),
    "scales": np.concatenate([-np.logspace(-8, 0, 45), np.logspace(-8, 6, 45)]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("largest", [True, False])
def test_prescribed_spectra_with_their_multiplicities(name, largest):
    values = SPECTRA[name]
    A = jnp.asarray(prescribed(values))
    found = leading_eigenpairs(
        product, A, start(8, 90), 6, largest=largest, tol=1e-10, max_products=20_000
    )
    assert found.converged
    scale = max(np.max(np.abs(values)), 1e-300)
    np.testing.assert_allclose(found.values, ends(values, 6, largest), rtol=0, atol=1e-9 * scale)
    V = np.asarray(found.vectors)
    np.testing.assert_allclose(V @ V.T, np.eye(6), rtol=0, atol=1e-12)  # no ghosts
    residual = np.linalg.norm(V @ np.asarray(A) - found.values[:, None] * V, axis=1)
    np.testing.assert_allclose(found.residuals, residual, rtol=0, atol=1e-13 * scale)
    assert np.all(residual <= 1.1e-10 * scale)


def test_every_eigenvalue_where_the_block_fills_the_space():
    A = prescribed(np.arange(5.0))
    found = leading_eigenpairs(
        product, jnp.asarray(A), start(5, 5), 5, largest=True, tol=1e-12, max_products=100
    )
    np.testing.assert_allclose(found.values, [4, 3, 2, 1, 0], rtol=0, atol=1e-13)


def test_an_unfinished_search_says_so():
    A = jnp.asarray(prescribed(np.linspace(0, 1, 200) ** 3))
    found = leading_eigenpairs(
        product, A, start(4, 200), 2, largest=False, tol=1e-12, max_products=24
    )
    assert not found.converged
    assert found.num_products <= 24 + 2
    assert np.max(found.residuals) > 1e-12
    # What it says of itself holds all the same.
    distance = np.min(np.abs(found.values[:, None] - np.linspace(0, 1, 200)[None, :] ** 3), axis=1)
    assert np.all(distance <= found.residuals)


def diagonal(x, values):
    return 0.5 * jnp.sum(values * x**2)


def test_the_budget_grows_until_zeros_beside_a_wide_spectrum_are_found():
    # Six zeros, and gaps of 5e-5 of the largest: restarts alone find none of them.
    values = np.concatenate([np.zeros(6), np.geomspace(1.5e-3, 30.0, 200)])
    search = functools.partial(
        extremal_eigenpairs_of, diagonal, jnp.zeros(206), jax.random.key(0),
        args=(jnp.asarray(values),), count=6, end="smallest",
    )  # fmt: skip
    found = search()
    assert found.converged
    np.testing.assert_allclose(found.values, np.sort(values)[:6], rtol=0, atol=30e-9)
    assert "NOT CONVERGED" not in repr(found)
    short = search(max_products=100)
    assert not short.converged
    assert short.values[0] > 1e-4  # wrong, and said to be
    assert f"NOT CONVERGED after {short.num_products} products" in repr(short)
    # Never below the truth, and within its residual of an eigenvalue.
    assert np.all(short.values >= np.sort(values)[:6])


def test_single_precision():
    values = np.linspace(-3.0, 5.0, 90)
    A = jnp.asarray(prescribed(values), jnp.float32)
    found = extremal_eigenpairs_of(
        quadratic, jnp.ones(90, jnp.float32), jax.random.key(0), args=(A,), count=4
    )
    assert found.converged
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, ends(values, 4, True), rtol=1e-4)


# Of functions ------------------------------------------------------------------------------------


def network(weights, x, y):
    hidden = jnp.tanh(x @ weights["in"])
    logits = hidden @ weights["out"]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])


def test_a_network_against_its_dense_hessian():
    keys = jax.random.split(jax.random.key(0), 4)
    weights = {
        "in": jax.random.normal(keys[0], (5, 7)),
        "out": jax.random.normal(keys[1], (7, 3)),
    }
    x, y = jax.random.normal(keys[2], (20, 5)), jax.random.randint(keys[3], (20,), 0, 3)
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    hessian = jax.jit(jax.hessian(lambda v: network(unravel(v), x, y)))
    dense = np.linalg.eigvalsh(hessian(flat))
    for end in ("smallest", "largest"):
        found = extremal_eigenpairs_of(
            network, weights, jax.random.key(1), args=(x, y), count=5, end=end
        )
        expected = ends(dense, 5, end == "largest")
        np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-9 * np.max(dense))
        assert found.vectors["in"].shape == (5, 5, 7)


# Of the model ------------------------------------------------------------------------------------


def tangents(problem, point) -> np.ndarray:
    """An orthonormal basis of the directions that symmetry makes flat, from their definition."""
    W, H = np.asarray(point.W), np.asarray(point.H)
    dim, rows = W.shape[1], []
    for i in range(dim):
        for j in range(i):
            skew = np.zeros((dim, dim))
            skew[i, j], skew[j, i] = 1.0, -1.0
            rows.append(np.concatenate([(W @ skew).ravel(), (-skew @ H).ravel()]))
    basis = np.array(rows)
    if point.b is not None:
        basis = np.pad(basis, ((0, 0), (0, len(W))))
        if problem.lam_b == 0.0 and problem.loss.shift_invariant:
            shift = np.concatenate([np.zeros(basis.shape[1] - len(W)), np.ones(len(W))])
            basis = np.vstack([basis, shift])
    _, sizes, right = np.linalg.svd(basis, full_matrices=False)
    return right[sizes > 1e-6 * sizes[0]]


@pytest.mark.parametrize("lam_b", [None, 0.0, 1e-2])
def test_the_projection_removes_the_tangents_of_the_orbit_and_nothing_else(lam_b):
    problem = make(CrossEntropy(), SKEWED, lam_b)
    for point in (minimiser(problem), gaussian(problem, 0, 1.0)):
        T = tangents(problem, point)
        direction = gaussian(problem, 1, 1.0)
        left, sizes, right = frame(point)
        free = jnp.asarray(lam_b == 0.0)
        kept = without_gauge(type(frame(point))(left, sizes, right), free, direction)
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(direction)])
        found = np.concatenate([np.ravel(x) for x in jax.tree.leaves(kept)])
        np.testing.assert_allclose(found, flat - T.T @ (T @ flat), rtol=0, atol=1e-12)
        assert len(T) == ufm.hessian.rotation_dimension(problem, point)


@pytest.mark.parametrize(
    ("loss", "lam_b"), [(CrossEntropy(), None), (CrossEntropy(), 0.0), (MSE(5.0, 3.0), 1e-2)]
)
def test_both_ends_at_a_minimum_leave_the_rotations_out(loss, lam_b):
    problem = make(loss, BALANCED, lam_b)
    point = minimiser(problem)
    H = dense_hessian(problem, point)
    spectrum = np.linalg.eigvalsh(H)
    flat = ufm.hessian.rotation_dimension(problem, point)
    assert np.sum(np.abs(spectrum) < 1e-9) == flat
    rest = spectrum[np.abs(spectrum) > 1e-9]
    for end in ("smallest", "largest"):
        found = extremal_eigenpairs(problem, point, jax.random.key(2), count=4, end=end)
        assert found.converged
        assert found.deflated == flat
        np.testing.assert_allclose(
            found.values, ends(rest, 4, end == "largest"), rtol=0, atol=1e-9 * spectrum[-1]
        )
        for i in range(4):
            v = np.concatenate([np.ravel(x[i]) for x in jax.tree.leaves(found.vectors)])
            assert np.linalg.norm(v) == pytest.approx(1.0)
            assert np.linalg.norm(H @ v - found.values[i] * v) <= 1.1e-9 * spectrum[-1]


def test_both_ends_in_single_precision():
    problem = make(CrossEntropy(), BALANCED, None)
    point = minimiser(problem)
    spectrum = np.linalg.eigvalsh(dense_hessian(problem, point))
    found = extremal_eigenpairs(
        problem, cast(point, jnp.float32), jax.random.key(2), count=4, end="largest"
    )
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, spectrum[::-1][:4], rtol=1e-4)


def test_away_from_critical_points_rotations_stay():
    # Their curvature is that of the gradient, which a projection would hide.
    problem = make(Focal(3.0), BALANCED, 0.0)
    point = gaussian(problem, 0, 1.0)
    spectrum = np.linalg.eigvalsh(dense_hessian(problem, point))
    found = extremal_eigenpairs(problem, point, jax.random.key(0), count=5)
    assert found.deflated == 1  # b + c1 is flat everywhere
    np.testing.assert_allclose(found.values, spectrum[:5], rtol=0, atol=1e-9 * spectrum[-1])


def test_flat_vectors_are_points_again():
    problem = make(CrossEntropy(), SKEWED, 1e-2)
    point = gaussian(problem, 0, 1.0)
    flat = jax.flatten_util.ravel_pytree(point)[0]
    back = unflatten(problem, jnp.stack([flat, 2 * flat]))
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(point), strict=True):
        np.testing.assert_array_equal(x[0], y)
        np.testing.assert_array_equal(x[1], 2 * y)


# Saddles -----------------------------------------------------------------------------------------


def test_the_way_down_from_the_origin():
    problem = make(CrossEntropy(), BALANCED, None, ratio=3.0)
    point = origin(problem)
    found = ufm.saddle(problem, point, jax.random.key(0))
    spectrum = np.linalg.eigvalsh(dense_hessian(problem, point))
    assert found.converged
    assert found.smallest == pytest.approx(spectrum[0], rel=1e-9)
    # Rank 0: the best direction is the pair of ‖G‖₂ = 1/(K√n).
    sigma, lam_w, lam_h = 1 / (3 * 2**0.5), 3e-2, 1e-2 / 3
    pair = (lam_w + lam_h) / 2 - np.hypot((lam_w - lam_h) / 2, sigma)
    assert found.outside == pytest.approx(pair, rel=1e-12)
    assert found.smallest == pytest.approx(pair, rel=1e-9)
    theory = -2 * (sigma - 1e-2) * 1e-2 / (lam_w + lam_h)
    assert float(found.escape.predicted) == pytest.approx(theory, rel=1e-12)
    assert float(found.escape.curvature) == pytest.approx(theory, rel=1e-9)
    assert found.smallest < float(found.escape.curvature) < 0


def test_no_way_down_from_a_minimum():
    problem = make(CrossEntropy(), BALANCED, None)
    found = ufm.saddle(problem, minimiser(problem), jax.random.key(0))
    assert found.smallest > 1e-4
    assert found.outside == pytest.approx(0.0, abs=1e-9)


def test_no_way_down_outside_where_no_direction_is_free():
    problem = make(CrossEntropy(), BALANCED, None)
    assert ufm.saddle(problem, gaussian(problem, 0, 1.0), jax.random.key(0)).outside is None


# Parts of the Hessian ----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(3.0)], ids=lambda loss: loss.label())
def test_the_parts_of_the_hessian(loss):
    problem = make(loss, SKEWED, 1e-2)
    point = gaussian(problem, 0, 1.0)
    parts = {
        part: ufm.dense_hessian(problem, point, part)
        for part in ("gauss_newton", "residual", "decay")
    }
    np.testing.assert_allclose(
        sum(parts.values()), dense_hessian(problem, point), rtol=0, atol=1e-13
    )
    K, d, N = 3, 4, 7
    decay = [2e-2] * (K * d) + [5e-3] * (d * N) + [1e-2] * K
    np.testing.assert_allclose(parts["decay"], np.diag(decay), rtol=0, atol=1e-17)
    # JᵀSJ from Jacobians of the logits by automatic differentiation.
    flat, unravel = jax.flatten_util.ravel_pytree(point)

    def logits(v):
        moved = unravel(v)
        return (moved.W @ moved.H + moved.b[:, None]).T

    J = np.asarray(jax.jit(jax.jacobian(logits))(flat))
    labels = np.repeat(np.arange(K), SKEWED)
    S = np.asarray(jax.jit(jax.vmap(loss.hessian))(logits(flat), jnp.asarray(labels))) / N
    expected = np.einsum("nkp,nkl,nlq->pq", J, S, J)
    np.testing.assert_allclose(parts["gauss_newton"], expected, rtol=0, atol=1e-13)
    convex = np.linalg.eigvalsh(parts["gauss_newton"])[0] > -1e-12
    assert convex == (loss == CrossEntropy())
    tree = gaussian(problem, 1, 1.0)
    direction = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    for part, matrix in parts.items():
        operator = ufm.hessian_operator(problem, point, part)
        compiled = jax.jit(lambda H, x: H(x))(operator, tree)
        for product in (ufm.hvp(problem, point, tree, part), operator(tree), compiled):
            found = np.concatenate([np.ravel(x) for x in jax.tree.leaves(product)])
            np.testing.assert_allclose(found, matrix @ direction, rtol=0, atol=1e-12)


# Errors ------------------------------------------------------------------------------------------


def test_what_has_no_eigenpairs_is_refused():
    problem = make(CrossEntropy())
    point, key = gaussian(problem, 0, 1.0), jax.random.key(0)
    search = functools.partial(extremal_eigenpairs, problem, point, key)
    with pytest.raises(ValueError, match="end must be 'smallest' or 'largest'"):
        search(end="top")
    with pytest.raises(ValueError, match="count must be from 1 to 36, the number of dimensions"):
        search(count=0)
    with pytest.raises(ValueError, match="tol must be positive"):
        search(tol=0.0)
    with pytest.raises(ValueError, match=r"count \+ 3=8 keeps .* more than max_bytes"):
        search(max_bytes=1000)
    with pytest.raises(ValueError, match="not finite"):
        extremal_eigenpairs(problem, Params(point.W * jnp.nan, point.H, None), key)
    with pytest.raises(ValueError, match="all float32 or all float64"):
        extremal_eigenpairs_of(quadratic, (jnp.ones(3), jnp.ones(3, jnp.float32)), key)
    with pytest.raises(ValueError, match="not finite"):
        extremal_eigenpairs_of(quadratic, jnp.full(3, jnp.nan), key)
    with pytest.raises(ValueError, match="part must be"):
        ufm.hvp(problem, point, point, "hessian")
    with pytest.raises(ValueError, match="part must be"):
        ufm.hessian_operator(problem, point, "hessian")(point)
