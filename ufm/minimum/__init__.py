"""The global minimum of a problem, and how far a point is from the minimisers."""
