"""Phase diagrams: what the runs of a loss found over the fields of its problems."""
