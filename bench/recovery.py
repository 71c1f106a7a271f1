"""How long a folder takes to open after a crash: a manifest of a million files, a journal of 100,000 entries."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from bench.harness import arguments, on_disk, row, show
from pipeline.storage.disk import DISK
from pipeline.storage.entries import Entry, encode_line
from pipeline.storage.executor import IoExecutor
from pipeline.storage.journal import Journal, read_journal
from pipeline.storage.journal_records import survey
from pipeline.storage.log import SegmentLog
from pipeline.storage.manifest import Committed, encode_commit, manifest_name, read_manifest
from pipeline.storage.root import StorageRoot
from pipeline.storage.segments import Record


def manifest(folder: Path, files: int, lines: int) -> None:
    """A snapshot of so many files, and lines behind it, each a commit."""
    committed = Committed(epoch=1)
    for number in range(files):
        entry = added(number)
        committed.files[str(entry.file)] = entry
    pieces = [encode_line(committed.snapshot())]
    committed.seq = 1
    for number in range(files, files + lines):
        own, raw = encode_commit([added(number)], committed, committed.seq)
        committed.seq = own[0].seq
        pieces.append(raw)
    folder.mkdir()
    (folder / manifest_name(1)).write_bytes(b"".join(pieces))


def added(number: int) -> Entry:
    return Entry(
        kind="add", container="trades", file=f"data/{number:07d}.parquet", bytes=400_000, rows=10_000,
        xxh3=f"{number:016x}",
    )  # fmt: skip


async def journal(folder: Path, entries: int) -> None:
    """A journal that nobody closed."""
    root, io = StorageRoot.open(folder), IoExecutor()
    log = Journal(root, io)
    for gen in range(1, entries + 1):
        log.append(f"c{gen % 100}", 1, b"key %d" % gen, gen, lambda: [b"x" * 200], "process")
        if gen % 1000 == 0:
            await log.mark()
    await io.submit(io, log._writer.close)
    await io.close()
    root.close()


async def spilled(folder: Path, entries: int) -> None:
    """What a dead process has spilled."""
    root, io = StorageRoot.open(folder), IoExecutor()
    log = SegmentLog(root.spill, io)
    for start in range(0, entries, 1000):
        records = [Record(1, 0, b"key %d" % gen, gen, [b"x" * 2000]) for gen in range(start, start + 1000)]
        await log.append(log, lambda records=records: records)  # type: ignore[misc]
    await io.close()
    root.close()


def timed(call: Any) -> float:
    """Processor time: everything here is in the page cache, and a busy machine hits it less."""
    began = time.process_time()
    call()
    return time.process_time() - began


def opened(folder: Path) -> None:
    StorageRoot.open(folder).close()


def surveyed(folder: Path) -> None:
    path = folder / "wal" / "000001.seg"
    fd = DISK.open(path)
    assert survey(DISK, fd, 1, 1, DISK.size(fd)).records
    DISK.close(fd)


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    scale = 10 if options.quick else 1
    rounds = options.rounds or (2 if options.quick else 5)
    files, lines, entries = 1_000_000 // scale, 9_999, 100_000 // scale
    with on_disk() as folder:
        manifest(folder / "snap", files, 0)
        manifest(folder / "lines", 0, lines)
        asyncio.run(journal(folder / "journal", entries))
        asyncio.run(spilled(folder / "spilled", entries))
        read = [timed(lambda: read_manifest(folder / "snap")) for _ in range(rounds)]
        short = [timed(lambda: read_manifest(folder / "lines")) for _ in range(rounds * 3)]
        scanned = [timed(lambda: surveyed(folder / "journal")) for _ in range(rounds)]
        first = timed(lambda: opened(folder / "journal"))
        replayed = [timed(lambda: sum(1 for _ in read_journal(folder / "journal/wal"))) for _ in range(rounds)]
        gone = timed(lambda: opened(folder / "spilled"))
    figures = [
        {**row(f"manifest of {files:,} files", [files / spent / 1e6 for spent in read], "M/s"), "target": ">= 1 M/s"},
        row(f"manifest of {lines:,} lines", [spent * 1e3 for spent in short], "ms"),
        row(f"scan of a journal of {entries:,} entries", scanned, "s"),
        {**row("the same, opening its folder after a crash", [first], "s"), "target": "< 0.5 s"},
        {**row("the same, read back", replayed, "s"), "target": "< 0.5 s"},
        {**row(f"opening a folder with {entries:,} spilled values", [gone], "s"), "target": "< 0.5 s"},
    ]
    return show("opening a folder after a crash", figures)


if __name__ == "__main__":
    main()
