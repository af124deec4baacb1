"""Sweeps: a TOML file, a table of certified runs, and results that survive interruptions.

    sweep = load_sweep("sweeps/decays.toml")
    store = run_sweep(sweep, "ufm-results/decays")
    store.query("verdict != 'GLOBAL_MINIMUM'")

In `problems`, `config` is the schema of the file, `grid` expands it to cells, and `cell` runs one.
`runner` runs all cells (or those of another kind of sweep, see `work`); `writer`, `store` and
`index` keep the results.
"""

from ufm.sweep.export import export_table as export_table
from ufm.sweep.plan import Estimate as Estimate
from ufm.sweep.plan import Shard as Shard
from ufm.sweep.plan import estimate as estimate
from ufm.sweep.plan import parse_shard as parse_shard
from ufm.sweep.problems.cell import run_cell as run_cell
from ufm.sweep.problems.columns import COLUMNS as COLUMNS
from ufm.sweep.problems.config import SweepConfig as SweepConfig
from ufm.sweep.problems.config import read_config as read_config
from ufm.sweep.problems.grid import Cell as Cell
from ufm.sweep.problems.grid import expand as expand
from ufm.sweep.record import Record as Record
from ufm.sweep.runner import Progress as Progress
from ufm.sweep.runner import Sweep as Sweep
from ufm.sweep.runner import load_sweep as load_sweep
from ufm.sweep.runner import run_sweep as run_sweep
from ufm.sweep.store import SweepStore as SweepStore
from ufm.sweep.store import open_store as open_store
from ufm.sweep.writer import reindex as reindex
