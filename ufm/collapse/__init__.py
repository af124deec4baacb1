"""Neural collapse: NC1–NC4 and their tracker, the symmetric solution in scalars, the origin."""
