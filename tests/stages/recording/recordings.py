"""What the tests of recordings share: small captures, and what they come to when they are interpreted directly."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.manifest import read_manifest
from stages.interpreting import Interpreter, Interpreting
from stages.messages import Messages
from stages.messages.captures import open_captures
from stages.schemas import KEYFRAME
from stages.venues import Venue, venue_named

USDM = venue_named("binance_usdm")
FUTURES = ("cryptofeed/BINANCE_FUTURES.ws.1.0", "cryptofeed/BINANCE_FUTURES.http.0.0")
MIDNIGHT = 1_723_161_600_000_000_000
SPOT = tuple(f"hftbacktest/spot/btcusdt_2024080{day}.gz" for day in (8, 9))


def messages_of(recordings: Path, names: Sequence[str] = FUTURES) -> Messages:
    return Messages.concat(list(open_captures([recordings / name for name in names]).runs()))


def around_midnight(recordings: Path, folder: Path, before: int = 3000, after: int = 1500) -> list[Path]:
    """Two files: a real capture's first lines, all of them later, so that midnight is where the second file begins."""
    lines = gzip.decompress((recordings / SPOT[0]).read_bytes()).splitlines(keepends=True)[: before + after]
    later = MIDNIGHT - int(lines[before].split(b" ", 1)[0])
    moved = [b"%d %b" % (int(ts) + later, rest) for ts, rest in (line.split(b" ", 1) for line in lines)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "btcusdt_20240808.txt", folder / "btcusdt_20240809.txt"]
    paths[0].write_bytes(b"".join(moved[:before]))
    paths[1].write_bytes(b"".join(moved[before:]))
    return paths


def directly(messages: Messages, venue: Venue = USDM, settings: Interpreting | None = None) -> dict[str, list[Any]]:
    """Rows by kind of record."""
    return rows_of(Interpreter(venue, settings or Interpreting()).interpret(messages).batches)


def rows_of(batches: Iterable[pa.RecordBatch]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for batch in batches:
        found.setdefault(batch.schema.metadata[b"record"].decode(), []).extend(map(plain, batch.to_pylist()))
    return found


def plain(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.values())


def committed(folder: Path) -> list[Path]:
    """Files that count, by name."""
    entries = read_manifest(folder).committed.files.values()
    return sorted(folder / entry.file for entry in entries if entry.file and entry.file.endswith(".parquet"))


def recorded_rows(folder: Path, keyframes: bool = False) -> dict[str, list[Any]]:
    """Rows of the committed files by kind, in the order of their messages; without the heads of book files."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in committed(folder):
        table = pq.ParquetFile(path).read()
        rows = table.to_pylist()
        if not keyframes:
            rows = [row for row in rows if row["source_id"] != KEYFRAME]
        found.setdefault(path.relative_to(folder).parts[0], []).extend(rows)
    for rows in found.values():
        rows.sort(key=lambda row: row["ingest_seq"])
    return {kind: [plain(row) for row in rows] for kind, rows in found.items()}


def same(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    """Rows of several instruments in one message stand in files of their own: their order is that of the message."""
    assert found.keys() == expected.keys()
    for kind, rows in expected.items():
        assert sorted(map(repr, found[kind])) == sorted(map(repr, rows)), kind
