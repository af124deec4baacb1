"""Sweeps over networks: the TOML file, its cells, tables, summaries and tests of equivalence."""
