"""The shape of the package, read from its sources: who may import whom, and how long a file is."""

import ast
import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from import_order import INSIDE, ORDER, ROOT, check_module, is_module

MAX_LINES = 350
#: What strangers audit, alone and from top to bottom: one check a function, however many lines.
AUDITED = ("ufm/last_layer/dossier/verify.py",)


def exported_names(source: str) -> set[str]:
    """What a package's __init__, or its stub, offers: what it binds."""
    names: set[str] = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in statement.names}
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names |= {ast.unparse(target) for target in statement.targets}
    return {name for name in names if not name.startswith("_")}


def shadowed(source: str, submodules: set[str]) -> set[str]:
    """Exports with the name of a submodule: which of the two `package.name` is then depends on what
    was imported before, since importing a submodule binds its name in the package."""
    return exported_names(source) & submodules


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
    packages = [stub if (stub := path.with_suffix(".pyi")).is_file() else path for path in packages]
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


@pytest.mark.parametrize("package", ["ufm", "ufm.hessian", "ufm.report"])
def test_a_lazy_package_offers_what_its_stub_lists(package):
    (stub,) = ROOT.glob(f"{package.replace('.', '/')}/__init__.pyi")
    listed = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    module = importlib.import_module(package)
    assert sorted(listed) == dir(module)
    assert set(module.__all__) == {name for name in listed if not name.startswith("_")}
    for name, home in listed.items():
        folder, _, own = home.rpartition(".")
        assert own == name
        assert getattr(module, name) is getattr(importlib.import_module(folder), name)
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018  # looking is what is tested


def test_the_package_is_imported_from_a_zip_file_and_without_jax(tmp_path):
    with zipfile.ZipFile(tmp_path / "ufm.zip", "w") as archive:
        for path in (ROOT / "ufm").rglob("*.py*"):
            if path.suffix in (".py", ".pyi"):
                archive.write(path, path.relative_to(ROOT))
    script = (
        "import sys, ufm\n"
        "assert 'ufm.zip' in ufm.__file__ and 'Problem' in dir(ufm)\n"
        "assert not {'jax', 'numpy', 'matplotlib', 'typing'} & set(sys.modules)\n"
        "print(ufm.Focal(2.0))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "ufm.zip")}
    command = [
        sys.executable,
        "-S",
        "-c",
        script.replace("print", "import site; site.main(); print"),
    ]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Focal(")


def test_a_file_holds_one_idea():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files("ufm", "tests", "examples", "benchmarks")
        if path.relative_to(ROOT).as_posix() not in AUDITED
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long, f"longer than {MAX_LINES} lines: {long}"


def test_every_example_is_run():
    stems = {path.stem for path in (ROOT / "examples").glob("*.py")}
    tests = {path.stem for path in (ROOT / "tests" / "examples").glob("*.py")}
    assert tests == {f"test_{stem}" for stem in stems}


def test_every_folder_says_what_it_is():
    folders = {path.parent for path in python_files("ufm")}
    assert len(folders) > len(ORDER)
    silent = [
        str(folder.relative_to(ROOT))
        for folder in folders
        if not (folder / "__init__.py").is_file()
        or not ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    ]
    assert not silent


def test_the_order_and_the_layers_name_what_is_there():
    assert sorted(ORDER) == sorted(subfolders(ROOT / "ufm"))
    ghosts = [
        f"{folder}/{name}"
        for folder, layers in INSIDE.items()
        for layer in layers
        for name in layer
        if not is_module(folder, name)
    ]
    assert not ghosts


def test_the_tree_of_contributing_is_the_package_in_import_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.partition("## Layout")[2].partition("```")[2].partition("```")[0]
    rows = [line.split() for line in tree.splitlines() if re.match(r"ufm/\w+/ ", line)]
    listed = {row[0].split("/")[1]: {word.strip(",;()") for word in row[1:]} for row in rows}
    assert tuple(listed) == ORDER
    for folder, words in listed.items():
        named = {word.removesuffix("/") for word in words if word.endswith("/")}
        assert named == subfolders(ROOT / "ufm" / folder), folder


def subfolders(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/*.py")}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("__init__.py", '"""Tour."""\nfrom ufm._support.exports import lazy_exports'),
        ("__init__.py", "__getattr__, __dir__, __all__ = lazy_exports(__name__)"),
        ("model/problem.py", "import jax\nfrom ufm.losses import Loss"),
        ("model/problem.py", "from ufm.model.params import Params"),
        ("solvers/lbfgs.py", "import optax\nfrom ufm.solvers._loop import run"),
        ("solvers/__init__.py", "from ufm.solvers._solution import Status as Status"),
        (
            "certificates/certificate.py",
            "from ufm.collapse import origin\nfrom ufm.hessian.products.hvp import hvp",
        ),
        ("hessian/structured/collapsed.py", "from ufm.hessian.counts.inertia import inertia"),
        ("networks/training/run.py", "from ufm.networks.measures.evaluation import LastLayer"),
        (
            "networks/sweeps/cell.py",
            "import equinox\nfrom ufm.certificates.certificate import certify",
        ),
        (
            "networks/training/checkpoint.py",
            "from ufm._support.npz import read_arrays\nfrom ufm.runs.run_folder import slug",
        ),
        ("report/sweep/page.py", "import matplotlib.pyplot as plt\nfrom ufm.sweep import store"),
        ("cli/__init__.py", "import tyro\ndef main():\n    import jax\n    from ufm import solve"),
        ("cli/solve.py", "import tyro\nfrom ufm.cli.output.print import tell"),
        ("cli/solve.py", "from ufm._support.text import command"),
        ("cli/solve.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax"),
        ("cli/parsing/jax.py", "def configure():\n    jax.config.update('jax_enable_x64', True)"),
        ("cli/output/print.py", "def say(x):\n    print(x)"),
        (
            "cli/output/table.py",
            "from rich.table import Table\nfrom ufm.cli.output.console import x",
        ),
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
        (
            "losses/_base.py",
            "from ufm.model.problem import Problem",
            "losses must not import model.problem",
        ),
        ("losses/_base.py", "import ufm", "must not import the whole package"),
        ("model/problem.py", "from ufm import Focal", "model must not import Focal"),
        ("model/problem.py", "from ..losses import Loss", "relative import"),
        (
            "model/params.py",
            "from ufm.model.problem import x",
            "model/params must not import problem",
        ),
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
        ("solvers/newton.py", "from ufm.collapse.origin import origin", "must not import collapse"),
        (
            "collapse/metrics.py",
            "from ufm.collapse.symmetric_solution import phi",
            "collapse/metrics must not import symmetric_solution",
        ),
        (
            "hessian/products/dense.py",
            "from ufm import solvers",
            "hessian must not import solvers",
        ),
        (
            "hessian/products/dense.py",
            "from ufm.hessian.krylov.lanczos import x",
            "hessian/products must not import krylov",
        ),
        (
            "hessian/counts/arrow.py",
            "from ufm.hessian.krylov import lanczos",
            "must not import krylov",
        ),
        (
            "certificates/certificate.py",
            "from ufm.minimum.global_minimum import x",
            "certificates must not import minimum",
        ),
        (
            "networks/training/training.py",
            "from ufm.solvers import solve",
            "networks must not import solvers",
        ),
        (
            "networks/sweeps/cell.py",
            "from ufm.certificates import escape",
            "networks must not import certificates.escape",
        ),
        (
            "networks/models/mlp.py",
            "from ufm.networks.training.run import Run",
            "networks/models must not import training",
        ),
        ("sweep/runner.py", "from ufm.networks import train", "sweep must not import networks"),
        ("sweep/store.py", "from ufm.sweep.runner import run_sweep", "must not import runner"),
        (
            "report/networks/page.py",
            "from ufm.networks import train",
            "report must not import networks",
        ),
        ("report/runs/gram.py", "from ufm.report.sweep import page", "runs must not import sweep"),
        ("cli/train.py", "import equinox", "inside the command"),
        (
            "cli/output/table.py",
            "from ufm.cli.solve import Solve",
            "cli/output must not import solve",
        ),
        (
            "sweep/runner.py",
            "def f():\n    import matplotlib.pyplot",
            "matplotlib belongs in report",
        ),
        (
            "model/problem.py",
            "import jax\njax.config.update('jax_enable_x64', True)",
            "configuration",
        ),
        ("model/problem.py", "def f():\n    jax.config.jax_enable_x64 = True", "configuration"),
        ("cli/solve.py", "import jax.numpy as jnp", "inside the command"),
        (
            "cli/solve.py",
            "try:\n    from optax import adam\nexcept ImportError:\n    pass",
            "inside",
        ),
        ("cli/solve.py", "from ufm.solvers import solve", "inside the command"),
        ("cli/solve.py", "from ufm._support.npz import read_arrays", "inside the command"),
        ("cli/solve.py", "import matplotlib", "matplotlib belongs in report"),
        ("cli/solve.py", "def run():\n    print(1)", "print with cli/output/print.py"),
        ("cli/solve.py", "from rich.console import Console", "takes markup"),
        ("cli/solve.py", "def f():\n    from rich.text import Text", "takes markup"),
        ("misc.py", "", "no place in the import order"),
    ],
)
def test_checker_rejects(path, source, complaint):
    violations = list(check_module(path, source))
    assert violations
    assert complaint in violations[0]
