"""The output of the commands: tables, notes, progress."""
