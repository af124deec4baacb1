"""The losses beside the paper's four against 50 digits, from their definitions alone.

The oracle knows a value; its derivatives are differences of values at 50 digits.
"""

import functools
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from ufm._support.quick_jit import quick_jit
from ufm.losses import FAMILIES, SoftmaxLoss, loss_spec, parse_loss

#: Accurate relative to their own size, and relative to numbers of order 1.
RELATIVE = (
    *("poly:2", "gce:0.7", "gce:0.01", "sce:0.1,1,-4", "taylor:1", "taylor:5", "mae"),
    *("temperature:0.5", "temperature:3", "cs:1", "cs:2", "ww:1", "ww:2", "bce"),
)
ABSOLUTE = (
    "poly:-1",
    "brier",
    "nl",
    "cce",
    "cot",
    "bitempered:0.8,1.2",
    "bitempered:1,1.5",
    "logitnorm:0.4",
)
SPECS = RELATIVE + ABSOLUTE
K, LABEL = 3, 1


def p_and_rest(z):
    """p, and 1 − p_k as a sum."""
    odds = [mp.exp(x - z[LABEL]) for x in z]
    p = [x / mp.fsum(odds) for x in odds]
    return p, mp.fsum(x for j, x in enumerate(p) if j != LABEL)


def tempered(z, t):
    """Tempered probabilities: Σ_j exp_t(z_j − λ) = 1, by mpmath's own root finder."""

    def p_at(level):
        return [(1 + (t - 1) * (level - x)) ** (-1 / (t - 1)) for x in z]

    top = max(z)
    far = (mp.mpf(len(z)) ** (t - 1) - 1) / (t - 1)
    ends = (top, top + far * (1 + mp.mpf(10) ** -30))
    level = mp.findroot(
        lambda x: mp.fsum(p_at(x)) - 1, ends, solver="anderson", tol=mp.mpf(10) ** (40 - 2 * mp.dps)
    )
    return p_at(level)


def rivals_entropy(p, u):
    q = [x / u for j, x in enumerate(p) if j != LABEL]
    return -mp.fsum(x * mp.log(x) for x in q)


def exact_value(spec: str, z) -> mp.mpf:
    name, _, rest = spec.partition(":")
    numbers = [mp.mpf(float(x)) for x in rest.split(",")] if rest else []
    others = [x for j, x in enumerate(z) if j != LABEL]
    if name in ("cs", "ww"):
        margins = [1 + x - z[LABEL] for x in others]
        margins = [max(margins)] if name == "cs" else margins
        return mp.fsum(max(x, mp.mpf(0)) ** numbers[0] for x in margins)
    if name == "bce":
        return mp.log1p(mp.exp(-z[LABEL])) + mp.fsum(mp.log1p(mp.exp(x)) for x in others)
    if name == "bitempered":
        t1, t2 = numbers
        p = tempered(z, t2)
        log_p = mp.log(p[LABEL]) if t1 == 1 else (p[LABEL] ** (1 - t1) - 1) / (1 - t1)
        return -log_p - (1 - mp.fsum(x ** (2 - t1) for x in p)) / (2 - t1)
    if name == "temperature":
        z = [x / numbers[0] for x in z]
    if name == "logitnorm":
        size = mp.sqrt(mp.fsum(x**2 for x in z))
        z = [x / (numbers[0] * size) for x in z]
    p, u = p_and_rest(z)
    ce = mp.log1p(mp.fsum(mp.exp(x - z[LABEL]) for j, x in enumerate(z) if j != LABEL))
    if name == "gce":
        return (1 - mp.exp(-numbers[0] * ce)) / numbers[0]
    if name == "sce":
        return numbers[0] * ce - numbers[1] * numbers[2] * u
    if name == "taylor":
        return mp.fsum(u**i / i for i in range(1, int(numbers[0]) + 1))
    formulas = {
        "poly": lambda: ce + numbers[0] * u,
        "mae": lambda: u,
        "temperature": lambda: ce,
        "logitnorm": lambda: ce,
        "brier": lambda: u**2 + mp.fsum(x**2 for j, x in enumerate(p) if j != LABEL),
        "nl": lambda: (
            -mp.fsum(
                mp.log(mp.fsum(x for i, x in enumerate(p) if i != j))
                for j in range(K)
                if j != LABEL
            )
        ),
        "cce": lambda: ce - rivals_entropy(p, u) / (K - 1),
        "cot": lambda: ce - u * rivals_entropy(p, u) / (K - 1),
    }
    return formulas[name]()


def logit_rows() -> np.ndarray:
    rng = np.random.default_rng(3)
    label = np.eye(K)[LABEL]
    return np.array(
        [
            *rng.normal(size=(2, K)),
            *(30 * rng.normal(size=(2, K))),
            *(1e4 * rng.uniform(-1, 1, size=(3, K))),
            9000 + rng.normal(size=K),
            *(rng.normal(size=K) + t * label for t in (-1e4, -745.0, -30.0, 30.0, 690.0, 1e4)),
            [0.3, 0.1, -1e4],
        ]
    )


@quick_jit
def computed(loss, Z, X):
    def at(z, x):
        product = loss.hessian_product(z, LABEL, x)
        return loss.value(z, LABEL), loss.gradient(z, LABEL), jnp.dot(x, product)

    return jax.lax.map(lambda pair: at(*pair), (Z, X))


@functools.cache
def exact(spec: str):
    """Value, gradient and xᵀ∇²L x of every row, by differences of values."""
    rows, X = logit_rows(), directions()
    digits = 700 if spec in RELATIVE else 110
    with mp.workdps(digits):
        found = []
        for row, x in zip(rows, X, strict=True):
            z, step = [mp.mpf(float(v)) for v in row], mp.mpf(10) ** (-digits // 4)
            x = [mp.mpf(float(v)) for v in x]

            def moved(direction, h, z=z):
                return exact_value(spec, [a + h * b for a, b in zip(z, direction, strict=True)])

            units = np.eye(K).tolist()
            slopes = [(moved(e, step) - moved(e, -step)) / (2 * step) for e in units]
            middle = exact_value(spec, z)
            bend = (moved(x, step) - 2 * middle + moved(x, -step)) / step**2
            found.append((middle, slopes, bend))
    return found


def directions() -> np.ndarray:
    return np.random.default_rng(8).normal(size=logit_rows().shape)


@pytest.mark.parametrize("spec", SPECS)
def test_values_and_derivatives(spec):
    rows, X = logit_rows(), directions()
    values, gradients, bends = map(np.asarray, computed(parse_loss(spec), rows, X))
    # Logits are known to eps |z|, and so is what is exponential in them, relative to its size.
    scale = 1.0 / float(spec.partition(":")[2]) if spec.startswith("temp") else 1.0
    power = 6.0 if spec.startswith("taylor") else 2.0
    for i, (value, slopes, bend) in enumerate(exact(spec)):
        unit = 4 * np.finfo(float).eps * (16 + power * scale * (1 + np.abs(rows[i]).max()))
        floor = mp.mpf(1 if spec in ABSOLUTE else 0) + mp.mpf("1e-305")
        size = mp.sqrt(mp.fsum(x * x for x in slopes))
        x_size = mp.mpf(float(X[i] @ X[i]))
        assert abs(mp.mpf(float(values[i])) - value) <= unit * (abs(value) + floor), (i, rows[i])
        for found, truth in zip(gradients[i], slopes, strict=True):
            assert abs(mp.mpf(float(found)) - truth) <= unit * (size + floor), (i, rows[i])
        # Curvature cancels between the slope and the bend of ℓ(t), each of them no larger.
        largest = max(abs(bend), x_size * size * 10) + x_size * floor
        assert abs(mp.mpf(float(bends[i])) - bend) <= unit * largest, (i, rows[i])


def test_a_compiled_product_sums_to_zero_far_out():
    """∇²L annihilates constants, also where 1 − p_k is 1e-100."""
    loss, x = parse_loss("temperature:3"), jnp.array([1.556942, -0.86273192, -2.46512082])
    product = jax.jit(loss.hessian_product)(jnp.array([-2.8, 691.0, -1.0]), LABEL, x)
    assert abs(jnp.sum(product)) < 1e-12 * jnp.max(jnp.abs(product)) < 1e-100


@pytest.mark.parametrize("spec", [s for s in SPECS if parse_loss(s).contrastive])
def test_the_profile_is_the_loss_at_equal_margins(spec):
    loss = parse_loss(spec)
    s = np.array([-40.0, -3.0, 0.0, 0.4, 1.7, 6.0, 50.0])
    Z = s[:, None] * np.eye(K)[LABEL]
    values, gradients, bends = map(np.asarray, computed(loss, Z, np.tile(np.eye(K)[LABEL], (7, 1))))
    np.testing.assert_allclose(loss.profile(s, K), values, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        loss.profile_slope(s, K), gradients[:, LABEL], rtol=1e-12, atol=1e-15
    )
    edge = np.float64(loss.profile_convex_above(K))
    above = s > (loss.margin_at(edge, K) if edge > 0 else -np.inf)
    assert np.all(bends[above] >= 0)
    assert np.all(bends[~above] <= 1e-15)
    # −φ' decreases towards its limit at −∞, where φ is concave.
    assert np.all(-loss.profile_slope(s, K)[~above] >= float(loss.far_slope()) * (1 - 1e-15))


@pytest.mark.parametrize("spec", [s for s in SPECS if isinstance(parse_loss(s), SoftmaxLoss)])
def test_convex_exactly_above_one_probability(spec):
    loss = parse_loss(spec)
    edge = float(loss.convex_above())
    Z = np.random.default_rng(4).normal(size=(400, K)) * 2.0
    p = np.exp(Z[:, LABEL]) / np.exp(Z).sum(axis=1)
    hessians = quick_jit(jax.vmap(lambda z: loss.hessian(z, LABEL)))(jnp.asarray(Z))
    bent = np.linalg.eigvalsh(hessians)[:, 0]
    np.testing.assert_array_equal(bent < -1e-12, p < edge * (1 - 1e-9))


def test_every_loss_has_a_name_and_a_text():
    for spec in SPECS:
        loss = parse_loss(spec)
        assert parse_loss(loss_spec(loss)) == loss
    assert {s.partition(":")[0] for s in SPECS} | {"ce", "ls", "fl", "mse"} == set(FAMILIES)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("poly:-1.5", "epsilon must be at least -1"),
        ("gce:0", "exponent must be in (0, 1]"),
        ("sce:0,1,-4", "ce_weight must be positive"),
        ("sce:1,1,4", "log_zero must be at most 0"),
        ("taylor:2.5", "terms must be a whole number from 1 to 16"),
        ("bitempered:1.2,1.1", "t1 must be in [0, 1]"),
        ("bitempered:0.8,1", "t2 must be in (1, 4]"),
        ("cs:3", "power must be 1 (plain) or 2 (squared)"),
        ("temperature:0", "temperature must be in (0, 10]"),
        ("mae:1", "mae takes no number"),
    ],
)
def test_numbers_out_of_range_are_named(text, what):
    with pytest.raises(ValueError, match=re.escape(what)):
        parse_loss(text)


def test_the_table_of_the_site_has_every_loss():
    table = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "hooks" / "losses.py"))
    assert {spec.partition(":")[0] for spec in table["LOSSES"]} == set(FAMILIES)
    cells = table["row"]("gce:0.7", "")
    assert cells == ("`gce:0.7`", "GCE(q=0.7)", "yes", "no", "p ≥ 0.4118", "0.3049", "0.614", "")


@pytest.mark.parametrize(
    "spec",
    [
        *("bce", "temperature:0.5", "temperature:3", "poly:0.5", "poly:1", "poly:-1"),
        "sce:6,0.1,-4",
    ],
)
def test_fenchel_young(spec):
    loss, rng = parse_loss(spec), np.random.default_rng(6)
    Z = np.concatenate([scale * rng.normal(size=(8, K)) for scale in (0.3, 2.0, 8.0)])

    def at(z):
        dual = loss.gradient(z, LABEL)
        rounding = loss.conjugate_rounding(dual, LABEL)
        slope = loss.conjugate_slope(dual, LABEL, jnp.full(K, 1e-12))
        return loss.value(z, LABEL), dual, loss.conjugate(dual, LABEL), rounding, slope

    found = map(np.asarray, quick_jit(jax.vmap(at))(jnp.asarray(Z)))
    values, duals, conjugates, rounding, slopes = found
    pairs = values[None, :] + conjugates[:, None] - duals @ Z.T
    room = (K + 16) * np.finfo(float).eps * (rounding + 4 * np.abs(duals * Z).sum(axis=1) + 1)
    # Equality at the point of the dual, and no less than that anywhere.
    assert np.all(np.abs(np.diag(pairs)) <= room)
    assert np.all(pairs >= -64 * np.finfo(float).eps * (1 + np.abs(Z).max()) * 4)
    # ∂L*/∂γ at ∇L(z) is z, up to a constant that duals of sum 0 do not see.
    spread = np.ptp(Z[:8], axis=1) / 2 if loss.shift_invariant else np.abs(Z[:8]).max(axis=1)
    assert np.all(slopes[:8] >= spread * (1 - 1e-9))


@pytest.mark.parametrize("spec", ["poly:0.5", "poly:-1", "poly:2", "sce:6,0.1,-4", "sce:0.1,1,-4"])
def test_conjugates_of_odds_by_brute_force(spec):
    """sup_z γᵀz − L(z) over a grid of two rivals, whether or not L is convex."""
    name, _, rest = spec.partition(":")
    numbers = [float(x) for x in rest.split(",")]
    first, second = (1.0, numbers[0]) if name == "poly" else (numbers[0], -numbers[1] * numbers[2])
    loss, line = parse_loss(spec), np.linspace(-14.0, 14.0, 1401)
    a, b = line[:, None], line[None, :]
    cross_entropy = np.log1p(np.exp(a) + np.exp(b))
    values = first * cross_entropy + second * -np.expm1(-cross_entropy)
    shares = np.array([[0.3, 0.2], [0.6, 0.05], [0.02, 0.01], [0.45, 0.5]]) * first
    duals = np.stack([shares[:, 0], -shares.sum(axis=1), shares[:, 1]], axis=1)
    steep = [first, -1.2 * first, 0.2 * first]  # beyond ℓ'(∞)
    negative = [-0.1 * first, -0.2 * first, 0.3 * first]
    conjugates = quick_jit(jax.vmap(lambda dual: loss.conjugate(dual, LABEL)))
    found = np.asarray(conjugates(jnp.asarray([*duals, steep, negative])))
    assert np.all(found[-2:] == np.inf)
    found = found[:-2]
    highest = [np.max(x * a + y * b - values) for x, y in shares]
    # The grid's mesh is .02, and second derivatives are at most 2.5 (first + second).
    mesh = 2.5 * (first + abs(second)) * 0.01**2
    assert np.all(found >= highest)
    assert np.all(found <= np.array(highest) + mesh)
