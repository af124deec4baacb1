"""Training: the objective, the optimiser, and how a run is stored and continued."""
