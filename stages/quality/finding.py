"""Finds the quality events that a run or a recording has left in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import InputError, read_recording
from stages.messages.captures import is_recording
from stages.schemas import schema_of

RECORD = b"quality_event"
SOURCE = "lies_in"
NO_EVENTS = pa.Table.from_pylist([], schema_of("quality_event"))
COLUMNS = (
    "ts_event", "ts_recv", "ingest_seq", "instrument_id", "source_id", "kind", "channel", "seq_expected", "seq_got",
    "missing", "gap_start", "gap_end", "action_taken", "detail",
)  # fmt: skip


def meant(folder: Path) -> Path:
    """The folder itself, or, of one that holds runs of one name, its latest run."""
    latest = folder / "latest"
    return latest.resolve() if latest.is_dir() else folder


def find_events(folder: Path) -> pa.Table | None:
    """All quality events in parquet files at or below a folder, in order of `ts_recv`; None where no file holds such.

    An event that lies in two files, as where a container kept it and a sink wrote it, is there once. Raises
    `InputError` where there is no such folder, or a file of it cannot be read.
    """
    if not folder.exists():
        raise InputError(f"there is nothing at {folder}")
    tables = list(_tables(folder))
    if not tables:
        if is_recording(folder) and not _has_record_files(folder) and next(read_recording(folder), None) is not None:
            raise InputError(
                f"{folder}: expected files of records, found messages that are in none yet: a recorder publishes them "
                "when files roll, and when it ends; one that was killed, when it begins again"
            )
        return NO_EVENTS if _has_record_files(folder) else None
    whole = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    whole = whole.sort_by([("ts_recv", "ascending"), ("ingest_seq", "ascending")])
    return _each_once(whole)


def summed(folder: Path) -> Iterator[tuple[Path, int, list[dict[str, Any]]]]:
    """What the summaries of a run say of each feed of messages: where, how many messages, a row for each instrument."""
    for path in sorted(folder.rglob("summary.json")) if folder.is_dir() else []:
        try:
            metrics = msgspec.json.decode(path.read_bytes()).get("aggregate_metrics", {})
        except (OSError, msgspec.DecodeError, AttributeError):
            continue
        for told in metrics.values():
            if isinstance(told, dict) and "quality_by_instrument" in told:
                rows = [{"instrument": name, **counts} for name, counts in told["quality_by_instrument"].items()]
                yield path, told.get("messages", 0), rows


def _has_record_files(folder: Path) -> bool:
    """Whether files of recorded messages lie there, which would lie beside their quality events."""
    return next(folder.rglob("venue=*/**/*.parquet"), None) is not None if folder.is_dir() else False


def _tables(folder: Path) -> Iterator[pa.Table]:
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    for file in files:
        try:
            reader = pq.ParquetFile(file)
            metadata = reader.schema_arrow.metadata or {}
            if metadata.get(b"record") != RECORD:
                continue
            names = [name for name in COLUMNS if name in reader.schema_arrow.names]
            table = reader.read(columns=names)
        except (OSError, pa.ArrowException) as error:
            if "quality_event" in str(file):
                raise InputError(f"{file}: expected a parquet file, {type(error).__name__}: {error}") from error
            continue
        yield table.append_column(SOURCE, pa.array([_whose(file, folder)] * len(table), pa.utf8()))


def _whose(file: Path, folder: Path) -> str:
    """The folder a file is of, which tells the containers of a run apart."""
    relative = file.relative_to(folder) if file != folder else Path(file.name)
    return str(relative.parent)


def _each_once(table: pa.Table) -> pa.Table:
    """An event that several containers hold is taken from the first of them; alike events of one are several."""
    columns = [name for name in table.column_names if name != SOURCE]
    owners: dict[tuple[object, ...], str] = {}
    keep = []
    for place, row in enumerate(table.to_pylist()):
        if owners.setdefault(tuple(row[name] for name in columns), row[SOURCE]) == row[SOURCE]:
            keep.append(place)
    return table if len(keep) == len(table) else table.take(pa.array(keep, pa.int64()))
