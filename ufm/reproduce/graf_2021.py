"""Graf et al. (2021): the supervised contrastive loss and the simplex."""

import numpy as np

from ufm.minimum.global_minimum import global_minimum
from ufm.reproduce.checks import METRIC, certified, cosine_row, cosines, ends, value_row
from ufm.reproduce.claim import Claim, Finding, Judgement, Paper, Row
from ufm.variants.contrastive.problem import ContrastiveProblem

#: K, n, d and τ.
_CASES = ((4, 5, 3, 0.5), (10, 10, 16, 0.1))
_UNEQUAL = (12, 12, 2, 2)


def regular_simplex() -> Finding:
    """Certified runs against a regular simplex and the value of f there, log-sum-exp by NumPy."""
    rows: list[Row] = []
    for classes, n, dim, tau in _CASES:
        name = f"K={classes}"
        found, proven = certified(ContrastiveProblem((n,) * classes, dim, tau), name)
        claimed = float(np.log(n - 1 + (classes - 1) * n * np.exp(-classes / (classes - 1) / tau)))
        angle = -1 / (classes - 1)
        features = [np.asarray(end.H).T.reshape(classes, n, dim) for end in ends(found)]
        within, means = [each for H in features for each in H], [H.mean(axis=1) for H in features]
        rows += [
            proven,
            value_row(f"{name}: highest f", found, claimed),
            cosine_row(f"{name}: cosine within a class", within, 1.0),
            cosine_row(f"{name}: cosine between classes", means, angle),
        ]
    return Finding(tuple(rows))


def unequal_classes() -> Finding:
    """The certified minimum of classes of two sizes: are its cosines equal, as in a simplex?"""
    minimum = global_minimum(ContrastiveProblem(_UNEQUAL, 4, 1.0))
    found = cosines(np.asarray(minimum.params(None).H).T[[0, 12, 24, 26]]).reshape(4, 3)
    between = (("two large classes", found[0, 0]), ("a large and a small one", found[0, 1]))
    between += (("two small classes", found[2, 2]),)
    rows = tuple(Row(f"cosine of {who}", float(x), -1 / 3, METRIC) for who, x in between)
    return Finding(rows, "" if minimum.is_exact else minimum.reason)


PAPER = Paper(
    key="graf-2021",
    reference="Graf, Hofer, Niethammer, Kwitt: Dissecting Supervised Contrastive Learning "
    "(ICML 2021)",
    arxiv="2102.08817",
    read="only the abstract was read",
    claims=(
        Claim(
            "regular-simplex",
            "The supervised contrastive loss attains its minimum once the features of each class "
            "collapse to the vertices of a regular simplex, inscribed in a hypersphere.",
            "abstract, under mild assumptions and for CE as well; balanced full batches here",
            "K=4, n=5, d=3, τ=0.5 and K=10, n=10, d=16, τ=0.1",
            regular_simplex,
        ),
        Claim(
            "unequal-classes",
            "The vertices are those of a regular simplex for classes of unequal sizes, too.",
            "not claimed: the abstract has assumptions, which were not read",
            "n=(12, 12, 2, 2), d=4, τ=1: the certified minimum",
            unequal_classes,
            Judgement.REFUTED,
        ),
    ),
)
