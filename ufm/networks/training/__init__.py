"""Training: what is minimised, by which rule, and how a run is stored and continued."""
