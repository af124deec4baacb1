"""Layers that are read in blocks: their numbers from the definitions, and what they prove."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convex_oracle import convex_minimum, wide_objective
from last_layer_oracle import collapse
from model_oracle import columns, objective_and_gradient
from points import BIASES, SKEWED, gaussian, make, perturbed

from ufm import (
    MSE,
    CrossEntropy,
    Focal,
    LabelSmoothing,
    Params,
    Verdict,
    as_classifier,
    examine,
    nearest_minimiser,
    solve,
)
from ufm.certificates.certificate import Reason
from ufm.last_layer import examine as examination
from ufm.last_layer import read
from ufm.last_layer.streaming import layer as layers
from ufm.last_layer.streaming import passes
from ufm.last_layer.streaming.layer import LargeLayer

LOSSES = (CrossEntropy(), LabelSmoothing(0.1), Focal(2.0), MSE(5.0, 3.0))
#: Shapes of blocks, so that samples fill several, the last in part, and of their tiles.
ROWS, TILE = 4, 8


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(passes, "_NUMBERS", 1)
    monkeypatch.setattr(passes, "_FEWEST_ROWS", ROWS)
    monkeypatch.setattr(passes, "_TILE", TILE)


def stored(problem, params, dtype=np.float64, layout="rows", shards=3, in_memory=False, **options):
    """The point in any order of samples, in several shards."""
    order = np.random.default_rng(7).permutation(problem.num_columns)
    rows = np.asarray(params.H).T[order].astype(dtype)
    parts = np.array_split(rows, shards)
    given = {"lam_w": float(problem.lam_w), "lam_h": float(problem.lam_h), "lam_b": problem.lam_b}
    return as_classifier(
        np.asarray(params.W),
        [part if layout == "rows" else part.T.copy() for part in parts],
        problem.labels[order],
        b=params.b,
        loss=problem.loss,
        features=layout,
        classifier="rows",
        in_memory=in_memory,
        **given | options,
    )


def dual_norm(layer) -> float:
    G = [
        w * r * exact.gradient.astype(float) for w, r, exact in columns(layer.problem, layer.params)
    ]
    return float(np.linalg.norm(np.array(G), 2))


@pytest.mark.repeats
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize(
    ("layout", "dtype"), [("rows", np.float32), ("columns", np.float64), ("columns", np.float16)]
)
def test_numbers_are_those_of_the_definitions(loss, lam_b, layout, dtype):
    problem = make(loss, SKEWED, lam_b)
    layer = stored(problem, gaussian(problem, 1, 1.0), dtype, layout)
    assert isinstance(layer, LargeLayer)
    found = examine(layer)
    assert found.centred is not None
    exact = dtype == np.float64
    for view in (found, found.centred):
        problem, params = view.layer.problem, view.layer.params
        certificate = view.certificate
        error = abs(float(certificate.value) - wide_objective(problem, params))
        share = float(certificate.rounding / certificate.value)
        assert error <= float(certificate.rounding)
        assert share <= (1e-13 if exact else 1e-4)
        gradient = np.linalg.norm(objective_and_gradient(problem, params)[1])
        assert float(certificate.grad_norm) == pytest.approx(gradient, rel=1e-13 if exact else 1e-6)
        spectral = dual_norm(view.layer)
        assert float(certificate.dual_norm) == pytest.approx(spectral, rel=1e-13 if exact else 1e-6)
        nc1, nc2, nc3, ratio = collapse(*map(np.asarray, (params.W, params.H)), problem.labels)
        metrics = found.metrics
        values = metrics.nc1, metrics.nc2, metrics.nc3, metrics.within_between_ratio
        assert values == pytest.approx((nc1, nc2, nc3, ratio), rel=1e-11 if exact else 1e-6)
        assert float(metrics.nc4) == disagreement(view.layer)


def disagreement(layer) -> float:
    W, H, labels = np.asarray(layer.params.W), np.asarray(layer.params.H), layer.problem.labels
    V = W @ H + (0.0 if layer.params.b is None else np.asarray(layer.params.b)[:, None])
    means = np.stack([H[:, labels == k].mean(axis=1) for k in range(len(W))], axis=1)
    apart = np.linalg.norm(H[:, None, :] - means[:, :, None], axis=0)
    return float(np.mean(np.argmax(V, axis=0) != np.argmin(apart, axis=0)))


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize("loss", [CrossEntropy(), MSE(5.0, 3.0)], ids=lambda loss: loss.name)
@pytest.mark.parametrize("scale", [0.0, 1e-2, 1.0])
def test_no_point_is_below_the_lower_bound(loss, lam_b, scale):
    problem = make(loss, SKEWED, lam_b)
    best = solve(problem, gaussian(problem, 0, 0.3)).params
    layer = stored(problem, perturbed(best, 3, scale), np.float32)
    found = examine(layer).certificate
    star = convex_minimum(problem)
    assert float(found.lower_bound) <= star.value
    assert float(found.gap) >= float(found.value) - star.value
    if scale == 0.0:
        assert found.verdict is Verdict.GLOBAL_MINIMUM
        # Features have 24 bits, which cost most where targets are 3: f(0) is 22, and ln 3 for CE.
        assert float(found.gap) <= (1e-6 if isinstance(loss, CrossEntropy) else 2e-6)
    else:
        assert found.verdict is Verdict.NOT_CRITICAL


@pytest.mark.repeats
@pytest.mark.parametrize("lam_b", BIASES)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_verdicts_and_distances_are_those_in_memory(loss, lam_b):
    problem = make(loss, lam_b=lam_b)
    best = solve(problem, gaussian(problem, 0, 0.3)).params
    for point in (best, perturbed(best, 3, 1e-3)):
        blocks, whole = (examine(stored(problem, point, in_memory=x)) for x in (False, True))
        pairs = [(blocks, whole)]
        if whole.centred is not None:
            pairs.append((blocks.centred, whole.centred))
        for ours, theirs in pairs:
            assert ours.certificate.verdict is theirs.certificate.verdict
            assert ours.certificate.reason is theirs.certificate.reason
            assert ours.layer.notes[0] == theirs.layer.notes[0]
            assert ours.nearest is not None
            other = nearest_minimiser(theirs.layer.problem, theirs.layer.params)
            assert other is not None
            distance = float(other.distance)
            assert float(ours.nearest.distance) == pytest.approx(distance, rel=1e-6, abs=1e-10)
            assert float(ours.nearest.relative) == pytest.approx(
                float(other.relative), rel=1e-6, abs=1e-10
            )


def test_a_minimum_on_the_convex_region_is_told_as_in_memory():
    for lam_b in (0.0, 1e-2):
        problem = make(Focal(2.0), SKEWED, lam_b)
        best = solve(problem, gaussian(problem, 0, 0.3)).params
        blocks, whole = (
            examine(stored(problem, best, in_memory=x)).certificate for x in (False, True)
        )
        assert blocks.verdict is whole.verdict is Verdict.MINIMUM_ON_CONVEX_REGION
        assert blocks.reason is whole.reason
        assert 0.0 <= float(blocks.region_gap) <= float(blocks.tol)
        # A sample far on the side of another class is outside the region.
        far = dataclasses.replace(best, H=best.H.at[:, 1].set(4.0 * best.H[:, 6]))
        found = [examine(stored(problem, far, in_memory=x)).certificate for x in (False, True)]
        assert [float(x.region_gap) for x in found] == [np.inf, np.inf]
        # A bound that does not need the point itself to be critical: no gap is too small.
        near = perturbed(best, 3, 1e-3)
        found = [examine(stored(problem, near, in_memory=x)).certificate for x in (False, True)]
        excess = float(found[0].value) - float(blocks.value)
        assert all(excess - 1e-12 <= float(x.region_gap) < np.inf for x in found)


def test_a_saddle_is_undecided_and_says_what_was_left_out():
    problem = make(CrossEntropy(), lam_b=1e-2)
    flat = jax.tree.map(jnp.zeros_like, gaussian(problem, 0, 1.0))
    found = examine(stored(problem, flat))
    assert found.certificate.verdict is Verdict.UNDECIDED
    assert found.certificate.reason is Reason.DESCENT_NOT_SOUGHT
    assert found.certificate.escape is None
    assert np.isnan(float(found.metrics.nc1))
    # Beyond the collapse threshold the same point is the minimum.
    found = examine(stored(make(CrossEntropy(), lam_b=1e-2, mu=0.5), flat))
    assert found.certificate.verdict is Verdict.GLOBAL_MINIMUM
    assert np.isnan(float(found.metrics.nc2))


def precisions(monkeypatch) -> list[str]:
    """The precisions of the passes that follow."""
    used, gap_sums = [], examination.gap_sums

    def recorded(layer, dtype, on_rows=None):
        used.append(np.dtype(dtype).name)
        return gap_sums(layer, dtype, on_rows)

    monkeypatch.setattr(examination, "gap_sums", recorded)
    return used


def test_double_precision_is_used_where_single_hides_the_verdict(monkeypatch):
    problem = make(CrossEntropy(), lam_b=0.0)
    best = solve(problem, gaussian(problem, 0, 0.3)).params
    used = precisions(monkeypatch)
    assert examine(stored(problem, best, np.float32)).certificate.verdict is Verdict.GLOBAL_MINIMUM
    assert used == ["float32"]
    spread = perturbed(best, 3, 1e-4)
    single = spread.H.astype(np.float32).astype(np.float64)
    spread = dataclasses.replace(spread, H=single)
    exact = examine(stored(problem, spread)).certificate
    single = examine(stored(problem, spread, np.float32)).certificate
    assert 1e-12 < float(single.rounding) < float(exact.gap)
    # A tolerance that the gap meets, but not with the rounding of single precision.
    tol = float((exact.gap + 0.3 * single.rounding) / exact.depth)
    used.clear()
    found = examine(stored(problem, spread, np.float32), tol).certificate
    assert used == ["float32", "float64"]
    assert found.verdict is Verdict.GLOBAL_MINIMUM
    assert float(found.rounding) < 1e-12


@pytest.mark.parametrize("scale", [1e-24, 1e24])
def test_features_whose_squares_leave_single_precision(monkeypatch, scale):
    problem = make(CrossEntropy())
    params = gaussian(problem, 1, 1.0)
    W, rows = np.asarray(params.W), np.asarray(params.H).T.astype(np.float32)
    value = objective_and_gradient(problem, Params(params.W, jnp.asarray(rows.T, float), None))[0]
    used = precisions(monkeypatch)
    # W/a, aH with a²λ_W, λ_H/a² is the same point.
    scaled = rows * np.float32(scale)
    layer = as_classifier(
        W / scale, scaled, problem.labels, loss="ce", lam_w=scale**2 * float(problem.lam_w),
        lam_h=float(problem.lam_h) / scale**2, features="rows", in_memory=False,
    )  # fmt: skip
    assert float(examine(layer).certificate.value) == pytest.approx(value, rel=1e-6)
    assert used == ["float64"]


@pytest.mark.parametrize("weighted", [True, False])
def test_weights_and_ignored_samples(weighted):
    problem = make(LabelSmoothing(0.1), SKEWED, 1e-2)
    params, n = gaussian(problem, 2, 1.0), problem.num_columns
    weights = np.random.default_rng(1).uniform(0.5, 2.0, n) if weighted else np.ones(n)
    labels = problem.labels.copy().astype(np.int64)
    labels[1] = -100
    layer = as_classifier(
        np.asarray(params.W), np.asarray(params.H).T, labels, b=params.b, loss=problem.loss,
        lam_w=1e-2, lam_b=1e-2, features="rows", in_memory=False,
        sample_weights=weights if weighted else None,
    )  # fmt: skip
    assert isinstance(layer, LargeLayer)
    kept = labels >= 0
    c = weights[kept] / weights[kept].mean()
    rows = np.asarray(params.H).T[kept]
    size = np.sum(c * np.sum(rows**2, axis=1))
    lam_h = 1e-2 * np.sum(np.asarray(params.W) ** 2) / size
    assert float(layer.problem.lam_h) == pytest.approx(lam_h, rel=1e-13)
    np.testing.assert_allclose(
        np.asarray(layer.params.H), (rows * np.sqrt(c)[:, None]).T, rtol=1e-14
    )
    found = examine(layer)
    assert found.centred is not None
    for view in (found, found.centred):
        problem, params = view.layer.problem, view.layer.params
        error = abs(float(view.certificate.value) - wide_objective(problem, params))
        assert error <= float(view.certificate.rounding) <= 1e-12
        gradient = np.linalg.norm(objective_and_gradient(problem, params)[1])
        assert float(view.certificate.grad_norm) == pytest.approx(gradient, rel=1e-13)
        assert float(view.certificate.dual_norm) == pytest.approx(dual_norm(view.layer), rel=1e-13)
    H, labels = rows.T, labels[kept]
    means = np.stack(
        [H[:, labels == k] @ c[labels == k] / c[labels == k].sum() for k in range(3)]
    ).T
    within = np.sum(c * np.sum((H - means[:, labels]) ** 2, axis=0)) / c.sum()
    between = np.sum((means - (H @ c / c.sum())[:, None]) ** 2) / 3
    assert float(found.metrics.within_between_ratio) == pytest.approx(within / between, rel=1e-12)


def test_size_chooses_and_can_be_overruled(monkeypatch):
    problem = make(CrossEntropy())
    params = gaussian(problem, 1, 1.0)
    numbers = problem.num_columns * (problem.num_classes + problem.dim)
    monkeypatch.setattr(layers, "LARGEST_IN_MEMORY", numbers)
    assert isinstance(stored(problem, params, in_memory=None), read.Classifier)
    monkeypatch.setattr(layers, "LARGEST_IN_MEMORY", numbers - 1)
    assert isinstance(stored(problem, params, in_memory=None), LargeLayer)
    assert isinstance(stored(problem, params, in_memory=True), read.Classifier)


def test_every_sample_is_told_once_in_each_pass():
    problem, told = make(CrossEntropy()), []
    layer = stored(problem, gaussian(problem, 1, 1.0), on_rows=lambda *x: told.append(x))
    n = problem.num_columns
    assert told[-1] == (n, n)
    told.clear()
    examine(layer, on_rows=lambda *x: told.append(x))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (n, n)


def test_what_is_computed_after_the_passes_is_told():
    problem = make(CrossEntropy())
    stages: list[str] = []
    examine(stored(problem, gaussian(problem, 1, 1.0)), on_stage=stages.append)
    assert stages == ["certificate and global minimum"]


def test_what_cannot_be_read_is_said_in_a_line():
    problem = make(CrossEntropy())
    params = gaussian(problem, 1, 1.0)
    H = np.asarray(params.H).copy()
    H[2, 4] = np.nan
    options = {"loss": "ce", "lam_w": 1e-2, "features": "columns", "in_memory": False}
    with pytest.raises(ValueError, match=r"H has entries that are NaN.* in sample 4: a certif"):
        as_classifier(np.asarray(params.W), H, problem.labels, **options)
    with pytest.raises(ValueError, match="H is zero, so that lam_h cannot be inferred"):
        as_classifier(np.asarray(params.W), np.zeros_like(H), problem.labels, **options)
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs double precision"):
        stored(problem, params)
