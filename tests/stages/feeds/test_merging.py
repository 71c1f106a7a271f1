"""Many sources become one stream in the one order of the four-part key, whoever cuts them, in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Context, InputError
from stages.feeds.merged import MergedFeed
from stages.feeds.merging import Lane, Merge
from stages.feeds.replay import Replay
from stages.schemas import Scales, schema_of

EIGHT = Scales()
TRADE, QUOTE = schema_of("trade"), schema_of("quote")
Told = tuple[int, int, int, str]
"""Stamp, event time, ordinal and instrument of a row."""


def table(rows: Sequence[Told], schema: pa.Schema = TRADE, source: str = "made") -> pa.Table:
    columns: dict[str, Any] = {
        "ts_recv": [row[0] for row in rows],
        "ts_event": [row[1] for row in rows],
        "ingest_seq": [row[2] for row in rows],
        "instrument_id": [row[3] for row in rows],
        "source_id": [source] * len(rows),
        "flags": [0] * len(rows),
        "price": [f"{row[2]}.5" for row in rows],
        "size": ["1"] * len(rows),
        "aggressor_side": [1] * len(rows),
        "trade_id": [str(row[2]) for row in rows],
    }
    made = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            made.append(pa.nulls(len(rows), field.type))
        elif pa.types.is_decimal(field.type):
            made.append(pa.array(values, pa.utf8()).cast(field.type))
        elif pa.types.is_dictionary(field.type):
            made.append(pa.array(values, pa.utf8()).dictionary_encode().cast(field.type))
        else:
            made.append(pa.array(values, field.type))
    return pa.Table.from_arrays(made, schema=schema)


def lane(rank: int, rows: Sequence[Told], cut: int, begins: int | None = None, kind: str = "trade") -> Lane:
    schema = TRADE if kind == "trade" else QUOTE

    def read() -> Iterator[pa.RecordBatch]:
        for at in range(0, len(rows), cut):
            yield table(rows[at : at + cut], schema).to_batches()[0]

    return Lane(kind, rank, schema, read, begins)


def told(windows: Iterator[tuple[pa.RecordBatch, ...]], kind: str = "trade") -> list[Told]:
    found: list[Told] = []
    for window in windows:
        for columns in window:
            if columns.schema.metadata[b"record"] == kind.encode():
                names = ["ts_recv", "ts_event", "ingest_seq"]
                numbers = [columns.column(name).cast(pa.int64()).to_pylist() for name in names]
                found += zip(*numbers, columns.column("instrument_id").to_pylist(), strict=True)
    return found


def plainly(sources: Sequence[tuple[int, Sequence[Told]]], by: int = 0) -> list[Told]:
    """The four-part key, row by row."""
    keyed = []
    for place, (rank, rows) in enumerate(sources):
        newest = -1
        for number, row in enumerate(rows):
            newest = max(newest, row[by])
            keyed.append(((newest, rank, row[2], place, number), row))
    return [row for _, row in sorted(keyed)]


@pytest.mark.parametrize("shared", [False, True], ids=["each its own rank", "ranks of several"])
def test_rows_of_many_sources_come_in_the_order_of_the_four_part_key(shared: bool) -> None:
    """Against a sort of all rows, with ties, steps back and batches of any length."""
    chance = random.Random(5)
    for _ in range(60):
        sources: list[tuple[int, list[Told]]] = []
        ordinal = 0
        for number in range(chance.randint(1, 6)):
            at, rows = chance.randint(0, 20), []
            for _ in range(chance.randint(0, 40)):
                at += chance.choice([0, 0, 0, 1, 1, 5])
                ordinal += 1
                back = 3 if not shared and chance.random() < 0.05 else 0
                rows.append((at - back, at, ordinal, f"S{number}"))
            sources.append((number // 2 if shared else number, rows))
        if shared:  # ordinals of one session follow the time of receipt
            order = sorted(
                (row[0], place, at) for place, (_, rows) in enumerate(sources) for at, row in enumerate(rows)
            )
            for seq, (_, place, at) in enumerate(order):
                sources[place][1][at] = (*sources[place][1][at][:2], seq, f"S{place}")
        lanes = [
            lane(
                rank,
                rows,
                chance.choice([1, 2, 7, 100]),
                chance.choice([None, min((row[0] for row in rows), default=0)]),
            )
            for rank, rows in sources
        ]
        for order_by, column in (("ts_recv", 0), ("ts_event", 1)):
            if shared and order_by == "ts_event":
                continue
            lanes = [Lane(each.kind, each.rank, each.schema, each.read) for each in lanes] if column else lanes
            merge = Merge(lanes, order_by)  # type: ignore[arg-type]
            assert told(merge.windows()) == plainly(sources, column)


def test_steps_back_are_counted_and_nothing_is_held_of_what_has_gone() -> None:
    merge = Merge([lane(0, [(5, 5, 0, "A"), (3, 3, 1, "A"), (6, 6, 2, "A")], 1), lane(1, [(5, 5, 0, "B")], 1)])
    assert [row[0] for row in told(merge.windows())] == [5, 3, 5, 6]
    assert merge.steps_back == 1


def test_sources_that_follow_each_other_in_time_are_not_sorted() -> None:
    apart = [[(100 * number + at, 0, at, f"S{number}") for at in range(50)] for number in range(4)]
    merge = Merge([lane(number, rows, 20) for number, rows in enumerate(apart)])
    assert told(merge.windows()) == [row for rows in apart for row in rows]
    assert merge.unsorted_rows == 200
    woven = Merge([lane(number, [(at, 0, at, f"S{number}") for at in range(50)], 20) for number in range(2)])
    assert len(told(woven.windows())) == 100 and woven.unsorted_rows < 100


def test_a_source_is_opened_when_its_time_has_come() -> None:
    opened: list[int] = []

    def late(rank: int, first: int) -> Lane:
        def read() -> Iterator[pa.RecordBatch]:
            opened.append(rank)
            yield table([(first + at, 0, at, "A") for at in range(3)]).to_batches()[0]

        return Lane("trade", rank, TRADE, read, first)

    windows = Merge([late(0, 0), late(1, 100), late(2, 200)]).windows()
    next(windows)
    assert opened == [0] or opened == [0, 1]
    windows.close()  # type: ignore[attr-defined]


def test_who_stops_early_leaves_no_thread_behind() -> None:
    windows = Merge([lane(rank, [(at, at, at, "A") for at in range(rank, 90, 3)], 2) for rank in range(3)]).windows()
    next(windows)
    windows.close()  # type: ignore[attr-defined]


def in_layout(
    folder: Path, kind: str, instrument: str, rows: Sequence[Told], session: str = "s1", scales: Scales = EIGHT
) -> None:
    schema = schema_of(kind, scales)
    for day in sorted({row[0] // 100 for row in rows}):
        those = [row for row in rows if row[0] // 100 == day]
        place = folder / kind / "venue=demo" / f"instrument={instrument}" / f"date=1970-01-{day + 1:02d}"
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"{those[0][0]:020d}_{those[-1][0]:020d}_{session}.parquet"
        pq.write_table(table(those, schema), file, row_group_size=3, store_decimal_as_integer=True)


def rows_of(feed: Any, cut: int) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {}
    for item in feed.batches():
        window = item if isinstance(item, tuple) else (item,)
        assert sum(batch.num_rows for batch in window) <= cut
        for batch in window:
            found.setdefault(batch.record, []).extend(told(iter([(batch.columns,)]), batch.record))
    return found


@pytest.mark.parametrize(("one", "other"), [(Scales(10, 0), EIGHT), (Scales(2, 24), Scales(4, 3))])
def test_files_of_other_decimal_places_are_read_together_at_the_most_there_are(
    one: Scales, other: Scales, tmp_path: Path
) -> None:
    a = [(at, at, 2 * at, "A.DEMO") for at in range(0, 300, 7)]
    b = [(at, at, 2 * at - 1, "B.DEMO") for at in range(1, 290, 4)]
    in_layout(tmp_path, "trade", "A.DEMO", a, scales=one)
    in_layout(tmp_path, "trade", "B.DEMO", b, scales=other)
    expected = schema_of("trade", Scales(max(one.price, other.price), max(one.size, other.size)))
    recipe = Replay(path=str(tmp_path))
    assert recipe.output_schema({}) == expected
    for begin, since in ((None, 0), ("1970-01-01T00:00:00.000000150Z", 150)):
        feed = Replay(path=str(tmp_path), begin=begin).build(Context())
        found = pa.Table.from_batches([batch.columns for batch in feed.batches()])  # type: ignore[union-attr]
        rows = [row for row in plainly([(0, a), (0, b)]) if row[0] >= since]
        assert found.schema == expected
        assert [float(price) for price in found["price"].to_pylist()] == [row[2] + 0.5 for row in rows]


def test_a_price_that_has_no_room_for_the_places_of_others_is_told(tmp_path: Path) -> None:
    in_layout(tmp_path, "trade", "A.DEMO", [(1, 1, 10**9, "A.DEMO")])
    in_layout(tmp_path, "trade", "B.DEMO", [(1, 1, 1, "B.DEMO")], scales=Scales(10, 0))
    with pytest.raises(InputError, match=r"A\.DEMO.*'price'.*expected values of type decimal64\(18, 10\)"):
        list(Replay(path=str(tmp_path)).build(Context()).batches())  # type: ignore[call-overload]


def test_a_folder_in_our_layout_is_read_as_all_the_kinds_it_holds(tmp_path: Path) -> None:
    a = [(at, at, 2 * at, "A.DEMO") for at in range(0, 300, 7)]
    b = [(at, at, 2 * at - 1, "B.DEMO") for at in range(1, 290, 4)]
    quotes = [(at, at, 2 * at + 1, "A.DEMO") for at in range(0, 250, 5)]
    in_layout(tmp_path, "trade", "B.DEMO", b)
    in_layout(tmp_path, "trade", "A.DEMO", a)
    in_layout(tmp_path, "quote", "A.DEMO", quotes)
    recipe = Replay(path=str(tmp_path))
    assert list(recipe.record_schemas({})) == ["trade", "quote"] and len(recipe.input_files()) == 9
    expected = {"trade": plainly([(0, a), (0, b)]), "quote": quotes}
    for cut in (1, 7, 65_536):
        feed = Replay(path=str(tmp_path), batch_rows=cut).build(Context())
        assert isinstance(feed, MergedFeed) and rows_of(feed, cut) == expected
        assert feed.metrics()["rows"] == {"quote": len(quotes), "trade": len(a) + len(b)}
        assert feed.lateness_ns == 2_000_000_000
    only = Replay(path=str(tmp_path), records=("trade",))
    assert only.record_schemas({}) == {} and only.output_schema({}) == TRADE
    assert rows_of(only.build(Context()), 65_536) == {"trade": expected["trade"]}
    assert Replay(path=str(tmp_path / "trade"), order="ts_event").span() == (0, 294)
    with pytest.raises(InputError, match=r"ordered by ts_event, found trade, quote; write `records: \[trade\]`"):
        Replay(path=str(tmp_path), order="ts_event").record_schemas({})
    with pytest.raises(InputError, match="expected records of liquidation, found quote, trade"):
        Replay(path=str(tmp_path), records=("liquidation",)).record_schemas({})


def test_several_paths_are_merged_and_the_one_listed_first_goes_first(tmp_path: Path) -> None:
    for name, first in (("a", 10), ("b", 10)):
        lines = [f"{(first + at) * 10**9},{at}.5,1" for at in range(50)]
        (tmp_path / f"{name}.csv").write_text("ts_event,price,size\n" + "\n".join(lines))
    paths = tuple(str(tmp_path / f"{name}.csv") for name in ("b", "a"))
    feed = Replay(path=paths, time_format="ns").build(Context())
    rows = [row for batch in feed.batches() for row in batch.rows]  # type: ignore[union-attr]
    assert [row.instrument_id for row in rows] == ["B.FILE", "A.FILE"] * 50
    pq.write_table(pa.table({"time": [1], "price": [1.5], "size": [1.0]}), tmp_path / "c.parquet")
    both = (str(tmp_path / "b.csv"), str(tmp_path / "c.parquet"))
    with pytest.raises(InputError, match=r"c.parquet: expected the columns of .*b.csv.*price double.*declare `scale`"):
        Replay(path=both, time_format="ns").input_files()


def test_a_recording_begun_in_the_middle_tells_its_books_from_the_last_file_before(tmp_path: Path) -> None:
    """Each file of books opens with the book, as a recorder writes it; two days of one instrument."""
    delta = schema_of("book_delta")

    def rows(day: int, begins: dict[str, str]) -> pa.Table:
        at, made = 100 * day, []
        for number, price in enumerate(["", *begins]):
            made.append((at, 4 if not number else 1, 0 if not number else 1, price or "0", begins.get(price, "0")))
        made += [(at + 10 * step, 2, 1, f"{day}{step}", str(step)) for step in range(1, 5)]
        last = [number == len(begins) or number > len(begins) for number in range(len(made))]
        told = table([(row[0], row[0], row[0], "A.DEMO") for row in made], delta)
        columns = {
            "action": pa.array([row[1] for row in made], pa.int8()),
            "side": pa.array([row[2] for row in made], pa.int8()),
            "price": pa.array([row[3] for row in made]).cast(delta.field("price").type),
            "size": pa.array([row[4] for row in made]).cast(delta.field("size").type),
            "order_id": pa.array([0] * len(made), pa.uint64()),
            "sequence": pa.array([row[0] for row in made], pa.uint64()),
            "flags": pa.array(
                [(128 if end else 0) | (32 if number <= len(begins) else 0) for number, end in enumerate(last)],
                pa.uint8(),
            ),
        }
        for name, values in columns.items():
            told = told.set_column(delta.get_field_index(name), delta.field(name), values)
        return told

    days = [rows(0, {"5": "1"}), rows(1, {"5": "1", "1": "1", "2": "2", "3": "3", "4": "4"})]
    for day, whole in enumerate(days):
        place = tmp_path / "book_delta" / "venue=demo" / "instrument=A.DEMO" / f"date=1970-01-{day + 1:02d}"
        place.mkdir(parents=True)
        pq.write_table(whole, place / f"{100 * day:020d}_{100 * day + 40:020d}_s1.parquet")
    feed = Replay(path=str(tmp_path)).build(Context())
    assert isinstance(feed, MergedFeed)
    batches = list(feed.seek(125))
    found = pa.Table.from_batches([batch.columns for batch in batches])  # type: ignore[union-attr]
    told_rows = list(zip(*(found.column(name).to_pylist() for name in ("action", "price", "size")), strict=True))
    assert [row[0] for row in told_rows] == [4, 1, 1, 1, 1, 1, 1, 1, 2, 2]
    assert {int(price): int(size) for action, price, size in told_rows if action == 1} == {
        5: 1, 1: 1, 2: 2, 3: 3, 4: 4, 11: 1, 12: 2,
    }  # fmt: skip
    assert [int(row[1]) for row in told_rows[-2:]] == [13, 14]
    assert feed.counts[0].rows == days[1].num_rows, "the first day need not be read"
