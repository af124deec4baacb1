"""Find the theorem that applies to a loss, its predictions, and runs to compare: `check_loss`."""
