"""A sweep from a file: thousands of certified runs, a table to ask, and a page to send.

The paper's claim for four losses over ten by ten decays, ten random starts each: 4,000 runs. What
an interruption leaves is gone on with by the same command.

    python examples/06_sweep.py            # sweeps/every-loss.toml
    python examples/06_sweep.py --quick    # the same for one loss on a small problem, in seconds
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import ufm
from ufm.report import render_sweep
from ufm.sweep import Progress

FILE = Path(__file__).resolve().parent.parent / "sweeps" / "every-loss.toml"
#: What --quick changes in the file.
SMALLER = {
    '"ce", "ls:0.1", "fl:3", "mse"': '"ce"',
    "num_classes = 10": "num_classes = 4",
    "per_class = 100": "per_class = 5",
    "dim = 16": "dim = 6",
    "to = 1e-1, num = 10": "to = 1.0, num = 4",
    "count = 10": "count = 2",
    "4,000 runs": "a small problem",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A sweep: run, ask, report.")
    parser.add_argument("--quick", action="store_true", help="a small problem")
    parser.add_argument("--out", type=Path, default=Path("ufm-results/example-06"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # certificates need double precision

    # 1. A sweep is a file; every range in it multiplies the cells.
    file = smaller(options.out.with_suffix(".toml")) if options.quick else FILE
    sweep = ufm.load_sweep(file)
    programs = {cell.program for cell in sweep.cells}
    print(f"cells: {len(sweep.cells)}, compilations: {len(programs)}")

    # 2. Run what the folder does not have yet.
    store = ufm.run_sweep(sweep, options.out, on_progress=show)
    table = store.table()
    proven = np.sum(table["verdict"] == "GLOBAL_MINIMUM")
    print(f"{proven} of {len(sweep.cells)} runs ended at a proven global minimum")
    print(f"largest certified gap {table['gap'].max():.1e}")

    # 3. Ask it. Beyond the threshold the minimum is the origin.
    fell_short = store.query("verdict != 'GLOBAL_MINIMUM' OR matches = 0")
    print(f"{len(fell_short)} runs fell short")
    beyond = store.query("mu >= threshold")
    largest = max(cell["norm_w"] for cell in beyond)
    print(f"{len(beyond)} runs beyond the threshold, where the largest |W| is {largest:.1e}")

    # 4. Send it: one file that loads nothing from anywhere.
    page = options.out / "report.html"
    page.write_text(render_sweep(store), encoding="utf-8")
    print(f"saved {page}")


def smaller(path: Path) -> Path:
    """The same sweep on a small problem."""
    text = FILE.read_text(encoding="utf-8")
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def show(progress: Progress) -> None:
    """Every batch on the same line."""
    print(f"\r{progress.before + progress.done} of {progress.total}", end="\n" * is_last(progress))


def is_last(progress: Progress) -> bool:
    return progress.before + progress.done == progress.total


if __name__ == "__main__":
    main()
