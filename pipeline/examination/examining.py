"""Reads one file of a folder from end to end and says what of it is not as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..storage.disk import DISK, open_regular
from ..storage.entries import Entry
from ..storage.holder import is_held
from ..storage.journal_records import GROUP, Gap, survey, walk
from ..storage.manifest import CHECKPOINTS, Committed, segment_number
from ..storage.publish import digest_file
from ..storage.segments import HEAD_BYTES, HEADER, MAGIC, record_bytes, scan
from .places import lies_in
from .verified import Bad, Progress, Verified

_CHUNK: Final = 1 << 20
_BATCH_ROWS: Final = 16_384
_MAGIC: Final = MAGIC.to_bytes(4, "little")


def examine(root: Path, entry: Entry, committed: Committed, seen: Verified, progress: Progress) -> Bad | None:
    """Read the file that an entry lists, to its end; what is bad with it, None where nothing is."""
    assert entry.file is not None
    number = segment_number(entry.file)
    try:
        if number is not None:
            return _segment(root, entry, number, seen, progress)
        return _file(lies_in(root, entry, committed), entry, seen, progress)
    except FileNotFoundError:
        return _bad(entry, _the_file(entry), "no such file")
    except OSError as error:
        return _bad(entry, "a file that can be read", f"the system cannot read it: {error.strerror or error}")


def _file(path: Path, entry: Entry, seen: Verified, progress: Progress) -> Bad | None:
    seen.files += 1
    num_bytes = DISK.file_bytes(path)
    if path.is_file() and num_bytes is not None and num_bytes != entry.bytes:
        return _bad(entry, _bytes(entry.bytes), _bytes(num_bytes))  # it may have become endless: it is not read
    num_bytes, digest = digest_file(path, progress)
    seen.num_bytes += num_bytes
    if num_bytes != entry.bytes:
        return _bad(entry, _bytes(entry.bytes), _bytes(num_bytes))
    if entry.xxh3 is None:
        seen.without_checksum += 1
    elif f"{digest:016x}" != entry.xxh3:
        return _bad(entry, f"xxh3 {entry.xxh3}", f"xxh3 {digest:016x} in as many bytes")
    if entry.kind == "checkpoint":
        seen.checkpoints += 1
    if path.suffix == ".parquet":
        seen.parquet_files += 1
        fault = _fault_of_pages(path)
        return _bad(entry, "parquet whose pages have their checksums", fault) if fault else None
    return None


def _fault_of_pages(path: Path) -> str:
    """What is wrong with a parquet file's pages, of which a few are held at a time; empty where nothing is."""
    where = "its footer"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False, buffer_size=_CHUNK) as file:
            for group in range(file.num_row_groups):
                where = f"row group {group}"
                for _ in file.iter_batches(_BATCH_ROWS, [group], use_threads=False):
                    pass
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"{where} cannot be read: {' '.join(str(error).split())}"
    return ""


def _segment(root: Path, entry: Entry, number: int, seen: Verified, progress: Progress) -> Bad | None:
    """A journal segment from its first record to its end, which is listed once nothing is written to it any more."""
    assert entry.file is not None
    held = is_held(root)
    try:
        fd = DISK.open(root / entry.file)
    except FileNotFoundError:
        if entry.bytes == 0:
            return None
        raise
    try:
        size = DISK.size(fd)
        seen.segments += 1
        seen.num_bytes += min(size, size if entry.bytes is None else entry.bytes)
        if entry.bytes is None:
            found = survey(DISK, fd, number, entry.gen or 0, size)
            progress(size)
            seen.records += found.records
            if found.gaps:
                return _gaps(entry, found.gaps)
            if found.cut_bytes and not (held or is_held(root)):
                return _bad(
                    entry, "whole records to its end",
                    f"{found.cut_bytes:,} bytes behind byte {found.end:,} that are not ({found.cut_records:,} whole "
                    "records among them): left by a crash, or the last ones damaged",
                )  # fmt: skip
            return None
        if size < entry.bytes:
            return _bad(entry, _bytes(entry.bytes), _bytes(size))
        gaps = []
        reached = 0
        for item in walk(DISK, fd, number, entry.gen or 0, entry.bytes):
            end = item.offset + item.num_bytes if isinstance(item, Gap) else item.end
            progress(end - reached)
            reached = end
            if isinstance(item, Gap):
                gaps.append(item)
            elif item.record.kind != GROUP:
                seen.records += 1
        if reached < entry.bytes:
            gaps.append(Gap(number, reached, entry.bytes - reached))
        if gaps:
            return _gaps(entry, gaps)
        if size > entry.bytes and not (held or is_held(root)):
            return _bad(
                entry, f"{_bytes(entry.bytes)}, for nothing is written to it any more",
                f"{size - entry.bytes:,} bytes behind them that are no record: added since, or left by a disk that "
                "failed",
            )  # fmt: skip
        return None
    finally:
        DISK.close(fd)


def _gaps(entry: Entry, gaps: list[Gap]) -> Bad:
    lost = sum(gap.num_bytes for gap in gaps)
    places = ", ".join(f"{gap.offset:,}" for gap in gaps[:5]) + (", ..." if len(gaps) > 5 else "")
    return _bad(entry, "whole records, one behind the other", f"{lost:,} bytes that are none, at byte {places}")


def _bad(entry: Entry, expected: str, found: str) -> Bad:
    assert entry.file is not None
    if segment_number(entry.file) is not None:
        hint = "open it again (--resume, open_stores): records that are whole come back, and what is lost is told"
    elif entry.file.startswith(f"{CHECKPOINTS}/"):
        hint = "run again: what was to go on from it begins anew"
    else:
        hint = "run its configuration again with --force, or get the file from a copy"
    return Bad(file=entry.file, expected=expected, found=found, try_=hint)


def _the_file(entry: Entry) -> str:
    if entry.bytes is None:
        return "the file, with the records that were written to it last; how long it was is not known"
    return "the file, " + _bytes(entry.bytes)


def _bytes(num_bytes: int | None) -> str:
    return f"{num_bytes or 0:,} bytes"


def scan_letters(path: Path) -> tuple[int, int, tuple[str, bool] | None]:
    """Whole records from the start, bytes, and what is behind them: told, and whether whole records follow it."""
    with open(path, "rb", buffering=0, opener=open_regular) as source:
        fd = source.fileno()
        count = end = 0
        for found in scan(fd):
            count += 1
            end = found.offset + record_bytes(len(found.key), found.length)
        size = DISK.size(fd)
        if end >= size:
            return count, size, None
        rest = DISK.read(fd, size - end, end)
        at = rest.find(_MAGIC, 1)
        while 0 <= at <= len(rest) - HEAD_BYTES:
            _, _, _, key_len, length, _ = HEADER.unpack_from(rest, at)
            if at + record_bytes(key_len, length) <= len(rest) and any(scan(fd, end + at)):
                return count, size, (f"{at:,} bytes that are none at byte {end:,}", True)
            at = rest.find(_MAGIC, at + 1)
        return count, size, (f"{size - end:,} bytes behind byte {end:,} that are none", False)
