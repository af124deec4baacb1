"""What is published works where nothing but it and its dependencies is installed."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

# The first test pays for all: an idle core takes half a minute, a busy machine many.
pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    # No PYTHONPATH: the sources must not stand in for the wheel.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(next(folder.glob("ufm-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def installed(sources, tmp_path_factory) -> Path:
    """An environment with the wheel that the sdist builds, and with ufm's dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=sources)
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    wheel = next(folder.glob("ufm-*.whl"))
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # The dependencies are borrowed; a path file itself is not followed from there, so that ufm's
    # editable installation is left behind.
    (own,) = (folder / "venv").glob("lib/python*/site-packages")
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_sdist_has_what_its_tests_read(sources):
    for name in ("tests/import_order.py", "mkdocs.yml", "README.md", "LICENSE", "Makefile"):
        assert (sources / name).is_file()
    tracked = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py")}
    assert {path for path in tracked if not (sources / path).is_file()} == set()


def test_the_wheel_is_what_runs(installed):
    python = installed / "venv" / "bin" / "python"
    where = run(python, "-c", "import ufm; print(ufm.__file__, ufm.__version__)", cwd=installed)
    file, version = where.split()
    assert Path(file).is_relative_to(installed / "venv")
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    # A file from outside the package, which the wheel takes in.
    assert "@misc{ufm," in run(installed / "venv" / "bin" / "ufm", "cite", cwd=installed)


def test_the_command_solves(installed):
    command = installed / "venv" / "bin" / "ufm"
    printed = run(command, "solve", "--starts", "1", "--out", "run", cwd=installed)
    assert "4 of 4 runs ended at a proven global minimum" in printed


def test_the_snippet_of_the_readme_runs(installed):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = run(installed / "venv" / "bin" / "python", "-c", snippet, cwd=installed)
    assert "GLOBAL_MINIMUM" in printed
    value, nc2 = map(float, printed.split()[-2:])
    # The closed form: f* of label smoothing with α = 0.1 is held to 50 digits elsewhere.
    assert 0 < value < 2.3026
    assert nc2 < 1e-6
