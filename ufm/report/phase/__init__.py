"""Phase diagrams: results of the runs of a loss over the fields of its problems."""
