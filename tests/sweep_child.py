"""What a process of test_sweep_kill.py does: a sweep whose cells are solved, or stand-ins."""

import time
from multiprocessing.connection import Connection
from pathlib import Path

import jax
import numpy as np

import sweeps  # noqa: F401  # the sizes of batches do not hang on the machine
from ufm.sweep import COLUMNS, Cell, Record, load_sweep, run_sweep
from ufm.sweep.problems.cell import Solving


def run(file: Path, out: Path, cells: str, telling: Connection) -> None:
    jax.config.update("jax_enable_x64", True)
    if cells == "stand-in":
        Solving.run, Solving.prepare = stand_ins, lambda self, cell: None
    run_sweep(
        load_sweep(file),
        out,
        batch_seconds=0.05,
        on_progress=lambda state: telling.send(state.done),
    )


def stand_ins(self: Solving, cells: list[Cell]) -> list[Record]:
    return [stand_in(cell) for cell in cells]


def stand_in(cell: Cell) -> Record:
    begun = time.perf_counter()
    time.sleep(0.004)
    row = {name: "x" if kind == "text" else cell.index for name, kind in COLUMNS.items()}
    row["value"] = np.random.default_rng(cell.index).normal()
    row["seconds"] = time.perf_counter() - begun
    return Record(row, {"history_value": np.arange(cell.index % 5) + 0.5})
