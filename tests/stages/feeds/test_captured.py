"""Captures are replayed as several kinds of record, the same whoever cuts them and at whatever speed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Batch, ConfigError, Context, InputError, Pipeline, first_rows, parse_instant
from pipeline.windows import iso
from stages.feeds.captured import CaptureFeed
from stages.feeds.replay import Replay

SPOT = "hftbacktest/spot/btcusdt_20240808.gz"
SEVERAL = ("cryptofeed/BINANCE_FUTURES.ws.1.0", "cryptofeed/BINANCE_FUTURES.http.0.0")


def fed(recipe: Replay) -> tuple[dict[str, pa.Table], CaptureFeed]:
    feed = recipe.build(Context())
    assert isinstance(feed, CaptureFeed)
    found: dict[str, list[pa.RecordBatch]] = {}
    for batches in feed.batches():
        for batch in batches:
            assert batch.record is not None
            found.setdefault(batch.record, []).append(batch.columns)
    return {kind: pa.Table.from_batches(parts) for kind, parts in found.items()}, feed


def several(recordings: Path, **words: Any) -> Replay:
    return Replay(path=tuple(str(recordings / name) for name in SEVERAL), **words)


def test_a_capture_is_known_by_its_content_and_read_as_all_kinds_of_record(recordings: Path) -> None:
    recipe = Replay(path=str(recordings / SPOT), depth=5, snapshot_every="1s")
    assert "bar" not in recipe.record_schemas({}) and recipe.input_files() == (recordings / SPOT,)
    assert recipe.cadence_ns({}) is None
    tables, feed = fed(recipe)
    rows = {kind: table.num_rows for kind, table in tables.items()}
    seconds = {time.value // 10**9 for time in tables["book_delta"].column("ts_recv")}
    assert rows == {"trade": 9757, "quote": 28040, "book_delta": 126059, "book_snapshot": len(seconds)}
    assert {kind: table.schema for kind, table in tables.items()} == {
        kind: schema for kind, schema in recipe.record_schemas({}).items() if kind in rows
    }
    told = feed.metrics()
    assert (told["venue"], told["messages"], told["rows"], told["quality"]) == ("binance_spot", 41249, rows, {})


def test_how_many_messages_are_read_together_changes_nothing(recordings: Path) -> None:
    whole, _ = fed(several(recordings, quotes="both"))
    for run_messages in (1, 7):
        cut, _ = fed(several(recordings, quotes="both", batch_rows=run_messages))
        assert {kind: table.to_pylist() for kind, table in cut.items()} == {
            kind: table.to_pylist() for kind, table in whole.items()
        }


def test_only_kinds_that_are_wanted_are_sent_and_scales_are_declared(recordings: Path) -> None:
    recipe = several(recordings, records=["trade"], scale=6, size_scale=3)
    tables, _ = fed(recipe)
    assert list(tables) == ["trade"] and tables["trade"].schema.field("price").type == pa.decimal64(18, 6)
    assert list(recipe.record_schemas({})) == ["trade", "quality_event"]


def test_its_span_is_that_of_its_event_times(recordings: Path) -> None:
    recipe = several(recordings)
    batches = [batch for batches in recipe.build(Context()).batches() for batch in batches]  # type: ignore[union-attr]
    stamps = [ts for batch in batches for ts in (batch.min_ts, batch.max_ts) if ts is not None]
    assert recipe.span() == (min(stamps), max(stamps))
    limited = recipe.span(rows=100)
    assert limited is not None and limited[1] < max(stamps)


def test_what_cannot_be_said_of_a_capture_is_refused(recordings: Path) -> None:
    path = str(recordings / SPOT)
    with pytest.raises(InputError, match=r"expected no `schema`.*write `records: \[trade\]`"):
        Replay(path=path, schema="trade").record_schemas({})
    with pytest.raises(ValueError, match=r"^venue: no venue is called 'binance_sport'; did you mean 'binance_spot'"):
        Replay(path=path, venue="binance_sport")
    with pytest.raises(InputError, match=r"of one venue, found binance_spot \(btcusdt\), binance_usdm \(BIN"):
        Replay(path=(path, str(recordings / SEVERAL[0]))).build(Context()).warm()
    beside = r"BITFINEX.*of a known venue, found api\.bitfinex\.com: .* beside those of binance_spot; another venue"
    with pytest.raises(InputError, match=beside):
        Replay(path=(path, str(recordings / "cryptofeed/BITFINEX.ws.11.0"))).build(Context()).warm()
    with pytest.raises(msgspec.ValidationError, match="records: expected kinds out of trade, quote"):
        msgspec.convert({"records": ["trades"]}, Replay)


def test_the_first_rows_of_several_kinds_are_those_received_first() -> None:
    def batch(record: str, times: list[int], seqs: list[int]) -> Batch:
        schema = pa.schema([("ts_recv", pa.timestamp("ns", tz="UTC")), ("ingest_seq", pa.uint64())], {"record": record})
        return Batch.from_pydict({"ts_recv": times, "ingest_seq": seqs}, schema)

    both = (batch("trade", [1, 3, 3], [0, 3, 4]), batch("quote", [2, 3, 3], [1, 2, 5]))
    for rows, taken in ((1, [1, 0]), (3, [1, 2]), (4, [2, 2]), (6, [3, 3]), (9, [3, 3])):
        found = {part.record: part.num_rows for part in first_rows(both, rows)}
        assert [found.get("trade", 0), found.get("quote", 0)] == taken


CONFIG = """
name: replayed
containers:
  market: {{type: replay, path: {path}, depth: 3, batch_rows: {batch_rows}, clock: {{speed: {speed}}}}}
  seconds: {{type: bars, inputs: [market], every: 1s}}
  minutes: {{type: bars, inputs: [seconds], every: 1m}}
  middles: {{type: bars, inputs: [market], every: 1s, price: mid}}
  save: {{type: parquet, inputs: [seconds], shards: 1}}
  quotes: {{type: parquet, inputs: [{{from: market, records: quote}}], shards: 1}}
  tops: {{type: parquet, inputs: [{{from: market, records: book_snapshot}}], shards: 1}}
"""


async def left(pipeline: Pipeline) -> dict[str, bytes]:
    """Every file a run wrote of its data, and what its summary says of it."""
    async with pipeline.start() as run:
        await run.finished()

    def read() -> dict[str, bytes]:
        assert run.folder is not None
        phase = run.folder / "run"
        return {name: (phase / name / "part-00.parquet").read_bytes() for name in ("save", "quotes", "tops")} | {
            "summary": (phase / "summary.json").read_bytes()
        }

    return await asyncio.to_thread(read)


async def test_a_run_makes_bars_of_trades_and_files_of_quotes_whatever_the_speed_and_cut(
    recordings: Path, tmp_path: Path
) -> None:
    def run(name: str, rows: int | None = None, speed: Any = "max", batch_rows: int = 65_536) -> Pipeline:
        text = CONFIG.format(path=recordings / SPOT, speed=speed, batch_rows=batch_rows)
        return Pipeline.from_yaml(text, output=tmp_path / name, limit=rows)

    whole = await left(run("whole"))
    bars = pq.read_table(pa.BufferReader(whole["save"]))
    assert bars.num_rows == 345 and b'"late":0' in whole["summary"].replace(b" ", b"")
    first = await left(run("first", 9_000))
    assert first["save"] != whole["save"]
    for name, words in {"7": {"batch_rows": 7}, "fast": {"speed": 2000}}.items():
        assert await left(run(name, 9_000, **words)) == first


def test_who_takes_a_kind_that_a_capture_does_not_send_is_told_which_there_are(recordings: Path) -> None:
    text = CONFIG.format(path=recordings / SPOT, speed="max", batch_rows=10).replace(
        "records: quote}", "records: quotes}"
    )
    with pytest.raises(ConfigError, match=r"kinds that 'market' sends, found 'quotes'; did you mean 'quote'"):
        Pipeline.from_yaml(text)


def books_at(tables: dict[str, pa.Table], until_ns: int | None = None) -> dict[tuple[str, int], dict[int, int]]:
    """Sides of books as published updates make them, in plain words: price -> size in units."""
    found: dict[tuple[str, int], dict[int, int]] = {}
    table = tables["book_delta"]
    stamps = table.column("ts_recv").cast(pa.int64()).to_pylist()
    columns = [table.column(name).to_pylist() for name in ("instrument_id", "action", "side", "price", "size")]
    for stamp, name, action, side, price, size in zip(stamps, *columns, strict=True):
        if until_ns is not None and stamp >= until_ns:
            break
        if action == 4:
            found[name, 1], found[name, 2] = {}, {}
        elif action == 3:
            found[name, side].pop(price, None)
        else:
            found[name, side][price] = size
    return found


def rows_from(table: pa.Table, ts_ns: int) -> list[Any]:
    stamps = table.column("ts_recv").cast(pa.int64()).to_numpy()
    return table.filter(pa.array(stamps >= ts_ns)).to_pylist()


@pytest.mark.parametrize("run_messages", [7, 4096])
def test_a_replay_that_begins_in_the_middle_tells_each_book_first_and_goes_on_as_the_whole(
    recordings: Path, run_messages: int
) -> None:
    whole, _ = fed(several(recordings))
    stamps = whole["trade"].column("ts_recv").cast(pa.int64()).to_pylist()
    begin = "2021-07-22T22:25:55.5Z"
    begin_ns = parse_instant(begin)
    assert stamps[0] < begin_ns < stamps[-1]
    tables, feed = fed(several(recordings, begin=begin, batch_rows=run_messages))
    deltas = tables["book_delta"]
    first = deltas.filter(pa.array(deltas.column("ts_recv").cast(pa.int64()).to_numpy() == begin_ns))
    assert set(first.column("flags").to_pylist()) == {32, 32 | 128} and first.column("action")[0].as_py() == 4
    assert books_at({"book_delta": first}) == books_at(whole, begin_ns)
    assert deltas.slice(first.num_rows).to_pylist() == rows_from(whole["book_delta"], begin_ns)
    for kind in ("trade", "quote"):
        assert tables[kind].to_pylist() == rows_from(whole[kind], begin_ns)
    again = [batch for batches in feed.seek(begin_ns) for batch in batches]
    assert sum(batch.num_rows for batch in again) == sum(table.num_rows for table in tables.values())


def test_what_would_not_be_heeded_of_a_capture_is_refused(recordings: Path) -> None:
    """Who asks for ETHUSDT is not to have BTCUSDT."""
    path = str(recordings / SPOT)
    for words in (
        {"instrument": "ETHUSDT.BINANCE"}, {"columns": {"p": "price"}}, {"time_zone": "Europe/Berlin"},
        {"interval": "1m"}, {"price": "mid"}, {"stamp": "end"}, {"numbers": "float64"}, {"header": False},
    ):  # fmt: skip
        (name,) = words
        with pytest.raises(InputError, match=f"expected no `{name}`, since the messages .* remove it"):
            Replay(path=path, **words).record_schemas({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="snapshot_every: expected `depth` beside it"):
        Replay(path=path, snapshot_every="1s")


def test_a_replay_begins_at_the_nanosecond_it_is_told(recordings: Path) -> None:
    """The time of a row as it is printed is that row's, so the row before it does not come."""
    path = str(recordings / SPOT)
    tables, _ = fed(Replay(path=path, records=("trade",)))
    times = [time.value for time in tables["trade"].column("ts_recv")]
    place = next(at for at in range(1000, len(times)) if times[at] % 1000 and times[at] > times[at - 1])
    for told, rows in ((times[place], len(times) - place), (times[place] - 1, len(times) - place)):
        since, _ = fed(Replay(path=path, records=("trade",), begin=iso(told)))
        assert since["trade"].num_rows == rows
    late, _ = fed(Replay(path=path, records=("trade",), begin=iso(times[place] + 1)))
    assert late["trade"].num_rows == len([time for time in times if time > times[place]])
