"""Problems on norm sets that the tests share, by a short name of the two sets."""

import ufm

SPHERE, BALL, BUDGET = ufm.Sphere(), ufm.Ball(1.2), ufm.Budget(2.0)
#: Classifier and features; None is weight decay of 1e-2.
SETS = {
    "sphere, sphere": (SPHERE, SPHERE),
    "sphere, ball": (SPHERE, BALL),
    "sphere, budget": (SPHERE, BUDGET),
    "sphere, decay": (SPHERE, None),
    "ball, sphere": (BALL, SPHERE),
    "ball, ball": (BALL, BALL),
    "ball, budget": (BALL, BUDGET),
    "ball, decay": (BALL, None),
    "budget, sphere": (BUDGET, SPHERE),
    "budget, ball": (BUDGET, BALL),
    "budget, budget": (BUDGET, BUDGET),
    "budget, decay": (BUDGET, None),
    "decay, sphere": (None, SPHERE),
    "decay, ball": (None, BALL),
    "decay, budget": (None, BUDGET),
}
#: One of each kind of bound, and each kind of set in both factors.
FEW = ("sphere, sphere", "ball, decay", "budget, ball", "decay, sphere", "budget, budget")


def make(name, loss=None, counts=(2, 2, 2), dim=4, lam_b=None, tau=0.5) -> ufm.Problem:
    classifier, features = SETS[name]
    return ufm.Problem(
        loss or ufm.CrossEntropy(),
        counts,
        dim,
        lam_w=1e-2 if classifier is None else None,
        lam_h=1e-2 if features is None else None,
        lam_b=lam_b,
        classifier=classifier,
        features=features,
        temperature=tau,
    )
