"""The page of a sweep over problems."""
