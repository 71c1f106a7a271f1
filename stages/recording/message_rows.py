"""The order of rows that one message brought of several instruments, which files of their own would lose."""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stages.schemas import PLACES_KEY

MESSAGE_ROW: Final = "message_row"
"""A column of rows in memory: the place among all of the message; null where all of them are of one instrument."""


def with_message_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with that column, where one of its messages has rows of several instruments; whole messages each."""
    names = batch.column("instrument_id")
    if batch.num_rows < 2 or len(names.dictionary) + bool(names.null_count) < 2:
        return batch
    seqs, codes = batch.column("ingest_seq").to_numpy(), names.indices.fill_null(-1).to_numpy()
    begins = np.append(True, seqs[1:] != seqs[:-1])
    message = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    shared = np.zeros(len(first), np.bool_)
    shared[message[codes != codes[first][message]]] = True
    if not shared.any():
        return batch
    places = (np.arange(batch.num_rows) - first[message]).astype(np.uint32)
    return batch.append_column(MESSAGE_ROW, pa.array(places, mask=~shared[message]))


class SharedMessages:
    """Rows of one file whose messages had rows of other instruments too."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
        self._places: list[np.ndarray[Any, np.dtype[np.uint32]]] = []

    def note(self, first: int, places: pa.ChunkedArray) -> None:
        """Rows that come as the file's from its row `first` on."""
        found = np.flatnonzero(places.is_valid().to_numpy())
        self._rows.append((first + found).astype(np.uint32))
        self._places.append(places.drop_null().to_numpy().astype(np.uint32))

    def told(self) -> dict[bytes, bytes]:
        """The file's metadata that tells them."""
        rows, places = np.concatenate(self._rows), np.concatenate(self._places)
        pairs = np.stack([np.diff(rows, prepend=np.uint32(0)), places]).astype(np.uint32)
        return {PLACES_KEY: b64encode(zlib.compress(pairs.tobytes()))}
