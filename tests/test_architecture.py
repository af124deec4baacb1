"""The shape of the package, read from its sources: who may import whom, and how long a file is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 350
#: What strangers audit, alone and from top to bottom: one check a function, however many lines.
AUDITED = ("ufm/dossier/verify.py",)

# A unit is a module or subpackage directly inside ufm/. It may import units of earlier layers and
# its own modules; units that share a layer do not know each other.
LAYERS = (
    ("_text",),
    ("_pytree", "_threads", "_json", "_files"),
    ("losses", "params", "archive", "settings", "verdicts", "layer_arrays"),
    ("problem",),
    ("class_means", "linearisation", "rounding", "mesh"),
    ("geometry", "symmetric", "duality", "solvers", "hessian", "classifier", "origin_bias"),
    ("curvature", "centring"),
    ("certificate", "escape"),
    ("minimum",),
    ("geometry_match",),
    ("verification", "nearest", "trajectory"),
    ("results", "examination", "spectra"),
    ("dossier", "summary"),
    ("landscape",),
    ("sweep",),
    ("report",),
)
ALLOWED = {
    unit: {below for lower in LAYERS[:level] for below in lower}
    for level, layer in enumerate(LAYERS)
    for unit in layer
}
# The spectrum at the symmetric minimum needs the scalars of that minimum.
ALLOWED["hessian"].add("symmetric")
# Networks stand apart: nothing but reports and the command imports them.
ALLOWED["networks"] = {
    *("_json", "_pytree", "_threads", "_files", "losses", "params", "archive", "settings"),
    *("problem", "geometry", "symmetric", "classifier", "centring", "certificate", "minimum"),
    *("nearest", "results", "hessian", "sweep"),
}
ALLOWED["cli"] = set(ALLOWED)

# What makes a command slow to start, so that `ufm --help` must not import it.
LIGHT = (["cli"], ["_text"])
SLOW = {"jax", "jaxlib", "matplotlib", "optax", "equinox", "sklearn"}

# Where the command prints, and what of rich shows no string itself.
PRINTS, CONSOLE = "cli/_print.py", "cli/_console.py"
RICH = {"rich.table.Table"} | {
    f"rich.progress.{name}"
    for name in ("BarColumn", "MofNCompleteColumn", "Progress", "TimeElapsedColumn")
}


def imported_names(node: ast.AST) -> list[str]:
    """Full dotted names of what one statement imports; a relative import keeps its dots."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        return [f"{module}.{alias.name}" for alias in node.names]
    return []


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: not the bodies of functions."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if is_type_checking(child):
            continue
        yield child
        yield from run_at_import(child)


def sets_jax_config(node: ast.AST) -> bool:
    """`jax.config.update(...)`, `config.update(...)` or an assignment to `jax.config.x`."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("jax.config.update", "config.update")
    if isinstance(node, ast.Assign):
        return any(ast.unparse(target).startswith("jax.config.") for target in node.targets)
    return False


def is_reexport(node: ast.AST) -> bool:
    """What may stand in ufm/__init__.py: docstrings, imports from ufm, `__all__`, lazy loading."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in ("ufm", "typing", "importlib")
    if isinstance(node, ast.Import):
        return all(alias.name.split(".")[0] in ("ufm", "importlib") for alias in node.names)
    if isinstance(node, ast.Assign):
        names = [ast.unparse(target) for target in node.targets]
        return all(name.startswith("_") for name in names)
    if isinstance(node, ast.FunctionDef):  # PEP 562
        return node.name in ("__getattr__", "__dir__")
    if is_type_checking(node):
        return all(is_reexport(child) for child in ast.iter_child_nodes(node) if is_stmt(child))
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_stmt(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt)


def check_module(path: str, source: str) -> Iterator[str]:
    """Violations in one module of the package, `path` being relative to ufm/."""
    tree = ast.parse(source)
    if path == "__init__.py":
        for node in tree.body:
            if not is_reexport(node):
                yield f"line {node.lineno}: the package's __init__ only re-exports"
        return

    unit = path.split("/")[0].removesuffix(".py")
    if unit not in ALLOWED:
        yield f"{unit} has no place in the import order: give it one in LAYERS"
        return

    for node in ast.walk(tree):
        if unit != "cli" and sets_jax_config(node):
            yield f"line {node.lineno}: only the command sets JAX's configuration"
        for name in imported_names(node):
            top, *rest = name.split(".")
            if top == "":
                yield f"line {node.lineno}: relative import: write ufm.…"
            elif top in ("matplotlib", "mpl_toolkits") and unit != "report":
                yield f"line {node.lineno}: matplotlib belongs in report"
            elif top == "ufm" and unit != "cli":
                target = rest[0] if rest else "the whole package"
                if target != unit and target not in ALLOWED[unit]:
                    yield f"line {node.lineno}: {unit} must not import {target}"

    if unit == "cli":
        yield from prints_by_itself(path, tree)
        for node in run_at_import(tree):
            for name in imported_names(node):
                top, *rest = name.split(".")
                if top in SLOW or (top == "ufm" and rest[:1] not in LIGHT):
                    yield f"line {node.lineno}: import {name} inside the command that needs it"


def exported_names(source: str) -> set[str]:
    """What a package's __init__ offers: what it binds, and the keys of its table `_HOME`."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        body = node.body if isinstance(node, ast.If) else [node]
        for statement in body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in statement.names}
            elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
                names.add(statement.name)
            elif isinstance(statement, ast.Assign):
                targets = [ast.unparse(target) for target in statement.targets]
                names |= set(targets)
                if targets == ["_HOME"]:
                    names |= set(ast.literal_eval(statement.value))
    return {name for name in names if not name.startswith("_")}


def shadowed(source: str, submodules: set[str]) -> set[str]:
    """Exports with the name of a submodule: which of the two `package.name` is then depends on what
    was imported before, since importing a submodule binds its name in the package."""
    return exported_names(source) & submodules


def prints_by_itself(path: str, tree: ast.AST) -> Iterator[str]:
    """What could show text from outside as it is: all but the two modules that make it plain."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "sys.stdout.write", "sys.stderr.write") and path != PRINTS:
                yield f"line {node.lineno}: print with {PRINTS}"
        for name in imported_names(node):
            if name.startswith("rich.") and name not in RICH and path != CONSOLE:
                yield f"line {node.lineno}: {name} takes markup: use {CONSOLE}"


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_imports_run_one_way():
    modules = python_files("ufm")
    assert modules
    violations = [
        f"{path.relative_to(ROOT)}, {violation}"
        for path in modules
        for violation in check_module(
            path.relative_to(ROOT / "ufm").as_posix(), path.read_text(encoding="utf-8")
        )
    ]
    assert not violations, "\n".join(violations)


def test_no_export_has_the_name_of_a_submodule():
    packages = [path for path in python_files("ufm") if path.name == "__init__.py"]
    assert len(packages) > 5
    hidden = {
        str(path.parent.relative_to(ROOT)): names
        for path in packages
        if (
            names := shadowed(
                path.read_text(encoding="utf-8"),
                {x.stem for x in path.parent.glob("*.py")}
                | {x.parent.name for x in path.parent.glob("*/__init__.py")},
            )
        )
    }
    assert not hidden, f"rename these submodules: {hidden}"


@pytest.mark.parametrize(
    "source",
    [
        "from ufm.saddle import saddle as saddle",
        "from ufm.other import x as saddle",
        "if TYPE_CHECKING:\n    from ufm.other import saddle as saddle",
        '_HOME = {"Saddle": "ufm.saddle", "saddle": "ufm.saddle"}',
        "def saddle():\n    pass",
        "saddle = 1",
    ],
)
def test_a_hidden_submodule_is_seen(source):
    assert shadowed(source, {"saddle", "problem"}) == {"saddle"}


def test_exports_stay_what_they_are_once_all_were_used():
    script = (
        "import types, ufm\n"
        "first = [getattr(ufm, name) for name in sorted(ufm.__all__)]\n"
        "again = [getattr(ufm, name) for name in sorted(ufm.__all__)]\n"
        "assert all(x is y for x, y in zip(first, again, strict=True))\n"
        "assert not any(isinstance(x, types.ModuleType) for x in again)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_a_file_holds_one_idea():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files("ufm", "tests", "examples", "benchmarks")
        if path.relative_to(ROOT).as_posix() not in AUDITED
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long, f"longer than {MAX_LINES} lines: {long}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("__init__.py", '"""Tour."""\nfrom ufm.losses import Focal as Focal\n__all__ = ["Focal"]'),
        ("__init__.py", "def __getattr__(name):\n    return 1"),
        ("problem.py", "import jax\nfrom ufm.losses import Loss"),
        ("solvers/lbfgs.py", "import optax\nfrom ufm.solvers._loop import run"),
        ("certificate.py", "from ufm import symmetric\nfrom ufm.hessian.products.hvp import hvp"),
        ("networks/train.py", "import equinox\nfrom ufm.certificates.certificate import certify"),
        (
            "networks/train.py",
            "from ufm._support.npz import read_arrays\nfrom ufm.runs.run_folder import slug",
        ),
        ("report/plots.py", "import matplotlib.pyplot as plt\nfrom ufm.sweep import store"),
        ("cli.py", "import tyro\ndef main():\n    import jax\n    from ufm import solve"),
        ("cli/solve.py", "import tyro\nfrom ufm.cli.common import show"),
        ("cli/solve.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax"),
        ("cli.py", "def main():\n    jax.config.update('jax_enable_x64', True)"),
        ("cli/_print.py", "def say(x):\n    print(x)"),
        ("cli/_table.py", "from rich.table import Table\nfrom ufm.cli.output.console import x"),
    ],
)
def test_checker_accepts(path, source):
    assert not list(check_module(path, source))


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("__init__.py", "x = 1", "only re-exports"),
        ("__init__.py", "import jax", "only re-exports"),
        ("__init__.py", "def tour():\n    pass", "only re-exports"),
        ("losses.py", "from ufm.model.problem import Problem", "losses must not import problem"),
        ("losses.py", "import ufm", "must not import the whole package"),
        ("problem.py", "from ufm import Focal", "problem must not import Focal"),
        ("problem.py", "from .losses import Loss", "relative import"),
        (
            "solvers/lbfgs.py",
            "from ufm.certificates.certificate import certify",
            "must not import certificate",
        ),
        (
            "solvers/lbfgs.py",
            "def f():\n    import ufm.certificates.certificate",
            "must not import certificate",
        ),
        (
            "geometry.py",
            "from ufm.collapse.symmetric_solution import phi",
            "geometry must not import symmetric",
        ),
        ("hessian/dense.py", "from ufm import solvers", "hessian must not import solvers"),
        (
            "certificate.py",
            "from ufm.minimum.global_minimum import x",
            "certificate must not import minimum",
        ),
        ("networks/train.py", "from ufm.solvers import solve", "networks must not import solvers"),
        ("networks/train.py", "from ufm.family import x", "networks must not import family"),
        ("sweep/run.py", "from ufm.networks import train", "sweep must not import networks"),
        ("report/plots.py", "from ufm.networks import train", "report must not import networks"),
        ("cli/train.py", "import equinox", "inside the command"),
        ("sweep/run.py", "def f():\n    import matplotlib.pyplot", "matplotlib belongs in report"),
        ("problem.py", "import jax\njax.config.update('jax_enable_x64', True)", "configuration"),
        ("problem.py", "def f():\n    jax.config.jax_enable_x64 = True", "configuration"),
        ("cli.py", "import jax.numpy as jnp", "inside the command"),
        ("cli.py", "try:\n    from optax import adam\nexcept ImportError:\n    pass", "inside"),
        ("cli/solve.py", "from ufm.solvers import solve", "inside the command"),
        ("cli.py", "import matplotlib", "matplotlib belongs in report"),
        ("cli/solve.py", "def run():\n    print(1)", "print with cli/_print.py"),
        ("cli/solve.py", "from rich.console import Console", "takes markup"),
        ("cli/solve.py", "def f():\n    from rich.text import Text", "takes markup"),
        ("misc.py", "", "no place in the import order"),
    ],
)
def test_checker_rejects(path, source, complaint):
    violations = list(check_module(path, source))
    assert violations
    assert complaint in violations[0]
