"""Programs of JAX run by NumPy on the host, where compiling them would take longer."""
