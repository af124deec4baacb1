"""Supervised contrastive learning with free features: no classifier, a loss of pairs of samples."""
