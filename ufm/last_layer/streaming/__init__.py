"""Examine a last layer in two passes over its features, in memory that does not grow with N."""
