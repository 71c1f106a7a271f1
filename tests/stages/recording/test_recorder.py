"""What is recorded is what was sent: messages in the log, records in files, each once, across restarts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import (
    FUTURES,
    USDM,
    around_midnight,
    committed,
    directly,
    messages_of,
    recorded_rows,
    rows_of,
    same,
)

from pipeline import Context, InputError, StateMismatch, StorageFailed
from stages.feeds.replay import Replay
from stages.interpreting import Interpreter, Interpreting
from stages.messages import Messages
from stages.messages.captures import open_captures
from stages.recording import Recording
from stages.recording.ingesting import ingest
from stages.recording.recorder import open_recorder
from stages.venues import venue_named


async def test_records_in_files_are_what_the_messages_say(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings)
    async with open_recorder(tmp_path / "r", Recording(interpreting=Interpreting(depth=5))) as recorder:
        for at in range(0, len(messages), 100):
            await recorder.take(messages.slice(at, at + 100), USDM)
    same(recorded_rows(tmp_path / "r"), directly(messages, settings=Interpreting(depth=5)))


async def test_where_files_roll_and_rows_are_spilled_changes_no_row(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings).slice(0, 500)
    expected = directly(messages)
    for number, settings in enumerate((Recording(roll_every="3s"), Recording(roll_rows=4000), Recording())):
        folder = tmp_path / str(number)
        async with open_recorder(folder, settings) as recorder:
            recorder._partitions._buffer_bytes = 200_000
            recorder._partitions._group_rows = 300
            for at in range(0, len(messages), 37):
                await recorder.take(messages.slice(at, at + 37), USDM)
                assert recorder._partitions.held_bytes <= 400_000
        same(recorded_rows(folder), expected)
        assert len(committed(folder)) > 10
        groups = [pq.read_metadata(path).num_row_groups for path in committed(folder)]
        assert max(groups) > 1 or number < 2


async def test_a_file_of_book_deltas_begins_with_the_book_so_that_reading_may_begin_there(
    recordings: Path, tmp_path: Path
) -> None:
    """Files roll at midnight, and every 10 seconds: each by itself gives the book at its end."""
    files = around_midnight(recordings, tmp_path / "c")
    await ingest(files, tmp_path / "r", Recording(roll_every="10s"))
    deltas = [path for path in committed(tmp_path / "r") if "book_delta" in path.parts]
    assert {path.parent.name for path in deltas} == {"date=2024-08-08", "date=2024-08-09"}
    assert len(deltas) > 3
    book: dict[tuple[int, object], object] = {}
    for path in sorted(deltas, key=lambda path: path.name):
        table = pq.ParquetFile(path).read()
        rows = table.to_pylist()
        assert rows[0]["action"] == 4 and rows[0]["flags"] & 32
        stamps = [(row["ts_recv"], row["ingest_seq"]) for row in rows]
        assert stamps == sorted(stamps)
        alone: dict[tuple[int, object], object] = {}
        for row in rows:
            for each in (book, alone) if row["source_id"] != "keyframe" else (alone,):
                if row["action"] == 4:
                    each.clear()
                elif row["action"] == 3:
                    each.pop((row["side"], row["price"]), None)
                else:
                    each[row["side"], row["price"]] = row["size"]
        assert alone == book
    assert len(book) > 1000


async def test_files_lie_where_readers_of_hive_layouts_look(recordings: Path, tmp_path: Path) -> None:
    await ingest([recordings / name for name in FUTURES], tmp_path)
    path = next(path for path in committed(tmp_path) if "trade" in path.parts)
    kind, venue, instrument, date, name = path.relative_to(tmp_path).parts
    assert (kind, venue, date) == ("trade", "venue=binance_usdm", "date=2021-07-22")
    assert instrument.startswith("instrument=") and instrument.endswith(".BINANCE_USDM")
    first, last, session = name.removesuffix(".parquet").split("_")
    file = pq.ParquetFile(path)
    times = file.read().column("ts_recv").cast(pa.int64()).to_pylist()
    assert (int(first), int(last)) == (times[0], times[-1]) and session == "000001-1"
    column = file.metadata.row_group(0).column(file.schema_arrow.names.index("price"))
    assert (column.physical_type, column.compression) == ("INT64", "ZSTD")
    assert {name.column_index for name in file.metadata.row_group(0).sorting_columns} == {1, 2}


async def test_a_restart_goes_on_without_a_row_missing_or_twice(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings)
    for start in range(0, len(messages), 400):
        async with open_recorder(tmp_path) as recorder:
            assert recorder.figures().again == 0
            await recorder.take(messages.slice(start, min(start + 400, len(messages))), USDM)
    same(recorded_rows(tmp_path), directly(messages))
    assert len({path.name.rsplit("_")[-1] for path in committed(tmp_path)}) >= 4


async def test_what_was_acknowledged_and_is_in_no_file_is_read_from_the_log_again(
    recordings: Path, tmp_path: Path
) -> None:
    messages = messages_of(recordings)
    recorder = await open_recorder(tmp_path).__aenter__()
    await recorder.take(messages.slice(0, 500), USDM)
    await recorder.roll()
    await recorder.take(messages.slice(500, 900), USDM)
    await recorder.folder.apart(recorder._partitions.discard)
    await recorder.folder.close()  # as a process that is killed: nothing of what is in memory is published
    async with open_recorder(tmp_path) as recorder:
        assert recorder.figures().again == 400
        await recorder.take(messages.slice(900), USDM)
    same(recorded_rows(tmp_path), directly(messages))


async def test_raw_messages_go_when_they_are_old_and_their_records_stay(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings).slice(0, 600)
    recorder = open_recorder(tmp_path, Recording(retention="3s", roll_every="2s"))
    recorder.folder._segment_bytes = 1
    async with recorder:
        for at in range(0, len(messages), 50):
            await recorder.take(messages.slice(at, at + 50), USDM)
    assert recorder.figures().expired_segments > 3
    kept = list(Messages.concat(list(open_captures(tmp_path).runs())))
    assert kept == list(messages)[-len(kept) :] and 50 < len(kept) < 500
    assert kept[0].ts_recv > messages.ts_recv[-1] - 8_000_000_000
    same(recorded_rows(tmp_path), directly(messages))
    async with open_recorder(tmp_path) as recorder:
        assert recorder.figures().again == 0


async def test_the_recording_read_as_messages_gives_the_same_records(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings)
    await ingest([recordings / name for name in FUTURES], tmp_path)
    read = Messages.concat(list(open_captures(tmp_path).runs(most=50)))
    assert list(read) == list(messages)
    assert rows_of(Interpreter(USDM, Interpreting()).interpret(read).batches) == directly(messages)
    assert open_captures(tmp_path).span() == (int(messages.ts_recv[0]), int(messages.ts_recv[-1]))


async def test_taking_in_the_same_capture_again_changes_nothing(recordings: Path, tmp_path: Path) -> None:
    files = [recordings / name for name in FUTURES]
    first = await ingest(files, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "MANIFEST" not in path.name}
    again = await ingest(files, tmp_path)
    assert (first.skipped, again.skipped) == (0, first.figures.messages)
    assert again.figures.messages == again.figures.files == 0
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "MANIFEST" not in path.name}
    assert {**before, tmp_path / "LOCK": b""} == {**after, tmp_path / "LOCK": b""}


async def test_captures_that_overlap_are_recorded_as_the_one_they_were_cut_from(
    recordings: Path, tmp_path: Path
) -> None:
    """The same source, cut in two: messages are known by when they came and what they say."""
    [whole, _] = around_midnight(recordings, tmp_path / "c")
    lines = whole.read_bytes().splitlines(keepends=True)
    for name, part in (("a", lines[:2000]), ("b", lines[1500:])):
        (tmp_path / name).mkdir()
        (tmp_path / name / whole.name).write_bytes(b"".join(part))
        done = await ingest(tmp_path / name, tmp_path / "r")
    assert done.skipped == 500
    same(
        recorded_rows(tmp_path / "r"), directly(messages_of(tmp_path / "c", [whole.name]), venue_named("binance_spot"))
    )


async def test_a_backfill_goes_over_into_the_live_feed_without_a_seam(recordings: Path, tmp_path: Path) -> None:
    """Another connection, whose messages overlap what was taken in: no row is missing, none is there twice."""
    [whole, _] = around_midnight(recordings, tmp_path / "c")
    spot = venue_named("binance_spot")
    messages = messages_of(tmp_path / "c", [whole.name])
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / whole.name).write_bytes(b"".join(lines[:2000]))
    await ingest(tmp_path / "a", tmp_path / "r")
    live = messages.slice(1500)
    live = Messages(
        live.ts_recv + 1_000_000, live.ingest_seq, live.kind, ["live"], live.source_code, live.url, live.url_code,
        live.payload,
    )  # fmt: skip
    async with open_recorder(tmp_path / "r") as recorder:
        for at in range(0, len(live), 100):
            assert not any(taken.requests for taken in await recorder.take(live.slice(at, at + 100), spot))
    recorded, expected = recorded_rows(tmp_path / "r"), directly(messages, spot)
    events = {row[7] for row in recorded.pop("quality_event")}
    assert events <= {"duplicate", "out_of_order"}
    for kind, rows in expected.items():
        # What they are, without when and where they were received.
        assert [(row[0], row[3], *row[5:]) for row in recorded[kind]] == [(row[0], row[3], *row[5:]) for row in rows], (
            kind
        )


async def test_another_recording_of_the_same_name_is_refused(recordings: Path, tmp_path: Path) -> None:
    [whole, _] = around_midnight(recordings, tmp_path / "c")
    await ingest(whole, tmp_path / "r")
    lines = whole.read_bytes().splitlines(keepends=True)
    del lines[200]
    whole.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"btcusdt.txt: expected the messages .* 3,000 of them, found 2,999"):
        await ingest(whole, tmp_path / "r")


async def test_captures_have_to_come_in_order(recordings: Path, tmp_path: Path) -> None:
    files = around_midnight(recordings, tmp_path / "c")
    files[0] = files[0].rename(files[0].with_name("earlier.txt"))
    await ingest(files[1], tmp_path / "r")
    with pytest.raises(InputError, match=r"which reaches to 2024-08-09 00:00:\d\d UTC, found some up to"):
        await ingest(files[0], tmp_path / "r")


async def test_one_process_records_in_a_folder(recordings: Path, tmp_path: Path) -> None:
    async with open_recorder(tmp_path):
        with pytest.raises(StorageFailed, match="is in use by process"):
            async with open_recorder(tmp_path):
                pass


async def test_a_recorder_may_be_closed_again(recordings: Path, tmp_path: Path) -> None:
    messages = messages_of(recordings).slice(0, 60)
    async with open_recorder(tmp_path) as recorder:
        await recorder.take(messages, USDM)
        await recorder.close()
    same(recorded_rows(tmp_path), directly(messages))


async def test_other_settings_than_it_was_recorded_with_are_refused(recordings: Path, tmp_path: Path) -> None:
    await ingest([recordings / name for name in FUTURES], tmp_path)
    with pytest.raises(
        StateMismatch, match=r"recorded with other settings: expected a state of interpreter .*; go on with those, or"
    ):
        async with open_recorder(tmp_path, Recording(interpreting=Interpreting(price_scale=4))):
            pass


async def test_several_venues_may_be_recorded_in_one_folder(recordings: Path, tmp_path: Path) -> None:
    names = ("cryptofeed/BINANCE.ws.1.0", "cryptofeed/BINANCE.http.0.0")
    done = await ingest([recordings / name for name in (*FUTURES, *names)], tmp_path)
    assert set(done.quality) == {"binance_spot", "binance_usdm"}
    venues = {path.relative_to(tmp_path).parts[1] for path in committed(tmp_path)}
    assert venues == {"venue=binance_spot", "venue=binance_usdm"}
    with pytest.raises(InputError, match="expected one venue's messages, found binance_"):
        list(open_captures(tmp_path).runs())
    for venue, files in (("binance_usdm", FUTURES), ("binance_spot", names)):
        feed = Replay(path=str(tmp_path), format="capture", venue=venue).build(Context())
        found = rows_of(batch.columns for batches in feed.batches() for batch in batches)
        expected = directly(messages_of(recordings, files), venue_named(venue))
        assert found.keys() >= {"trade", "quote", "book_delta"}
        assert {kind: len(rows) for kind, rows in found.items()} == {kind: len(expected[kind]) for kind in found}


async def test_venues_of_other_decimal_places_in_one_folder_are_replayed_together(
    recordings: Path, tmp_path: Path
) -> None:
    settings = Recording(interpreting=Interpreting(depth=3))
    names = {"bitmex": ("BITMEX.ws.1.0",), "binance_us": ("BINANCE_US.ws.1.0", "BINANCE_US.http.0.0")}
    files = {name: [f"cryptofeed/{file}" for file in files] for name, files in names.items()}
    for name in files:
        done = await ingest([recordings / file for file in files[name]], tmp_path, settings)
        assert done.quality[name]["quality"] == {}
    recipe = Replay(path=str(tmp_path))
    feed = recipe.build(Context())
    batches = [batch for run in feed.batches() for batch in (run if isinstance(run, tuple) else (run,))]
    assert {batch.record: batch.columns.schema for batch in batches} == recipe.record_schemas({})
    trade = recipe.record_schemas({})["trade"]
    assert (trade.field("price").type, trade.field("size").type) == (pa.decimal64(18, 10), pa.decimal64(18, 8))
    found = rows_of(batch.columns for batch in batches)
    for name, of in files.items():
        venue = venue_named(name)
        for kind, rows in directly(messages_of(recordings, of), venue, settings.interpreting).items():
            those = [row for row in found[kind] if str(row[3]).endswith(f".{venue.suffix}")]
            assert [(*row[:2], *row[3:]) for row in those] == [(*row[:2], *row[3:]) for row in rows], kind
