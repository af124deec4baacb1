"""Plain helpers that know nothing of the model.

Text, JSON, files, archives, settings, pytrees and threads.
"""
