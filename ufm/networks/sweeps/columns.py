"""The table of a sweep over networks: what is known of every run."""

from ufm.sweep.record import Columns

#: The model's view of the last layer (`ufm.networks.measures.last_layer`) that a table shows; all
#: else is in the history.
VIEW = (
    "lam_w",
    "lam_h",
    "mu",
    "dual_ratio",
    "relative_gap",
    "distance",
    "minimum_nc2",
    "centred_dual_ratio",
    "centred_distance",
    "centred_shape_distance",
)

COLUMNS: Columns = {
    # what was trained
    "cell": "integer",
    "loss": "text",
    "family": "text",
    "data": "text",
    "num_classes": "integer",
    "per_class": "integer",
    "model": "text",
    "width": "real",
    "depth": "integer",
    "norm": "text",
    "epochs": "integer",
    "batch_size": "integer",
    "learning_rate": "real",
    "momentum": "real",
    "weight_decay": "real",
    "seed": "integer",
    # how it ended
    "status": "text",
    "epochs_done": "integer",
    "train_loss": "real",
    "test_loss": "real",
    "train_accuracy": "real",
    "test_accuracy": "real",
    "first_nc1": "real",
    "first_nc2": "real",
    "first_nc3": "real",
    "nc1": "real",
    "nc2": "real",
    "nc3": "real",
    "nc4": "real",
    "weight_norm": "real",
    "feature_norm": "real",
    **dict.fromkeys(VIEW, "real"),
    "seconds": "real",
}
