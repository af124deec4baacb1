"""Names of a package that are loaded on first use, from the one list of them: its stub.

`__init__.pyi` says where each name comes from (`from home import name as name`): type checkers read
it, and so does the package itself when it is imported. `ufm` must not wait for JAX, nor
`ufm.report` for matplotlib. Little is imported here: every `import ufm` waits for it.
"""

import importlib
import sys
from itertools import pairwise


def lazy_exports(package: str):
    """`__getattr__`, `__dir__` and `__all__` of the package with this name (PEP 562)."""
    module = sys.modules[package]
    # Every loader of files has `get_data`, also that of a zip file.
    read = module.__loader__.get_data  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    homes = homes_of(read(f"{module.__file__}i").decode())

    def __getattr__(name: str):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, found)
        return found

    def __dir__():
        return sorted(homes)

    return __getattr__, __dir__, sorted(name for name in homes if not name.startswith("_"))


def homes_of(stub: str) -> dict[str, str]:
    """The module of each name in a stub, which holds nothing but imports of that form."""
    found, home = {}, ""
    for word, following in pairwise(stub.split()):
        if word == "from":
            home = following
        elif word == "as":
            found[following.rstrip(",")] = home
    return found
