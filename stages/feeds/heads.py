"""Heads of files of book deltas say what a book was before them: needed to begin there, and silent otherwise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stages.schemas import KEYFRAME


class Heads:
    """Tells the heads of files of book deltas, from which reading may begin, from what was published."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def silent(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch without the heads of books that are known."""
        names = batch.column("instrument_id")
        sources = batch.column("source_id")
        words = sources.dictionary.to_pylist()
        told = names.dictionary.to_pylist()
        if KEYFRAME not in words:
            self._known.update(told)
            return batch
        codes = names.indices.to_numpy()
        head = sources.indices.to_numpy() == words.index(KEYFRAME)
        keep = ~head
        for code in np.unique(codes).tolist():
            rows = np.flatnonzero(codes == code)
            updates = np.flatnonzero(~head[rows])
            if told[code] not in self._known:
                keep[rows[: updates[0] if len(updates) else len(rows)]] = True
            if len(updates):
                self._known.add(told[code])
        return batch if keep.all() else batch.filter(pa.array(keep))
