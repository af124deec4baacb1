"""Variants of the model, a folder each: what it changes, and nothing else."""

# They register themselves.
import ufm.variants.fixed_classifier
import ufm.variants.norms  # noqa: F401
