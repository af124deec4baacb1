"""Run the examples for the site, each that has changed since its last run.

    python docs/hooks/examples.py                 # all of them, as the tutorials show them
    python docs/hooks/examples.py --quick 01      # some, on small problems

What one prints goes to .cache/docs/NAME/output.txt (or a folder of `UFM_DOCS_OUTPUTS`), its
pictures beside it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = Path(os.environ.get("UFM_DOCS_OUTPUTS", ROOT / ".cache" / "docs"))


def run(path: Path, options: list[str], folder: Path) -> None:
    """Run one example, unless the folder has what this version of it printed."""
    output = folder / "output.txt"
    if output.is_file() and output.stat().st_mtime > path.stat().st_mtime:
        return
    print(f"running {path.name}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        draws = '"--figure"' in path.read_text(encoding="utf-8")
        place = ["--figure", "figure.png"] if draws else ["--out", "out"]
        ran = subprocess.run(
            [sys.executable, str(path), *options, *place],
            cwd=scratch,
            env=os.environ | {"MPLBACKEND": "Agg", "COLUMNS": "88"},
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise SystemExit(f"{path.name} failed:\n{ran.stdout}{ran.stderr}")
        folder.mkdir(parents=True, exist_ok=True)
        for picture in Path(scratch).rglob("*.png"):
            shutil.copy(picture, folder)
    output.write_text(ran.stdout, encoding="utf-8")


if __name__ == "__main__":
    wanted = [argument for argument in sys.argv[1:] if argument != "--quick"]
    options = ["--quick"] if "--quick" in sys.argv else []
    for path in sorted((ROOT / "examples").glob("[0-9]*.py")):
        if not wanted or path.stem[:2] in wanted:
            run(path, options, OUTPUTS / path.stem)
