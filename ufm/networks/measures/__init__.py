"""What is measured of a network: accuracy, collapse, curvature, the last layer beside the model."""
