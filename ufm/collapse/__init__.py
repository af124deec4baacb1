"""Neural collapse: the metrics NC1–NC4, the symmetric solution in scalars, and the origin."""
