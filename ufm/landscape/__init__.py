"""Searches for critical points, and what they find."""
