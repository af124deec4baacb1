"""Local minima that are not global: the hunt for them, and the decays at which they exist."""
