"""The columns of the table of a sweep over networks."""

from ufm.sweep.record import Columns

#: Quantities of the last layer in the model (`ufm.networks.measures.last_layer`) for the table;
#: the others are in the history.
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
    # the network and its training
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
    # its result
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
