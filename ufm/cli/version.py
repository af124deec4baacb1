"""`ufm version`."""

import msgspec

from ufm.cli.output.print import say


class Version(msgspec.Struct, frozen=True):
    """Print the versions of ufm and the libraries that affect its numbers."""

    def run(self) -> int:
        import importlib.metadata  # slow, as platform is; `ufm --help` needs neither
        import platform

        for name in ("ufm", "jax", "jaxlib", "numpy", "optax"):
            say(f"{name:8}{importlib.metadata.version(name)}")
        say(f"{'python':8}{platform.python_version()}")
        return 0
