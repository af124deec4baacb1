"""What the commands print and write: tables, notes, progress."""
