"""Squared error of deep linear models: all critical points, the global minimum and its jumps.

The list of critical points with index, zeros and value is held against the eigenvalues of the
Hessian as `jax.hessian` of the definition gives it, and against every choice of roots.
"""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import ufm
from ufm.variants.deep.squared_error import roots, spinodal, tie

#: Class counts, widths from W to H, decay Λ, and whether there is a free bias.
PROBLEMS = (
    ((4, 3, 1), (3, 4), 0.02, False),
    ((2, 2, 2), (3, 3), 0.03, False),
    ((3, 2), (2, 3, 2), 0.03, False),
    ((4, 3, 1), (4, 3), 0.02, True),
    ((4, 3, 1), (2, 3), 0.02, False),  # narrower than the targets
)
#: More of them, also with two factors: 159 points together.
EVERY = (
    PROBLEMS[0],
    *PROBLEMS[1:4],
    ((2, 2, 2), (4,), 0.03, True),
    PROBLEMS[4],
    ((4, 3, 1), (4,), 0.02, False),
    ((3, 3, 1), (2,), 0.02, False),
    ((2, 2, 1, 1), (4, 4), 0.03, True),
    ((3, 3, 1), (3, 4), 0.02, False),
    ((2, 1, 1), (3, 4, 3), 0.03, False),
    ((2, 2, 2), (2, 3), 0.03, True),
)


def problem_of(counts, widths, decay, free, ratio=1.5):
    """Decays with the geometric mean `decay`, all different."""
    M = len(widths) + 1
    decays = decay * ratio ** (np.arange(M) - (M - 1) / 2)
    return ufm.Problem(
        loss=ufm.MSE(),
        class_counts=counts,
        dim=widths[-1],
        lam_w=float(decays[0]),
        lam_h=float(decays[-1]),
        lam_b=0.0 if free else None,
        lam_hidden=tuple(map(float, decays[1:-1])),
        hidden_dims=widths[:-1],
    )


def directions(counts, free):
    """Singular values and vectors of Y, centred with a free bias; columns √n_k e_k."""
    n = np.array(counts, float)
    A = np.diag(np.sqrt(n))
    if free:
        A = A - np.outer(n / n.sum(), np.sqrt(n))
    U, sigma, Vt = np.linalg.svd(A)
    return U, sigma, Vt, n


def critical_points(counts, widths, decay, free):
    """Every choice of 0, the large or the small root for each direction, as far as it exists."""
    U, sigma, Vt, n = directions(counts, free)
    M, N, p = len(widths) + 1, n.sum(), 2 / (len(widths) + 1)
    live = [i for i in range(len(sigma)) if sigma[i] > 1e-9]
    options = [(0.0, *reversed(roots(float(sigma[i]), N * decay, p))) for i in live]
    for choice in itertools.product(*[range(3)] * len(live)):
        s = np.zeros(len(sigma))
        s[live] = [values[c] for values, c in zip(options, choice, strict=True)]
        if np.any(np.isnan(s)) or np.sum(s > 0) > min(widths):
            continue
        value = np.sum((s - sigma) ** 2) / (2 * N) + 0.5 * M * decay * np.sum(s**p)
        chosen = [i for i, c in zip(live, choice, strict=True) if c]
        small = {i for i, c in zip(live, choice, strict=True) if c == 2}
        left = [j for j in range(len(sigma)) if j not in chosen]
        same = {(i, j): abs(sigma[i] - sigma[j]) < 1e-9 for i in live for j in range(len(sigma))}
        index = sum(sigma[j] > sigma[i] + 1e-9 for i in chosen for j in left) + len(small)
        zeros = sum(same[i, j] for i in chosen for j in left if j in live)
        for i, j in itertools.combinations(chosen, 2):
            if same[i, j]:
                index += i in small and j in small
                zeros += (i in small) != (j in small)
            else:
                index += (sigma[i] - sigma[j]) * (s[i] - s[j]) < 0
        r = len(chosen)
        zeros += sum(r * (d - r) + r * (r - 1) // 2 for d in widths)
        if M == 2:
            index += (widths[0] - r) * sum(sigma[j] > N * decay for j in left)
        table = (U * s) @ Vt / np.sqrt(n)
        bias = n / N if free else None
        yield table, bias, r, value, index, zeros


def definition(problem):
    """f as a function of the vector of all parameters, straight from the definition."""
    names = ("W", "hidden[0]", "hidden[1]", "H")
    shapes = [problem.shapes[name] for name in names if name in problem.shapes]
    decays = [problem.lam_w, *problem.lam_hidden, problem.lam_h]
    Y = jax.nn.one_hot(jnp.asarray(problem.labels), problem.num_classes, axis=0)

    def f(x):
        factors, start = [], 0
        for shape in shapes:
            factors.append(x[start : start + shape[0] * shape[1]].reshape(shape))
            start += shape[0] * shape[1]
        Z = jnp.linalg.multi_dot(factors)
        Z = Z + x[start:][:, None] if problem.has_bias else Z
        penalty = sum(0.5 * decay * jnp.sum(F**2) for decay, F in zip(decays, factors, strict=True))
        return jnp.sum((Z - Y) ** 2) / (2 * Y.shape[1]) + penalty

    return f


def as_vector(params):
    parts = [params.W, *params.hidden, params.H] + ([] if params.b is None else [params.b])
    return np.concatenate([np.asarray(x).ravel() for x in parts])


@pytest.mark.repeats
@pytest.mark.parametrize("case", EVERY)
def test_every_critical_point_has_the_index_and_zeros_of_the_list(case):
    problem = problem_of(*case)
    f = definition(problem)
    hessian, gradient = jax.jit(jax.hessian(f)), jax.jit(jax.grad(f))
    listed, best = ufm.critical_points(problem), ufm.global_minimum(problem).value
    for i, each in enumerate(listed):
        params = each.params(jax.random.key(i))
        x = as_vector(params)
        assert float(f(x)) == pytest.approx(each.value, rel=1e-13)
        assert np.linalg.norm(gradient(x)) < 1e-13
        eigenvalues = np.linalg.eigvalsh(hessian(x))
        negative, flat = np.sum(eigenvalues < -1e-7), np.sum(np.abs(eigenvalues) < 1e-7)
        assert (each.index, each.zero_modes) == (negative, flat)
        assert len(each.kept) == np.linalg.matrix_rank(each.logits, tol=1e-9) == each.rank
        certificate = ufm.certify(problem, params) if i % 4 == 0 else None
        if each.value <= best + 1e-12:
            assert each.verdict is ufm.Verdict.GLOBAL_MINIMUM
        else:
            minimum = ufm.Verdict.LOCAL_MINIMUM
            assert each.verdict is (ufm.Verdict.STRICT_SADDLE if each.index else minimum)
        if certificate is not None:
            assert float(certificate.dual_norm) == pytest.approx(each.dual_norm, rel=1e-12)
            # Classes of equal size that swap give zeros that no rotation forces.
            swaps = each.verdict is ufm.Verdict.LOCAL_MINIMUM and each.zero_modes > each.gauge_modes
            expected = ufm.Verdict.UNDECIDED if swaps else each.verdict
            if certificate.gap > certificate.tol and expected is ufm.Verdict.GLOBAL_MINIMUM:
                expected = ufm.Verdict.LOCAL_MINIMUM  # the closed form proves more than the bound
            assert certificate.verdict is expected
        if i % 4 == 0 and problem.lam_hidden:
            counted = ufm.inertia(problem, params, tol=1e-7)
            assert (counted.negative, counted.zero, counted.reliable) == (negative, flat, True)


@pytest.mark.parametrize("counts", [(4, 1), (1, 1)])
def test_at_the_decay_of_its_birth_a_point_is_not_listed_twice(counts):
    """With Nμ = 1 = σ_2 the kept direction is 0, and flat directions lead to it."""
    problem = problem_of(counts, (3,), 1.0 / sum(counts), False)
    f = definition(problem)
    for each in ufm.critical_points(problem):
        x = as_vector(each.params(jax.random.key(0)))
        eigenvalues = np.linalg.eigvalsh(jax.jit(jax.hessian(f))(x))
        negative, flat = np.sum(eigenvalues < -1e-7), np.sum(np.abs(eigenvalues) < 1e-7)
        assert (each.index, each.zero_modes) == (negative, flat)


@pytest.mark.parametrize("case", EVERY)
def test_the_list_has_every_choice_of_roots_once(case):
    """Choices among directions of equal σ are one entry, a continuum."""
    chosen = {(round(x[3], 11), *x[2:3], *x[4:]) for x in critical_points(*case)}
    listed = [
        (round(x.value, 11), x.rank, x.index, x.zero_modes)
        for x in ufm.critical_points(problem_of(*case))
    ]
    assert len(set(listed)) == len(listed)
    assert set(listed) == chosen


@pytest.mark.parametrize("case", PROBLEMS)
def test_the_minimum_is_the_lowest_of_the_list_and_no_point_is_below(case):
    problem = problem_of(*case)
    minimum = ufm.global_minimum(problem)
    lowest = min(x[3] for x in critical_points(*case))
    assert minimum.is_exact
    assert minimum.value == pytest.approx(lowest, rel=1e-14)
    assert 0 <= minimum.value - minimum.lower_bound < 1e-12
    params = minimum.params(jax.random.key(1))
    assert float(ufm.objective(problem, params)) == pytest.approx(minimum.value, rel=1e-14)
    f, rng = jax.jit(jax.vmap(definition(problem))), np.random.default_rng(0)
    x = as_vector(params)
    noise = rng.standard_normal((4000, len(x))) * rng.choice([1e-4, 1e-2, 1.0], (4000, 1))
    assert np.min(f(x + noise)) >= minimum.lower_bound
    assert np.min(f(noise)) >= minimum.lower_bound


@pytest.mark.parametrize("M", [3, 4, 6])
def test_small_roots_of_tiny_decays(M):
    """Roots below the rounding of σ, in 60 digits: the small one is that of the power alone."""
    rng, p = np.random.default_rng(M), 2 / M
    with mpmath.workdps(60):
        for rate in 10.0 ** rng.uniform(-9, -4, 40):
            sigma = float(rng.uniform(0.5, 2.0))
            small, large = roots(sigma, float(rate), p)

            def excess(s, rate=rate, sigma=sigma):
                return s + mpmath.mpf(rate) * s ** (mpmath.mpf(2) / M - 1) - sigma

            for found in map(mpmath.mpf, (small, large)):
                assert excess(found * (1 - 1e-14)) * excess(found * (1 + 1e-14)) < 0


@pytest.mark.parametrize(("M", "ratio"), [(3, 1.1906), (4, 1.4142), (5, 1.6494), (6, 1.8899)])
def test_jumps_and_hysteresis(M, ratio):
    """At the tie the large root has the value of the origin; at the spinodal it disappears."""
    with mpmath.workdps(40):
        sigma, N, p = mpmath.sqrt(3), mpmath.mpf(8), mpmath.mpf(2) / M

        def excess(decay):
            """h(large root) − h(0)."""
            large = mpmath.findroot(lambda s: s + N * decay * s ** (p - 1) - sigma, sigma)
            return (large**2 - 2 * large * sigma) / (2 * N) + decay * M * large**p / 2

        expected = mpmath.findroot(excess, (0.5 / N, 0.6 / N))
        top = max(
            (sigma - s) * s ** (1 - p) / N for s in mpmath.linspace(sigma / 100, sigma, 20001)
        )
    assert tie(float(sigma), 8.0, M) == pytest.approx(float(expected), rel=1e-13)
    assert spinodal(float(sigma), 8.0, M) == pytest.approx(float(top), rel=1e-6)
    assert spinodal(1.0, 8.0, M) / tie(1.0, 8.0, M) == pytest.approx(ratio, abs=5e-5)


def test_the_threshold_is_where_the_last_direction_is_dropped():
    counts, widths = (4, 3, 1), (3, 4)
    found = ufm.collapse_threshold(problem_of(counts, widths, 0.02, False))
    assert bool(found.jumps)
    assert found.is_exact
    below, above = (
        ufm.global_minimum(problem_of(counts, widths, float(found.mu) * x, False))
        for x in (1 - 1e-9, 1 + 1e-9)
    )
    assert (below.rank, above.rank, above.kind) == (1, 0, "origin")
    kept, lost = (
        list(critical_points(counts, widths, float(found.spinodal) * x, False))
        for x in (1 - 1e-9, 1 + 1e-9)
    )
    assert (len(kept) > 1, len(lost)) == (True, 1)
    rows = ufm.minority_thresholds(problem_of(counts, widths, 0.02, False)).rows
    for row in rows:
        ranks = [
            ufm.global_minimum(problem_of(counts, widths, row.mu * x, False)).rank
            for x in (1 - 1e-9, 1 + 1e-9)
        ]
        assert ranks[0] == ranks[1] + 1
    assert [row.size for row in rows] == [1.0, 3.0, 4.0]


def test_a_decayed_bias_is_bounded_by_a_free_one():
    free = problem_of((2, 2, 2), (3, 3), 0.02, True)
    decayed = ufm.Problem.balanced(
        loss=ufm.MSE(), num_classes=3, per_class=2, dim=3, lam_w=free.lam_w, lam_h=free.lam_h,
        lam_b=0.1, lam_hidden=free.lam_hidden,
    )  # fmt: skip
    found = ufm.global_minimum(decayed)
    assert not found.is_exact
    assert found.lower_bound == pytest.approx(ufm.global_minimum(free).value, rel=1e-12)
    assert found.value > found.lower_bound
    assert float(ufm.objective(decayed, found.params(None))) == pytest.approx(found.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": ufm.CrossEntropy()}, "known for squared error .* got CE and lam_b=None"),
        ({"loss": ufm.MSE(2.0)}, "MSE with scale 1"),
        ({"lam_b": 0.1}, "lam_b=0.1"),
        ({"lam_w": 0.0}, "positive decays only"),
        ({"class_counts": tuple(range(1, 11)), "dim": 10, "hidden_dims": (10,)}, "59,049 entries"),
        ({"lam_w": np.array([0.1, 0.2])}, "is a batch"),
    ],
)
def test_problems_without_a_list_are_refused(changes, message):
    decays = {"lam_w": 1e-3, "lam_h": 1e-3, "lam_b": None, "lam_hidden": (1e-3,)}
    fields = {"loss": ufm.MSE(), "class_counts": (3, 1), "dim": 2, **decays, **changes}
    with pytest.raises(ValueError, match=message):
        ufm.critical_points(ufm.Problem(**fields))


@pytest.mark.parametrize(("M", "offset"), [(3, 0.0), (4, 1e-13), (3, -1e-13)])
def test_where_two_roots_meet_a_list_is_refused(M, offset):
    """Rounding listed a strict saddle whose least curvature is 0, or left the point out."""
    end = float(spinodal(1.0, 4.0, M))
    assert len(ufm.critical_points(problem_of((3, 1), (2,) * (M - 1), end * 0.999, False, 1.0))) > 3
    with pytest.raises(ValueError, match="two critical points meet at the decay"):
        ufm.critical_points(problem_of((3, 1), (2,) * (M - 1), end * (1 + offset), False, 1.0))


def test_targets_with_mean_zero_and_a_decayed_bias_have_the_list_too():
    counts, rng = np.array([2, 1, 3, 1]), np.random.default_rng(0)
    Y = rng.standard_normal((4, 3))
    problem = ufm.Problem(
        loss=ufm.MSE(), targets=Y - counts @ Y / counts.sum(), class_counts=tuple(counts.tolist()),
        dim=3, lam_w=2e-2, lam_h=3e-2, lam_b=0.1, lam_hidden=(2.5e-2,), hidden_dims=(3,),
    )  # fmt: skip
    listed = ufm.critical_points(problem)
    assert len(listed) == 9  # two of three directions have roots
    for each in listed:
        point = each.params(jax.random.key(0))
        gradient = jax.grad(lambda x: ufm.objective(problem, x))(point)
        assert max(float(np.abs(x).max()) for x in jax.tree.leaves(gradient)) < 1e-13
        eigenvalues = np.linalg.eigvalsh(ufm.dense_hessian(problem, point))
        assert np.sum(eigenvalues < -1e-7) == each.index
        assert np.sum(np.abs(eigenvalues) < 1e-7) == each.zero_modes
