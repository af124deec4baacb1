"""Runs of the solvers: many starts certified, one run on the way, and the folder of results."""
