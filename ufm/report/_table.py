"""Plotted data as a table: named columns of one length, written as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Column name → values; a scalar fills its column.
Table = Mapping[str, Any]


def to_csv(tables: Sequence[Table]) -> str:
    """Write tables with the same columns below each other, under one header.

    Numbers are written with enough digits to recover the same bits.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(tables[0])
    for table in tables:
        columns = np.broadcast_arrays(*(np.asarray(column) for column in table.values()))
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    return buffer.getvalue()
