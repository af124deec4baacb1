"""Run JAX programs by NumPy on the host, where compiling them would take longer."""
