"""The output of `ufm store query`: the cells, with the columns that distinguish them first."""

from collections.abc import Sequence
from typing import Any

from ufm.cli.output.console import plain_table
from ufm.cli.output.console import show as show_table
from ufm.cli.output.print import say

#: Columns that are always printed; columns of the problem only if they differ between cells.
_ALWAYS = (
    "cell", "loss", "verdict", "reason", "value", "gap", "grad_norm", "train_accuracy",
    "test_accuracy", "nc1", "nc2", "steps",
)  # fmt: skip
_WHERE_DIFFERENT = (
    "num_classes", "dim", "class_counts", "lam_w", "lam_h", "lam_b", "method", "start_scale",
    "data", "per_class", "model", "width", "depth", "norm", "epochs", "learning_rate", "seed",
    "start", "status",
)  # fmt: skip
_MOST = 50


def show_cells(cells: Sequence[dict[str, Any]]) -> None:
    """Print at most fifty rows, and the number of all rows."""
    if cells:
        known = [name for name in _ALWAYS if name in cells[0]]
        different = [
            name
            for name in _WHERE_DIFFERENT
            if name in cells[0] and len({cell[name] for cell in cells}) > 1
        ]
        names = [*known[:2], *different, *known[2:]]
        table = plain_table(names)
        for name, column in zip(names, table.columns, strict=True):
            column.justify = "left" if isinstance(cells[0][name], str) else "right"
        for cell in cells[:_MOST]:
            table.add_row(*(_shown(cell[name]) for name in names))
        show_table(table)
    rest = f"; the first {_MOST} are shown, see --json or ufm store export" * (len(cells) > _MOST)
    say(f"{len(cells):,} cells{rest}")


def _shown(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
