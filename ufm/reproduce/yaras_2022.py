"""Yaras et al. (2022): features and classifiers on spheres."""

import jax.numpy as jnp
import numpy as np

from ufm.certificates.certificate import Verdict, certify
from ufm.model.params import Params
from ufm.reproduce.checks import (
    METRIC,
    certified,
    cosine_row,
    ends,
    farthest,
    on_spheres,
    value_row,
)
from ufm.reproduce.claim import Claim, Finding, Paper, Row

#: K, n, d and τ.
_CASES = ((4, 5, 6, 1.0), (10, 10, 16, 0.2))


def minimisers() -> Finding:
    """Certified runs against f and the angles of a simplex ETF, evaluated by NumPy."""
    rows: list[Row] = []
    for classes, n, dim, tau in _CASES:
        found, proven = certified(on_spheres(classes, n, dim, tau), f"K={classes}")
        claimed = float(np.log1p((classes - 1) * np.exp(-classes / (classes - 1) / tau)))
        angle, name, points = -1 / (classes - 1), f"K={classes}", ends(found)
        own = [np.sum(np.repeat(np.asarray(x.W), n, axis=0).T * np.asarray(x.H), 0) for x in points]
        rows += [
            proven,
            value_row(f"{name}: highest f", found, claimed),
            cosine_row(f"{name}: cosine of two classifiers", [x.W for x in points], angle),
            Row(f"{name}: cosine of a feature and its classifier", farthest(own, 1.0), 1.0, METRIC),
        ]
    return Finding(tuple(rows))


def saddles() -> Finding:
    """The critical point at which all features and classifiers are equal."""
    rows = []
    for classes, n, dim, tau in _CASES:
        axis = jnp.zeros((dim, 1)).at[0].set(1.0)
        same = Params(jnp.tile(axis.T, (classes, 1)), jnp.tile(axis, (1, classes * n)), None)
        found = certify(on_spheres(classes, n, dim, tau), same)
        is_saddle = int(found.verdict is Verdict.STRICT_SADDLE)
        rows.append(
            Row(f"K={classes}: all vectors equal is a certified strict saddle", is_saddle, 1)
        )
    return Finding(tuple(rows))


PAPER = Paper(
    key="yaras-2022",
    reference="Yaras, Wang, Zhu, Balzano, Qu: Neural Collapse with Normalized Features: "
    "A Geometric Analysis over the Riemannian Manifold (NeurIPS 2022)",
    arxiv="2209.09211",
    read="only the abstract was read",
    claims=(
        Claim(
            "global-minimisers",
            "With features and classifiers on the sphere, the only global minimisers are "
            "neural-collapse solutions.",
            "abstract; CE, temperature 1/τ",
            "K=4, n=5, d=6, τ=1 and K=10, n=10, d=16, τ=0.2",
            minimisers,
        ),
        Claim(
            "strict-saddles",
            "All other critical points are strict saddles with negative curvature.",
            "abstract; one such point here",
            "all features and classifiers equal, in the same problems",
            saddles,
        ),
    ),
)
