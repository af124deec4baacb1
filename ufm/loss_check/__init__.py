"""Which theorem applies to a loss, what it predicts, and whether runs agree: `check_loss`."""
