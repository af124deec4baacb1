"""Every `>>>` in a docstring of the library is run, and prints what stands below it."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ufm

FOLDER = Path(ufm.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
#: Functions of files and folders, or of minutes: shown as code that is not run.
NOT_RUN = {
    "enable_compilation_cache",
    "load_classifier",
    "load_sweep",
    "open_store",
    "run_sweep",
    "spurious_interval",
    "write_dossier",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(FOLDER.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def doctests(path: Path) -> Iterator[doctest.DocTest]:
    """Of the module, its classes and its functions, decorated or not."""
    source, parser = path.read_text("utf-8"), doctest.DocTestParser()
    # Every worker reads all files: most hold no example, and parsing is what takes time.
    tree = ast.parse(source if ">>>" in source else "")
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            line = node.body[0].lineno - 1
            found = parser.get_doctest(text, {}, path.stem, str(path), line)
            if found.examples:
                yield found


FOUND = {path: list(doctests(path)) for path in sorted(FOLDER.rglob("*.py"))}
EXAMPLES = [(path, found) for path, all_found in FOUND.items() for found in all_found]


@pytest.fixture(scope="module")
def shared():
    """What examples may use without saying so: one problem, so that few programs are compiled."""
    problem = ufm.Problem.balanced(
        loss=ufm.CrossEntropy(),
        num_classes=4,
        per_class=5,
        dim=6,
        lam_w=5e-3,
        lam_h=5e-3,
        lam_b=1e-2,
    )
    key = jax.random.key(0)
    params = ufm.init_params(problem, key)
    return {
        **{name: getattr(ufm, name) for name in ufm.__all__},
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "key": key,
        "problem": problem,
        "params": params,
        "solution": ufm.solve(problem, params),
    }


@pytest.mark.parametrize(
    ("path", "found"), EXAMPLES, ids=lambda x: module_name(x) if isinstance(x, Path) else ""
)
def test_an_example_prints_what_it_shows(path, found, shared):
    found.globs = {**vars(importlib.import_module(module_name(path))), **shared}
    said = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(found, out=said.append)
    assert result.attempted == len(found.examples)
    assert result.failed == 0, "".join(said)


def test_no_example_goes_unseen():
    for path, found in FOUND.items():
        seen = sum(len(each.examples) for each in found)
        assert path.read_text("utf-8").count(">>>") == seen, path


def test_every_public_function_has_an_example():
    run = "".join(example.source for _, found in EXAMPLES for example in found.examples)
    functions = {
        name
        for name in ufm.__all__
        if callable(getattr(ufm, name)) and not inspect.isclass(getattr(ufm, name))
    }
    assert {name for name in functions if not re.search(rf"\b{name}\(", run)} == NOT_RUN
