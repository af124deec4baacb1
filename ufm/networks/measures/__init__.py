"""Measures of a network: accuracy, collapse, curvature, and the last layer in the model."""
