"""Images of balanced classes, and where they come from."""
