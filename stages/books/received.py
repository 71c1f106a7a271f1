"""Book deltas as received, as compiled code reads them: rows as arrays of int64, and the groups they form."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ..schemas import CLEAR, FLAG_LAST, FLAG_SNAPSHOT
from .layout import NONE
from .shelf import Ints


class Group(msgspec.Struct, frozen=True):
    """One event group by itself, kept while a snapshot is awaited."""

    sequence: int
    first: int
    previous: int
    time: int
    recv: int
    action: np.ndarray[Any, Any]
    side: np.ndarray[Any, Any]
    price: Ints
    size: Ints

    @property
    def rows(self) -> int:
        return len(self.action)


class Received:
    """A batch of whole groups; what is null is NONE. Sequences are below 2^63.

    Raises ValueError where a group is not whole, or holds several instruments.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self.action, self.side = (_bytes(batch.column(name)) for name in ("action", "side"))
        self.price, self.size = (_units(batch.column(name), name) for name in ("price", "size"))
        self.flags = _bytes(batch.column("flags"))
        last = np.flatnonzero(self.flags.view(np.uint8) & FLAG_LAST)
        if batch.num_rows and (not len(last) or last[-1] != batch.num_rows - 1):
            raise ValueError(
                f"expected whole event groups, found {batch.num_rows} rows of which the last one lacks the flag LAST "
                f"({FLAG_LAST}); cut batches of book deltas behind a row that has it"
            )
        self.last = last
        self.starts = np.concatenate([np.zeros(1, np.int64), last + 1])
        begins = self.starts[:-1]
        codes = np.asarray(batch.column("instrument_id").indices)
        self.codes = codes[begins]
        if not np.array_equal(codes, np.repeat(self.codes, np.diff(self.starts))):
            raise ValueError("expected one instrument in each event group, found several; end each group with LAST")
        head = self.flags.view(np.uint8)[begins] & FLAG_SNAPSHOT
        self.complete = ((head != 0) | (self.action[begins] == CLEAR)).astype(np.int8)
        self.sequence, self.first, self.previous, self.time, self.recv = (
            _ints(batch.column(name))[last]
            for name in ("sequence", "first_sequence", "prev_sequence", "ts_event", "ts_recv")
        )
        checksum = batch.column("checksum") if "checksum" in batch.schema.names else None
        self.checksum = np.full(len(last), NONE, np.int64)
        if checksum is not None and checksum.null_count < batch.num_rows:
            self.checksum = _ints(checksum.cast(pa.int64()))[last]
        self.checked = (self.checksum != NONE).astype(np.int8)

    def __len__(self) -> int:
        """Groups."""
        return len(self.last)

    def group(self, at: int) -> Group:
        """One group, its rows copied."""
        rows = slice(self.starts[at], self.starts[at + 1])
        return Group(
            int(self.sequence[at]),
            int(self.first[at]),
            int(self.previous[at]),
            int(self.time[at]),
            int(self.recv[at]),
            self.action[rows].copy(),
            self.side[rows].copy(),
            self.price[rows].copy(),
            self.size[rows].copy(),
        )


def units_array(units: Ints, kind: pa.DataType, valid: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> pa.Array:
    """Decimals of this type from int64 counts of their last place, null where not `valid`."""
    values = np.ascontiguousarray(units, np.int64)
    if pa.types.is_decimal128(kind):
        values = np.stack([values, values >> 63], axis=1).reshape(-1)
    mask = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(units), [mask, pa.py_buffer(values)])


def _ints(array: pa.Array) -> Ints:
    """The int64 buffer of integers, times or decimal64; NONE where null."""
    values = np.frombuffer(array.buffers()[1], np.int64, len(array), 8 * array.offset) if len(array) else _EMPTY
    if array.null_count:
        values = np.where(np.asarray(array.is_null()), NONE, values)
    return values


def _units(array: pa.Array, name: str) -> Ints:
    """Counts of 10^-scale."""
    if not pa.types.is_decimal128(array.type):
        return _ints(array)
    pairs = np.frombuffer(array.buffers()[1], np.int64, 2 * len(array), 16 * array.offset) if len(array) else _EMPTY
    low, high = pairs[::2].copy(), pairs[1::2]
    if not np.array_equal(low >> 63, high):
        raise ValueError(
            f"{name}: expected values below 2^63 units of 10^-{array.type.scale}, which books are kept in, found a "
            "larger one; give the stream a smaller scale"
        )
    return low


def _bytes(array: pa.Array) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.frombuffer(array.buffers()[1], np.int8, len(array), array.offset) if len(array) else _NO_BYTES


_EMPTY = np.zeros(0, np.int64)
_NO_BYTES = np.zeros(0, np.int8)
