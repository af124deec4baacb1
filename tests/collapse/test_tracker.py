"""The tracker against formulas over all features at once, `nc_metrics`, and exact geometry."""

import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm
from ufm import CollapseTracker
from ufm.model.problem import Params, Problem

K, DIM = 4, 6
NC = ("nc1", "nc2", "nc3", "within_between_ratio")


def made(counts=(5, 9, 2, 7), dim=DIM, offset=0.0, seed=0, dtype=np.float64):
    """Rows of features around class means, shuffled, their labels, and a classifier."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    means = 2.0 * rng.normal(size=(len(counts), dim))
    features = offset + means[labels] + rng.normal(size=(len(labels), dim))
    W, b = means + 0.3 * rng.normal(size=means.shape), 0.3 * rng.normal(size=len(counts))
    return features.astype(dtype), labels, W, b


def tracked(features, labels, classes=K, size=4) -> CollapseTracker:
    tracker = CollapseTracker(classes, features.shape[1])
    for i in range(0, len(features), size):
        tracker.update(features[i : i + size], labels[i : i + size])
    return tracker


def oracle(features, labels, W, b, outside=None) -> dict[str, float]:
    """Every number from its definition, by loops over samples and pairs in float64."""
    H, classes = np.asarray(features, float), len(W)
    groups = [H[labels == k] for k in range(classes)]
    means = np.stack([g.mean(axis=0) for g in groups])
    centred = means - H.mean(axis=0)
    within = sum((g - m).T @ (g - m) for g, m in zip(groups, means, strict=True)) / len(H)
    between = centred.T @ centred / classes
    frame = (np.eye(classes) - 1 / classes) / np.sqrt(classes - 1)

    def angle(matrix):
        return np.linalg.norm(matrix / np.linalg.norm(matrix) - frame)

    def over_pairs(function):
        return [function(i, j) for i in range(classes) for j in range(i)]

    def cosine(rows):
        return lambda i, j: rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])

    def spread(rows):
        norms = [np.linalg.norm(row) for row in rows]
        return np.std(norms) / np.mean(norms)

    units = [row / np.linalg.norm(row) for row in centred]
    energy = over_pairs(lambda i, j: np.log(1 / np.linalg.norm(units[i] - units[j])))
    variances = [np.mean(np.sum((g - g.mean(axis=0)) ** 2, axis=1)) for g in groups]
    sizes = np.linalg.svd(H - H.mean(axis=0), compute_uv=False)
    share = sizes / sizes.sum()
    cosines, uncentred = over_pairs(cosine(centred)), over_pairs(cosine(means))
    wrong = [len(g) for k, g in enumerate(groups) if np.argmax(W @ means[k] + b) != k]
    found = {
        "nc0": np.linalg.norm(np.ones(classes) @ W) ** 2,
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / classes,
        "nc2": angle(W @ W.T),
        "nc3": angle(W @ centred.T),
        "nc4_at_means": sum(wrong) / len(H),
        "nc5": np.nan,
        "within_between_ratio": np.trace(within) / np.trace(between),
        "cdnv": np.mean(
            over_pairs(
                lambda i, j: (
                    (variances[i] + variances[j]) / 2 / np.linalg.norm(means[i] - means[j]) ** 2
                )
            )
        ),
        "mean_norm_spread": spread(centred),
        "weight_norm_spread": spread(W),
        "cosine_mean": np.mean(cosines),
        "cosine_std": np.std(cosines),
        "cosine_gap": np.mean(np.abs(np.array(cosines) + 1 / (classes - 1))),
        "uncentred_cosine_mean": np.mean(uncentred),
        "uncentred_cosine_std": np.std(uncentred),
        "gnc2_energy": np.mean(energy),
        "gnc2_variance": np.var(energy),
        "effective_rank": np.prod(share**-share),
        "num_samples": len(H),
    }
    if outside is not None:
        far = outside.mean(axis=0)
        towards = [m @ far / np.linalg.norm(m) / np.linalg.norm(far) for m in means]
        found["nc5"] = np.mean(np.abs(towards))
    return found


def nc4_of(features, labels, W, b) -> float:
    means = [features[labels == k].mean(axis=0) for k in range(len(W))]
    differ = [
        np.argmax(W @ h + b) != np.argmin([np.linalg.norm(h - m) for m in means]) for h in features
    ]
    return float(np.mean(differ))


def close(found, truth, rel=1e-11, absolute=1e-13) -> None:
    found = dataclasses.asdict(found) if dataclasses.is_dataclass(found) else found
    assert found == pytest.approx(truth, rel=rel, abs=absolute, nan_ok=True)


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(6, 6, 6, 6), (5, 9, 2, 7), (1, 1, 30, 1)])
@pytest.mark.parametrize("dim", [DIM, 2])  # d < K − 1: Σ_B has rank d
def test_every_number_is_its_definition(counts, dim):
    for seed in range(4):
        features, labels, W, b = made(counts, dim, seed=seed)
        close(tracked(features, labels).compute(W, b), oracle(features, labels, W, b))


def test_nc5_compares_with_the_mean_of_other_features():
    features, labels, W, b = made()
    outside = 1.0 + np.random.default_rng(8).normal(size=(11, DIM))
    tracker, other = tracked(features, labels), CollapseTracker(K, DIM)
    for part, batch in ((tracker, outside[:3]), (tracker, outside[3:5]), (other, outside[5:])):
        part.update_out_of_distribution(batch)
    close(tracker.merge(other).compute(W, b), oracle(features, labels, W, b, outside))


@pytest.mark.parametrize("counts", [(3, 3, 3, 3), (5, 4, 2, 1)])
def test_metrics_are_those_of_the_model(counts):
    features, labels, W, b = made(counts)
    order = np.argsort(labels, kind="stable")
    W, b = W + np.random.default_rng(9).normal(size=W.shape), 10.0 * b  # many decisions differ
    problem = Problem(ufm.CrossEntropy(), counts, DIM, 1e-3, 1e-3, 1e-2)
    params = Params(*map(jnp.asarray, (W, features[order].T, b)))
    truth = ufm.nc_metrics(problem, params)
    tracker = tracked(features, labels)
    found = tracker.compute(W, b)
    for name in NC:
        assert getattr(found, name) == pytest.approx(float(getattr(truth, name)), rel=1e-12)
    second = tracker.nearest_mean(W, b)
    for half in (features[:5], features[5:]):
        second.update(half)
    assert second.nc4 == pytest.approx(float(truth.nc4), rel=1e-12)
    # The classifier decides some samples and not others as the nearest mean does.
    assert 0 < second.nc4 == pytest.approx(nc4_of(features, labels, W, b))


def test_a_collapsed_point_has_the_numbers_of_a_simplex_frame():
    frame = np.asarray(ufm.simplex_etf(jax.random.key(0), K, DIM))
    features, labels = np.tile(3.0 * frame, (5, 1)), np.tile(np.arange(K), 5)
    tracker = tracked(features, labels)
    tracker.update_out_of_distribution(np.linalg.svd(frame)[2][-1:])  # orthogonal to the frame
    zero = dict.fromkeys((f.name for f in dataclasses.fields(tracker.compute(frame))), 0.0)
    others = {"cosine_mean": -1 / 3, "uncentred_cosine_mean": -1 / 3, "effective_rank": 3.0}
    energy = {"gnc2_energy": -0.5 * np.log(2 * K / (K - 1)), "num_samples": 20}
    close(tracker.compute(frame), zero | others | energy, absolute=1e-12)


# Accuracy -----------------------------------------------------------------------------------------


def test_an_offset_of_a_thousand_costs_no_digits():
    """Float32 features of spread 1: two passes in float64 over the same numbers are the truth."""
    features, labels, W, b = made((500, 800, 100, 600), dim=16, offset=1000.0, dtype=np.float32)
    tracker = tracked(features, labels, size=32)
    centred = features.astype(float) - 1000.0  # exact
    truth = oracle(centred, labels, W, b)
    found = dataclasses.asdict(tracker.compute(W, b))
    for name in (*NC, "cdnv", "mean_norm_spread", "cosine_mean", "gnc2_energy", "effective_rank"):
        # Sums of 2,000 numbers of size 1000 in float64 know a mean to 1e-13·√2000 at worst.
        assert found[name] == pytest.approx(truth[name], rel=1e-9), name
    groups = [centred[labels == k] for k in range(K)]
    scatter = sum((g - g.mean(axis=0)).T @ (g - g.mean(axis=0)) for g in groups)
    np.testing.assert_allclose(tracker.state()["scatter"], scatter, rtol=0, atol=1e-9 * 2000)


def test_nc1_is_never_negative_and_its_rounding_is_tiny():
    """Features that vary at right angles to the class means only, far from the origin."""
    for seed in range(20):
        features, labels, W, _ = made((20, 30, 10, 40), offset=1000.0, seed=seed)
        means = np.stack([features[labels == k].mean(axis=0) for k in range(K)])
        across = np.linalg.svd(means - means.mean(axis=0))[2][K - 1 :]
        noise = np.random.default_rng(seed).normal(size=(100, len(across)))
        for k in range(K):  # the class means stay where they are
            noise[labels == k] -= noise[labels == k].mean(axis=0)
        found = tracked(means[labels] + 100.0 * noise @ across, labels, size=7).compute(W)
        assert 0.0 <= found.nc1 < 1e-11  # 1e4 · 2⁻⁵², relative to means of size 1
        assert found.within_between_ratio > 100.0


def test_a_tracker_follows_features_that_drift_by_far_more_than_their_spread():
    features, labels, W, b = made((50, 50, 50, 50), seed=3)
    features = 1e-3 * features + 1e3 * np.linspace(0, 1, 200)[:, None]
    # Σ_B has eigenvalues of 6e3 and 2e-6: the oracle, in double precision too, has the least one to
    # eps·6e3/2e-6 = 8e-7 of its size, and NC1 divides by it.
    close(tracked(features, labels).compute(W, b), oracle(features, labels, W, b), rel=8e-7)


# Order, batches, processes ------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.0, 1e3))
def test_neither_order_nor_batches_nor_processes_matter(seed, size, offset):
    features, labels, W, b = made(offset=offset, seed=seed % 50)
    rng = np.random.default_rng(seed)
    order, part = rng.permutation(len(features)), rng.integers(0, 3, len(features))
    shuffled = tracked(features[order], labels[order], size=size)
    parts = [tracked(features[part == i], labels[part == i], size=size) for i in range(3)]
    merged = functools.reduce(CollapseTracker.merge, parts)
    truth = oracle(features, labels, W, b)
    close(shuffled.compute(W, b), truth, rel=1e-8, absolute=1e-9)
    close(merged.compute(W, b), truth, rel=1e-8, absolute=1e-9)


def test_a_state_crosses_processes_and_files(tmp_path):
    features, labels, W, b = made()
    tracker = tracked(features[:10], labels[:10])
    tracker.update_out_of_distribution(features[:3] + 1.0)
    np.savez(tmp_path / "state.npz", **tracker.state())
    kept, sent = tracker.state(), pickle.loads(pickle.dumps(tracker.state()))
    with np.load(tmp_path / "state.npz") as saved:
        copies = [CollapseTracker.from_state(saved), CollapseTracker.from_state(sent)]
    tracker.update(features[10:], labels[10:])  # the copies have arrays of their own
    for copy in copies:
        copy.update(features[10:], labels[10:])
        close(copy.compute(W, b), dataclasses.asdict(tracker.compute(W, b)), rel=1e-15)
    np.testing.assert_equal(kept, sent)
    outside = features[:3] + 1.0
    close(tracker.compute(W, b), oracle(features, labels, W, b, outside))


def test_a_tracker_merges_with_itself_and_begins_anew():
    features, labels, W, b = made()
    tracker = tracked(features, labels)
    doubled = oracle(np.tile(features, (2, 1)), np.tile(labels, 2), W, b)
    close(tracker.merge(tracker).compute(W, b), doubled)
    tracker.reset()
    assert tracker.compute().num_samples == 0
    tracker.update(features, labels)
    close(tracker.compute(W, b), oracle(features, labels, W, b))


def test_counts_of_decisions_merge():
    features, labels, W, b = made()
    tracker = tracked(features, labels)
    parts = [tracker.nearest_mean(W, b) for _ in range(2)]
    parts[0].update(features[:4])
    parts[1].update(features[4:])
    assert parts[0].merge(parts[1]).nc4 == pytest.approx(nc4_of(features, labels, W, b))
    with pytest.raises(ValueError, match="other must have the same class means, W and b"):
        parts[0].merge(tracker.nearest_mean(W, 2 * b))


def test_nothing_of_a_batch_is_kept():
    features, labels, W, b = made()
    tracker, buffer = CollapseTracker(K, DIM), np.empty((4, DIM))
    for i in range(0, 20, 4):  # one buffer for all batches, as data loaders have
        buffer[:] = features[i : i + 4]
        tracker.update(buffer, labels[i : i + 4])
        buffer[:] = np.nan
    close(tracker.compute(W, b), oracle(features[:20], labels[:20], W, b))


def test_a_batch_larger_than_a_block_is_read_in_blocks(monkeypatch):
    monkeypatch.setattr("ufm.collapse.feature_batch._BLOCK", 5 * DIM)
    features, labels, W, b = made()
    tracker = tracked(features, labels, size=len(features))
    close(tracker.compute(W, b), oracle(features, labels, W, b))
    spoilt = features.copy()
    spoilt[17, 2] = np.nan
    with pytest.raises(ValueError, match="features has NaN or infinity in row 17 of 23"):
        tracker.update(spoilt, labels)
    assert tracker.counts.sum() == 23  # nothing of a refused batch is counted


# What is undefined --------------------------------------------------------------------------------


def test_what_is_undefined_is_nan():
    features, labels, W, b = made()
    empty = CollapseTracker(K, DIM)
    assert all(np.isnan(x) for x in dataclasses.astuple(empty.compute())[:-1])
    assert np.all(np.isnan(empty.means))
    unseen = tracked(features[labels > 0], labels[labels > 0])
    found = unseen.compute(W, b)
    defined = {"nc0", "nc2", "weight_norm_spread", "effective_rank", "num_samples"}
    for name, number in dataclasses.asdict(found).items():
        assert np.isnan(number) == (name not in defined), name
    assert found.nc2 == tracked(features, labels).compute(W).nc2
    second = unseen.nearest_mean(W, b)
    second.update(features)
    assert np.isnan(second.nc4)


def test_metrics_of_a_classifier_need_one():
    features, labels, W, b = made()
    truth = oracle(features, labels, W, b)
    without = dict.fromkeys(("nc0", "nc2", "nc3", "nc4_at_means", "weight_norm_spread"), np.nan)
    close(tracked(features, labels).compute(), truth | without)


def test_means_that_differ_by_rounding_define_no_directions():
    rng = np.random.default_rng(0)
    features = 1e6 + 1e-9 * rng.normal(size=(40, DIM))
    found = tracked(features, np.arange(40) % K).compute()
    assert np.isnan([found.nc1, found.cosine_mean, found.cdnv]).all()
