"""Export the table of a sweep as CSV, or as Parquet with the extra `parquet`."""

import csv
import io
from pathlib import Path

from ufm._support.atomic_files import unwritable, write_whole
from ufm.sweep.store import SweepStore


def export_table(store: SweepStore, path: Path, where: str = "") -> int:
    """Write the finished cells that satisfy the condition; return their number.

    The ending of `path` decides the format: .csv, whose numbers read back to the same bits and
    whose unknown numbers are empty, or .parquet. Raises `ValueError` for another ending, if pyarrow
    is missing, or if the file cannot be written.
    """
    write = {".csv": _csv, ".parquet": _parquet}.get(path.suffix)
    if write is None:
        raise ValueError(f"{path} must end with .csv or .parquet")
    content, count = write(store, where)
    try:
        write_whole(path, content)
    except OSError as error:
        raise unwritable(path, error, "choose another FILE, or make room") from None
    return count


def _csv(store: SweepStore, where: str) -> tuple[bytes, int]:
    names, rows = store.select(where)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return buffer.getvalue().encode(), len(rows)


def _parquet(store: SweepStore, where: str) -> tuple[bytes, int]:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]  # an extra
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            "Parquet needs pyarrow: pip install 'ufm[parquet]', or export to .csv"
        ) from None
    names, rows = store.select(where)
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    table = pyarrow.table(dict(zip(names, map(list, columns), strict=True)))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue(), len(rows)
