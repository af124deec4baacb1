"""Sweeps over problems: the TOML file, its cells, one cell run, the table and its summary."""
