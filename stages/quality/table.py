"""Quality events counted by instrument and window of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from stages.schemas import HOLES, NOBODY, QUALITY_KINDS


def count_events(events: pa.Table, every_ns: int | None = None) -> pa.Table:
    """One row for each instrument, or for each of its windows of `every_ns` in which something was wrong.

    `missing` are updates or trades that never came, `missing_seconds` the time of holes; kinds that did not occur have
    no column. Windows are of `ts_recv`, aligned to 1970; holes count in the window they end in.
    """
    names = [name if name is not None else NOBODY for name in events.column("instrument_id").to_pylist()]
    stamps = _ns(events.column("ts_recv"))
    starts, ends = (_ns(events.column(name), -1) for name in ("gap_start", "gap_end"))
    kinds = events.column("kind").to_pylist()
    missing = events.column("missing").fill_null(0).to_pylist()
    windows = [None] * len(names) if every_ns is None else (stamps // every_ns * every_ns).tolist()
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place, key in enumerate(zip(names, windows, strict=True)):
        cell = cells.setdefault(key, {"missing": 0, "hole_ns": 0})
        cell[kinds[place]] = cell.get(kinds[place], 0) + 1
        cell["missing"] += missing[place]
        if kinds[place] in HOLES and starts[place] >= 0 and ends[place] >= 0:
            cell["hole_ns"] += int(ends[place] - starts[place])
    order = sorted(cells, key=lambda key: (key[0] == NOBODY, key[0], key[1] or 0))
    found = [kind for kind in QUALITY_KINDS if any(kind in cell for cell in cells.values())]
    columns: dict[str, pa.Array] = {"instrument": pa.array([key[0] for key in order], pa.utf8())}
    if every_ns is not None:
        columns["from"] = pa.array([key[1] for key in order], pa.timestamp("ns", tz="UTC"))
    for kind in found:
        columns[kind] = pa.array([cells[key].get(kind, 0) for key in order], pa.int64())
    columns["missing"] = pa.array([cells[key]["missing"] for key in order], pa.int64())
    columns["missing_seconds"] = pa.array([cells[key]["hole_ns"] / 1e9 for key in order], pa.float64())
    return pa.table(columns)


def _ns(column: pa.ChunkedArray, null: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    whole = column.combine_chunks().cast(pa.timestamp("ns", tz="UTC")).view(pa.int64()).fill_null(null)
    stamps: np.ndarray[Any, np.dtype[np.int64]] = whole.to_numpy(zero_copy_only=False)
    return stamps
