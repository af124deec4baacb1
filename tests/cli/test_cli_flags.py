"""Messages of the library name parameters; a command names its flags."""

import ast
import re

import pytest
from import_order import ROOT

from ufm.cli import parse
from ufm.cli.output.print import with_flags

#: They speak of whole commands: of `ufm solve`, whose files they read, and of git.
OF_COMMANDS = {
    *("last_layer/stored_point.py", "sweep/provenance.py"),
    "last_layer/dossier/verify.py",  # a command of its own
}


def hints(source: str) -> list[str]:
    """Texts that hold a flag and are no docstrings."""
    tree = ast.parse(source)
    found = {id(node): node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # docstrings
            found.pop(id(node.value), None)
    texts = [x for x in found.values() if isinstance(x, str)]
    return [x for x in texts if re.search(r"(^|[ (])--[a-z]", x)]


def test_no_message_of_the_library_names_a_flag():
    assert hints('raise ValueError("choose another --out")')
    assert not hints('"""As --out does."""')
    package = ROOT / "ufm"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("cli/") and name not in OF_COMMANDS:
            assert not hints(path.read_text(encoding="utf-8")), name


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["solve"], "give lam_h2, --lam-h or another --out; see `ufm store reindex`"),
        (["sweep", "a.toml"], "give lam_h2, lam_h or another --out; see `ufm store reindex`"),
        (["report", "folder"], "give lam_h2, lam_h or another --out; see `ufm store reindex`"),
        (["version"], "give lam_h2, lam_h or another out; see `ufm store reindex`"),
    ],
)
def test_a_parameter_becomes_a_flag_where_the_command_has_one(command, said):
    message = "give `lam_h2`, `lam_h` or another `out`; see `ufm store reindex`"
    assert with_flags(message, parse(command)) == said
