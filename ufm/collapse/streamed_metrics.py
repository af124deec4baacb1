r"""Metrics of neural collapse from class means and within-class scatter, without the features.

NC1–NC3 and the within/between ratio are those of `nc_metrics` (see `ufm.collapse.metrics`); norms,
cosines, energy and rank are those of `ufm.collapse.mean_geometry`. Besides, with h̄_O the mean of
out-of-distribution features and v_k the variance of class k, (1/n_k) Σ_{i∈k} ‖h_i − h̄_k‖²,

    NC0  = ‖Wᵀ1‖²                              rows of W sum to zero (Zhao et al., 2026)
    NC5  = (1/K) Σ_k |cos(h̄_k, h̄_O)|           these features are orthogonal (Ammar et al., 2024)
    CDNV = mean of (v_i + v_j)/(2‖h̄_i − h̄_j‖²) over pairs of classes (Galanti et al., 2022)

    >>> moments = ClassMoments(num_classes=2, dim=1)
    >>> moments.add(np.array([[2.0], [-2.0], [-4.0]]), np.array([0, 1, 1]))
    >>> W, b, nowhere = np.array([[1.0], [-1.0]]), np.zeros(2), np.full(1, np.nan)
    >>> metrics = measure(moments, W, b, nowhere)
    >>> metrics.nc2 < 1e-12, round(metrics.cdnv, 6), round(metrics.effective_rank, 6)
    (True, 0.02, 1.0)
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from ufm._support.shown import Shown
from ufm.collapse.class_moments import ClassMoments
from ufm.collapse.mean_geometry import (
    cosines,
    effective_rank,
    energies,
    norm_spread,
    normalised_variances,
    pairs,
)
from ufm.collapse.metrics import decisions, mean_directions, metrics_of_means


@dataclasses.dataclass(frozen=True, repr=False)
class CollapseMetrics(Shown):
    """Numbers that measure neural collapse, by the module's formulas; NaN where undefined.

    Attributes:
        nc0: ‖Wᵀ1‖², in squared units of W; 0 at collapse.
        nc1: trace(Σ_W Σ_B^†)/K, never negative; 0 at collapse.
        nc2: Distance of WWᵀ, normalised, from a simplex ETF; 0 at collapse.
        nc3: Distance of WH̃, normalised, from a simplex ETF; 0 at collapse.
        nc4_at_means: NC4 with each sample moved to its class mean: the share of samples whose class
            mean the classifier decides otherwise. NC4 itself: `CollapseTracker.nearest_mean`.
        nc5: Mean |cos| of class means and the out-of-distribution mean.
        within_between_ratio: trace Σ_W / trace Σ_B; 0 at collapse.
        cdnv: Class-distance normalised variance; 0 at collapse.
        mean_norm_spread: Spread of the norms of the centred class means; 0 at collapse.
        weight_norm_spread: Spread of the norms of the rows of W; 0 at collapse.
        cosine_mean: Mean cosine of pairs of centred class means; −1/(K−1) at collapse.
        cosine_std: Standard deviation of these cosines; 0 at collapse.
        cosine_gap: Mean of |cos + 1/(K−1)| of these cosines; 0 at collapse.
        uncentred_cosine_mean: Mean cosine of pairs of class means.
        uncentred_cosine_std: Standard deviation of these cosines.
        gnc2_energy: Hyperspherical energy of the centred class means; −½ log(2K/(K−1)), its least
            value, at collapse.
        gnc2_variance: Variance of −log ‖û_i − û_j‖ over pairs; 0 at collapse.
        effective_rank: Effective rank of the centred features; K−1 at collapse.
        num_samples: Samples that these numbers include.
    """

    nc0: float
    nc1: float
    nc2: float
    nc3: float
    nc4_at_means: float
    nc5: float
    within_between_ratio: float
    cdnv: float
    mean_norm_spread: float
    weight_norm_spread: float
    cosine_mean: float
    cosine_std: float
    cosine_gap: float
    uncentred_cosine_mean: float
    uncentred_cosine_std: float
    gnc2_energy: float
    gnc2_variance: float
    effective_rank: float
    num_samples: int

    _printed = ("nc1", "nc2", "nc3", "within_between_ratio", "cosine_mean", "effective_rank")


def measure(
    moments: ClassMoments,
    W: Float[np.ndarray, "K d"],
    b: Float[np.ndarray, " K"],
    outside: Float[np.ndarray, " d"],
) -> CollapseMetrics:
    """Compute all metrics; those of W are NaN if it is 0, and NC5 if the mean `outside` is NaN."""
    samples, classes = moments.counts.sum(), len(moments.counts)
    with np.errstate(all="ignore"):  # what is undefined is NaN
        share, scatter = moments.counts / samples, moments.scatter
        means, (centred, distinct) = moments.seen_means, moments.centred_means()
        decided, differ = decisions(W @ means.T + b[:, None], centred.T, centred.T)
        u, inverse = mean_directions(centred.T)
        nc = metrics_of_means(
            W,
            centred.T,
            distinct=distinct,
            within=moments.squares.sum() / samples,
            # Rounding may put a variance of 0 below it.
            variance=np.maximum(np.sum(u * (scatter @ u), 0) / samples, 0.0),
            inverse=inverse,
            nc4=np.where(decided, np.sum(share[differ]), np.nan),
        )
        # The centre of the means of all classes: a class without samples has no share.
        around = moments.means - moments.centre
        centred = np.where(distinct, centred, np.nan)
        cosine, uncentred = pairs(cosines(centred)), pairs(cosines(means))
        energy = energies(cosine)
        towards = means @ outside / (np.linalg.norm(means, axis=1) * np.linalg.norm(outside))
        cdnv = normalised_variances(centred, moments.squares / moments.counts)
        zero_sum = np.sum(np.sum(W, axis=0) ** 2)
        found = {
            "nc0": np.where(np.any(W != 0), zero_sum, np.nan),
            "nc1": nc.nc1,
            "nc2": nc.nc2,
            "nc3": nc.nc3,
            "nc4_at_means": nc.nc4,
            "nc5": np.mean(np.abs(towards)),
            "within_between_ratio": nc.within_between_ratio,
            "cdnv": np.mean(cdnv),
            "mean_norm_spread": norm_spread(centred),
            "weight_norm_spread": norm_spread(W),
            "cosine_mean": np.mean(cosine),
            "cosine_std": np.std(cosine),
            "cosine_gap": np.mean(np.abs(cosine + 1.0 / (classes - 1))),
            "uncentred_cosine_mean": np.mean(uncentred),
            "uncentred_cosine_std": np.std(uncentred),
            "gnc2_energy": np.mean(energy),
            "gnc2_variance": np.var(energy),
            "effective_rank": effective_rank(scatter / samples + (around.T * share) @ around),
        }
    numbers = {name: float(value) for name, value in found.items()}
    return CollapseMetrics(**numbers, num_samples=int(samples))
