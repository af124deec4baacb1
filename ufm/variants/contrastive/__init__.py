"""Supervised contrastive learning with free features: no classifier, a loss of pairs of samples."""

import ufm.variants.contrastive.variant  # noqa: F401  # registers itself
