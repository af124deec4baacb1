"""JAX as the command wants it: double precision, and compiled programs kept between runs."""


def configure() -> None:
    """Make float64 possible, and cache compilations in the user's folder if it can be written."""
    import jax

    from ufm.runs.compilation_cache import enable_compilation_cache

    jax.config.update("jax_enable_x64", True)
    enable_compilation_cache()
