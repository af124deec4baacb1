"""The columns of the table of a sweep over problems."""

from collections.abc import Iterable

from ufm.losses import FAMILIES, HYPERPARAMETERS
from ufm.sweep.problems.config import VARIANT_FIELDS

#: Column → kind, see `ufm.sweep.record`; of the losses the hyperparameters of CE, LS, FL and MSE.
COLUMNS: dict[str, str] = {
    # the run
    "cell": "integer",
    "loss": "text",
    "family": "text",
    **dict.fromkeys(HYPERPARAMETERS[:4], "real"),
    "num_classes": "integer",
    "dim": "integer",
    "per_class": "integer",
    "class_counts": "text",
    "lam_w": "real",
    "lam_h": "real",
    "lam_b": "real",
    "mu": "real",
    "method": "text",
    "max_steps": "integer",
    "start_scale": "real",
    "seed": "integer",
    "start": "integer",
    # its result
    "status": "text",
    "verdict": "text",
    "reason": "text",
    "value": "real",
    "gap": "real",
    "gap_tol": "real",
    "rounding": "real",
    "grad_norm": "real",
    "tol": "real",
    "dual_norm": "real",
    "rho": "real",
    "norm_w": "real",
    "norm_h": "real",
    "norm_b": "real",
    "nc1": "real",
    "nc2": "real",
    "nc3": "real",
    "nc4": "real",
    "within_between_ratio": "real",
    "steps": "integer",
    "products": "integer",
    "seconds": "real",
    "negative": "integer",
    "zero": "integer",
    "positive": "integer",
    # the theory for the problem
    "minimum": "real",
    "minimum_exact": "integer",
    "kind": "text",
    "rho_star": "real",
    "threshold": "real",
    "logit_distance": "real",
    "matches": "integer",
}


#: The columns of problems with targets, or of a model that is not plain.
OPTIONAL = {
    "targets": "text",
    "classifier": "text",
    "features": "text",
    "temperature": "real",
    "lam_hidden": "text",
    "hidden_dims": "text",
}
#: The mean cosine of class means as they are, of a model that is not plain.
OF_VARIANTS = {"cosine": "real"}


def columns_for(families: Iterable[str], used_fields: Iterable[str] = ()) -> dict[str, str]:
    """`COLUMNS`, and those of the hyperparameters that only these families of losses have.

    So do the fields of a problem that not every problem has, if they are used.

    A sweep of the paper's losses therefore has the same table, however many losses are added.
    """
    used = {name for family in families for name in FAMILIES[family][1]}
    more = {name: "real" for name in HYPERPARAMETERS if name in used - set(COLUMNS)}
    optional = {name: OPTIONAL[name] for name in OPTIONAL if name in set(used_fields)}
    variant = OF_VARIANTS if set(VARIANT_FIELDS) & set(optional) else {}
    return COLUMNS | more | optional | variant
