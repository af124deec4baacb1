"""`ufm version`."""

import importlib.metadata
import platform

import msgspec


class Version(msgspec.Struct, frozen=True):
    """Print the versions that decide the numbers."""

    def run(self) -> int:
        for name in ("ufm", "jax", "jaxlib", "numpy", "optax"):
            print(f"{name:8}{importlib.metadata.version(name)}")
        print(f"{'python':8}{platform.python_version()}")
        return 0
