"""Reads the log of a recording, also while somebody writes it: rows in the order in which they were appended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from ..storage.disk import DISK, Disk
from ..storage.entries import Entry
from ..storage.journal_records import GROUP, Gap, JournalRecord, walk
from ..storage.manifest import read_manifest, segment_file

CONTAINER: Final = "recording"
"""Whose records these are in the journal, and what the checkpoint in the manifest is called."""
log = logging.getLogger("penstock.recording")


class Recorded(NamedTuple):
    """Rows that were appended together."""

    position: int
    """Rises from each to the next, over all processes that ever wrote to the folder."""
    tag: str
    batch: pa.RecordBatch


def read_recording(folder: str | Path, *, after: int = 0, disk: Disk = DISK) -> Iterator[Recorded]:
    """What lies in the log behind a position, each verified; blocking, and takes no lock.

    What was acknowledged before the call comes; what is appended meanwhile may. Segments that are removed while it
    reads are passed over as expired; bytes that are damaged are told in the log of the program, and left out. Raises
    `StorageFailed` for a folder of a newer format.
    """
    root = Path(folder)
    committed = read_manifest(root, disk).committed
    dead = committed.trims.get(CONTAINER, 0)
    for number, entry in committed.segments().items():
        if entry.bytes is not None and (entry.offsets or {}).get(CONTAINER, 0) <= max(after, dead):
            continue
        for item in _segment(root, disk, number, entry):
            if isinstance(item, Gap):
                log.error(
                    "%s: %s bytes of %s from byte %s on are damaged, and the rows in them are lost",
                    root, f"{item.num_bytes:,}", segment_file(number), f"{item.offset:,}",
                )  # fmt: skip
            elif item.container == CONTAINER and item.gen > max(after, dead):
                yield Recorded(item.gen, item.key.decode(), decoded(item.payload))


def _segment(root: Path, disk: Disk, number: int, entry: Entry) -> Iterator[JournalRecord | Gap]:
    try:
        fd = disk.open(root / segment_file(number))
    except FileNotFoundError:
        if segment_file(number) in read_manifest(root, disk).committed.files:
            yield Gap(number, 0, entry.bytes or 0)
        return
    try:
        end = disk.size(fd) if entry.bytes is None else entry.bytes
        reached = 0
        for item in walk(disk, fd, number, entry.gen or 0, end):
            if isinstance(item, Gap):
                reached = item.offset + item.num_bytes
                yield item
                continue
            reached = item.end
            if item.record.kind != GROUP:
                yield item.record
        if reached < end and entry.bytes is not None:
            yield Gap(number, reached, end - reached)
    finally:
        disk.close(fd)


def encoded(batch: pa.RecordBatch, compression: str | None) -> list[pa.Buffer]:
    """Rows as bytes; a third to a tenth of their size where they are texts."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return [sink.getvalue()]


def decoded(payload: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(pa.py_buffer(payload)).read_next_batch()
