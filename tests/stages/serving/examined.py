"""What a recording of a served market holds, against what its file says and the faults that were played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage.manifest import read_manifest
from stages.interpreting import Interpreter, Interpreting
from stages.schemas import CLEAR, DELETE, KEYFRAME
from stages.serving import Cut, Disconnect, Drop, Duplicate, Fault, Reorder
from stages.venues import venue_named
from tests.stages.serving.recorded import Served

STAMPS: Final = ("ts_recv", "ingest_seq", "source_id")
"""What tells when and how a row came."""
LAST: Final = 128
"""The flag of the last row of an update."""
TOP: Final = 20
"""Levels of each side that are compared after every update."""

Tables = dict[str, pa.Table]


# -- what is stored ------------------------------------------------------------------------------------------------


def stored(folder: Path) -> list[tuple[str, pa.Table]]:
    """The committed files, by their names: kind of record, and rows."""
    entries = read_manifest(folder).committed.files.values()
    names = sorted(entry.file for entry in entries if entry.file and entry.file.endswith(".parquet"))
    return [(Path(name).parts[0], pq.ParquetFile(folder / name).read()) for name in names]


def joined(files: Iterable[tuple[str, pa.Table]]) -> Tables:
    """Rows by kind in the order of their messages, without the heads of files of books."""
    parts: dict[str, list[pa.Table]] = {}
    for kind, table in files:
        parts.setdefault(kind, []).append(plain(table))
    found = {}
    for kind, tables in parts.items():
        table = pa.concat_tables(tables)
        table = table.filter(pc.not_equal(table["source_id"], KEYFRAME))
        found[kind] = table.take(pa.array(np.argsort(table["ingest_seq"].to_numpy(), kind="stable")))
    return found


def plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, and with what only files and only batches say left away."""
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def directly(served: Served) -> Tables:
    """What the file itself says when it is read."""
    interpreter = Interpreter(venue_named(served.venue), Interpreting())
    parts: dict[str, list[pa.RecordBatch]] = {}
    for batch in interpreter.interpret(served.messages).batches:
        parts.setdefault(batch.schema.metadata[b"record"].decode(), []).append(batch)
    return {kind: plain(pa.Table.from_batches(batches)) for kind, batches in parts.items()}


def rows(table: pa.Table) -> pa.Table:
    """Without what tells when and how they came."""
    return table.drop_columns([name for name in STAMPS if name in table.column_names])


def of(table: pa.Table, instrument: str) -> pa.Table:
    return table.filter(pc.equal(table["instrument_id"], instrument))


# -- books ---------------------------------------------------------------------------------------------------------

Levels = tuple[tuple[Any, Any], ...]


def books(deltas: pa.Table) -> dict[int, tuple[Levels, Levels]]:
    """The best levels after each update of one instrument, by its number; kept in plain dicts."""
    sides: dict[int, dict[Any, Any]] = {1: {}, 2: {}}
    found: dict[int, tuple[Levels, Levels]] = {}
    columns = (deltas[name].to_pylist() for name in ("action", "side", "price", "size", "flags", "sequence"))
    for action, side, price, size, flags, sequence in zip(*columns, strict=True):
        if action == CLEAR:
            sides = {1: {}, 2: {}}
        elif action == DELETE:
            sides[side].pop(price, None)
        else:
            sides[side][price] = size
        if flags & LAST:
            found[sequence] = (
                tuple(sorted(sides[1].items(), reverse=True)[:TOP]), tuple(sorted(sides[2].items())[:TOP]),
            )  # fmt: skip
    return found


# -- what is to be stored ------------------------------------------------------------------------------------------


def to_be(kind: int, served: Served, faults: Sequence[Fault], of_file: pa.Table) -> pa.Table:
    """Rows of the file, trades (0) or quotes (1), in the order they are sent, without those that are not."""
    spoilt = served.spoilt(faults)
    late = {(fault.stream, fault.message) for fault in faults if isinstance(fault, Reorder)}
    keyed: list[tuple[float, int]] = []
    for stream in (names[kind] for names in served.streams.values()):
        places = served.places[stream]
        found = np.flatnonzero(pc.equal(of_file["instrument_id"], served.instrument(stream)).to_numpy())
        for number, (place, row) in enumerate(zip(places, found.tolist(), strict=True), 1):
            if place not in spoilt:
                keyed.append((places[number] + 0.5 if (stream, number) in late else place, row))
    return rows(of_file.take(pa.array([row for _, row in sorted(keyed)], pa.int64())))


Event = tuple[str, str, str, int | None]
"""Kind, `trade` or `depth`, instrument, and how many are missing, of trades."""


def events_to_be(served: Served, faults: Sequence[Fault]) -> Counter[Event]:
    """What is to be told of faults that are apart from each other, each while books are whole."""
    found: Counter[Event] = Counter()

    def told(stream: str, *kinds: str, missing: int | None = None) -> None:
        channel = "depth" if served.is_depth(stream) else "trade"
        for kind in (*kinds, *(["resync"] if channel == "depth" and kinds != ("duplicate",) else [])):
            count = missing if (kind, channel) == ("gap", "trade") else None
            found[kind, channel, served.instrument(stream), count] += 1

    lost: set[int] = set()
    for fault in faults:
        match fault:
            case Drop():
                told(fault.stream, "gap", missing=fault.count)
            case Duplicate():
                told(fault.stream, "duplicate")
            case Reorder():
                told(fault.stream, "gap", "out_of_order", missing=1)
            case Cut():
                told(fault.stream, "parse_error")
            case Disconnect():
                lost |= served.spoilt([fault])
    for stream in (name for trades, _, depth in served.streams.values() for name in (trades, depth)):
        run = 0
        for place in served.places[stream]:
            if place in lost:
                run += 1
            elif run:
                told(stream, "gap", missing=run)
                run = 0
    return found


def events_told(table: pa.Table | None) -> Counter[Event]:
    """What is wrong with the data; that connections come and go is not."""
    found: Counter[Event] = Counter()
    for row in [] if table is None else table.to_pylist():
        if row["kind"] in ("disconnect", "reconnect"):
            continue
        channel = "trade" if row["channel"] == "trade" else "depth"
        missing = row["missing"] if (row["kind"], channel) == ("gap", "trade") else None
        found[row["kind"], channel, row["instrument_id"], missing] += 1
    return found


def losses_told(table: pa.Table | None) -> tuple[Counter[str], Counter[str]]:
    """Connections that were lost before the recording had ended, and those that came back, by their names."""
    lost: Counter[str] = Counter()
    back: Counter[str] = Counter()
    over: set[str] = set()
    for row in [] if table is None else table.to_pylist():
        if row["channel"] in over:
            continue
        if row["kind"] == "reconnect":
            back[row["channel"]] += 1
        elif row["kind"] == "disconnect" and "1000" in (row["detail"] or ""):
            over.add(row["channel"])
        elif row["kind"] == "disconnect":
            lost[row["channel"]] += 1
    return lost, back


def examine(served: Served, folder: Path, faults: Sequence[Fault] = ()) -> Counter[Event]:
    """Hold what is stored against the file: trades, quotes, events and books; what was told of them is returned."""
    files, direct = stored(folder), directly(served)
    found = joined(files)
    for number, kind in enumerate(("trade", "quote")):
        wanted = to_be(number, served, faults, direct[kind])
        assert rows(found[kind]).equals(wanted.cast(rows(found[kind]).schema)), kind
    told = events_told(found.get("quality_event"))
    assert told == events_to_be(served, faults)
    cuts = [fault for fault in faults if isinstance(fault, Disconnect)]
    lost, back = losses_told(found.get("quality_event"))
    assert lost == back and set(lost.values()) == ({len(cuts)} if cuts else set())
    for stream in (names[2] for names in served.streams.values()):
        examine_books(served.instrument(stream), files, direct["book_delta"], is_clean=not faults)
    return told


def examine_books(
    instrument: str,
    files: Sequence[tuple[str, pa.Table]],
    direct: pa.Table,
    *,
    is_clean: bool,
    most_lost: bool = False,
) -> None:
    """Every published book is the file's of the same number, each file by itself, and the last one is there."""
    wanted, last = books(of(direct, instrument)), 0
    compared = 0
    for kind, table in files:
        if kind != "book_delta" or not (table := of(plain(table), instrument)).num_rows:
            continue
        assert table["action"][0].as_py() == CLEAR, "a file begins with the whole book"
        for number, levels in books(table).items():
            if number in wanted:
                assert levels == wanted[number], number
                compared += 1
            last = max(last, number)
    assert last == max(wanted) and compared > (0 if most_lost else 1)
    if is_clean:  # nothing is published but what the file says, and all of it from where the book was whole
        deltas = joined([(kind, table) for kind, table in files if kind == "book_delta"])["book_delta"]
        deltas = of(deltas, instrument)
        begun = max(deltas["sequence"][0].as_py(), min(wanted))
        after, expected = (rows(t.filter(pc.greater(t["sequence"], begun))) for t in (deltas, of(direct, instrument)))
        assert after.equals(expected.cast(after.schema))
