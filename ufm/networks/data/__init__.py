"""Images of balanced classes, and their sources."""
