"""The latest row of each key, which is what an edge that conflates keeps."""

from __future__ import annotations

import numpy as np

from ..frames import Batch


def latest_rows(batch: Batch, key: str, seen: set[object]) -> tuple[Batch, int]:
    """The rows whose key is not in `seen`, only the last of each key; adds the keys to `seen`. Also how many went."""
    if batch.is_rows:
        rows = list(batch.rows)
        keep = _last_of_each([getattr(row, key) for row in rows], seen)
        kept = Batch(None, [rows[i] for i in keep], source=batch.source, first_seq=batch.first_seq)
    else:
        keep = _last_of_each(batch.columns.column(key).to_pylist(), seen)
        kept = Batch(batch.columns.take(np.array(keep, dtype=np.int64)), source=batch.source, first_seq=batch.first_seq)
    return (batch, 0) if len(keep) == batch.num_rows else (kept, batch.num_rows - len(keep))


def _last_of_each(keys: list[object], seen: set[object]) -> list[int]:
    keep = []
    for i in range(len(keys) - 1, -1, -1):
        if keys[i] not in seen:
            seen.add(keys[i])
            keep.append(i)
    keep.reverse()
    return keep
