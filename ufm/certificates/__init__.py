"""Certificates of a point: lower bounds, second-order tests, verdicts, escape directions."""
