"""Small sweeps that the tests share, on the shape that other tests compile too."""

from pathlib import Path

import numpy as np

from ufm.sweep import COLUMNS, Sweep, load_sweep, open_store, run_sweep, runner
from ufm.sweep.problems.cell import Solving

# So many cells are in a batch at least: eight cells are several batches, whatever the machine.
runner.num_workers = lambda: 2

SIZES = "num_classes = 4\nper_class = 5\ndim = 6\n"
#: Eight cells of one program; the largest decays are beyond the collapse threshold 1/(4√5) ≈ 0.112.
TINY = f"""
title = "tiny"
loss = ["ce"]
[problem]
{SIZES}
lam_w = [1e-3, 0.5]
lam_h = [1e-2, 0.5]
[start]
count = 2
"""


def written(folder: Path, text: str = TINY, name: str = "tiny.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str = TINY) -> Sweep:
    return load_sweep(written(folder, text))


#: What may differ between two runs of one cell.
TIMES = ("seconds",)


def finished_store(folder: Path) -> tuple[Sweep, Path]:
    """A sweep and its store, in batches of as many cells as there are cores."""
    sweep = loaded(folder)
    run_sweep(sweep, folder / "out", batch_seconds=0.0)
    return sweep, folder / "out"


def go_on(sweep: Sweep, out: Path, **options) -> tuple[list[int], list[str]]:
    """Run; the cells computed and the notes told."""
    computed, notes = [], []
    real = Solving.run

    def counting(self, cells):
        computed.extend(cell.index for cell in cells)
        return real(self, cells)

    Solving.run = counting
    try:
        run_sweep(sweep, out, on_progress=lambda state: notes.extend(state.notes), **options)
    finally:
        Solving.run = real
    return sorted(computed), notes


def check_same(out: Path, other: Path) -> None:
    first, second = open_store(out).table(), open_store(other).table()
    for name in set(COLUMNS) - set(TIMES):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def batches(out: Path) -> list[Path]:
    return sorted((out / "batches").glob("*.npz"))
