"""Reads the files of one source one after the other: runs of its messages, at times that never step back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from ..message import MessageKind
from .counts import CaptureCounts, Note
from .format import ASIDE, UNREADABLE, CodeOf, Codes, Format, Headers, Kinds, Reader
from .lines import BLOCK_BYTES, Block, Int64s, blocks
from .unpacked import unpacked

NO_MESSAGE = "a line that is no message of the format"
TOO_LONG = "a line that is too long"
CUT_SHORT = "a last line that is cut short"
DAMAGED = "a file that cannot be unpacked to its end"
EARLIEST, LATEST = 946_684_800_000_000_000, 4_102_444_800_000_000_000
"""What is no time of a message: before 2000, or after 2099. Once raised to it, time would stand still."""


@dataclass(frozen=True)
class Piece:
    """Messages of one source, in order received."""

    ts_recv: Int64s
    kind: Kinds
    url_code: Codes
    payload: pa.LargeBinaryArray
    source_code: int

    def __len__(self) -> int:
        return len(self.ts_recv)

    def part(self, start: int, stop: int) -> Piece:
        if start == 0 and stop == len(self):
            return self
        cut = slice(start, stop)
        return replace(
            self,
            ts_recv=self.ts_recv[cut],
            kind=self.kind[cut],
            url_code=self.url_code[cut],
            payload=self.payload.slice(start, stop - start),
        )


@dataclass(frozen=True)
class Source:
    """What one connection, or one recorder, received: its files, in order, are one recording."""

    name: str
    format: Format
    files: tuple[Path, ...]
    begins_ns: int
    """The first time in them."""

    def pieces(
        self, code: int, code_of: CodeOf, counts: CaptureCounts, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[Piece]:
        """All its messages, a block of text at a time.

        A line that cannot be read is told, and passed on as received, at the time of the message in front of it: what
        interprets messages tells it in its place. The last line of a file is left out if it is cut short.
        """
        reader = self.format.reader(self.files[0].name, code_of)
        newest = self.begins_ns
        for file in self.files:
            for block, headers in _read(file, reader, counts, block_bytes):
                if piece := _piece(file, block, headers, newest, code, counts):
                    newest = int(piece.ts_recv[-1])
                    yield piece


def begins_ns(file: Path, format: Format) -> int | None:
    """The first time in a file, None where there is none; reads no further than that."""
    for _, headers in _read(file, format.reader(file.name, lambda url: 0), CaptureCounts(), 1 << 16):
        if (readable := headers.kind >= 0).any():
            return int(headers.ts_recv[np.argmax(readable)])
    return None


def _read(file: Path, reader: Reader, counts: CaptureCounts, block_bytes: int) -> Iterator[tuple[Block, Headers]]:
    damage: list[str] = []
    pieces = unpacked(file, block_bytes, damage.append)
    for block in blocks(pieces, lambda number, line: counts.note(Note(file, number, TOO_LONG, raw=line))):
        headers = reader.headers(block)
        headers.kind[(headers.kind >= 0) & ((headers.ts_recv < EARLIEST) | (headers.ts_recv >= LATEST))] = UNREADABLE
        if not block.ended and not _whole(block, headers, bool(damage)):
            counts.note(Note(file, int(block.numbers[-1]), CUT_SHORT, raw=block.line(len(block) - 1)))
            headers.kind[-1] = ASIDE
        yield block, headers
    for reason in damage:
        counts.note(Note(file, 0, DAMAGED, reason))


def _whole(block: Block, headers: Headers, damaged: bool) -> bool:
    """Whether a last line without a line end is all there: a whole JSON value, or something that is none."""
    payload = block.data[int(headers.payload_at[-1]) : int(block.ends[-1])]
    if headers.kind[-1] == UNREADABLE or not (payload or headers.kind[-1] == MessageKind.OPENED):
        return False
    if headers.kind[-1] == ASIDE or not payload.lstrip().startswith((b"{", b"[")):
        return not damaged
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):  # no JSON, no text, nested too deeply
        return False
    return True


def _piece(file: Path, block: Block, headers: Headers, newest: int, code: int, counts: CaptureCounts) -> Piece | None:
    kind, payload_at = headers.kind, np.minimum(headers.payload_at, block.ends)
    ts_recv, wrong, kept = headers.ts_recv, kind == UNREADABLE, kind != ASIDE
    if not kept.all():
        for at in np.flatnonzero(~kept).tolist():
            line = block.line(at)
            if line.startswith(b"configuration: "):
                counts.configurations[file.name] = line.partition(b": ")[2].decode("utf-8", "replace")
    payload_at = np.where(kind < 0, block.starts, payload_at)
    if wrong.any():
        for at in np.flatnonzero(wrong).tolist():
            counts.note(Note(file, int(block.numbers[at]), NO_MESSAGE, raw=block.line(at)))
        kind = np.where(wrong, np.int8(MessageKind.RECEIVED), kind)
        ts_recv = np.where(wrong, np.int64(newest), ts_recv)  # at least; raised to what came in front
    payload = _payloads(block, payload_at)
    url_code = headers.url_code
    if not kept.all():
        ts_recv, kind, url_code, wrong = ts_recv[kept], kind[kept], url_code[kept], wrong[kept]
        payload = _taken(payload, np.flatnonzero(kept))
    if not len(ts_recv):
        return None
    highest = np.maximum.accumulate(np.maximum(ts_recv, newest))
    if (back := (ts_recv < highest) & ~wrong).any():
        line_numbers = block.numbers[kept]
        counts.step_back(file, int(line_numbers[np.argmax(back)]), int(np.count_nonzero(back)))
    return Piece(highest, kind, url_code, payload, code)


def _payloads(block: Block, payload_at: Int64s) -> pa.LargeBinaryArray:
    """The messages of a block, joined, without what is between them."""
    between = np.empty(2 * len(block) + 1, np.int64)
    between[0] = 0
    between[1::2] = payload_at
    between[2::2] = block.ends
    all_parts = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 2 * len(block), [None, pa.py_buffer(between), pa.py_buffer(block.data)]
    )
    return _taken(all_parts, np.arange(1, 2 * len(block), 2, dtype=np.int64))


def _taken(payload: pa.LargeBinaryArray, places: Int64s) -> pa.LargeBinaryArray:
    """Arrow is given the places as they lie in memory: to convert an array it would import pandas."""
    return payload.take(pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)]))
