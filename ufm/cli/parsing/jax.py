"""Configure JAX for the command: double precision, and a cache of compiled programs."""


def configure() -> None:
    """Enable float64, and cache compilations in the user's folder if it can be written."""
    import jax

    from ufm.runs.compilation_cache import enable_compilation_cache

    jax.config.update("jax_enable_x64", True)
    enable_compilation_cache()
