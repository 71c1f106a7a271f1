"""A live feed in a run, over real sockets: records come out, books are made whole, and nothing is left behind."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Batch, ConfigError, Context, Interrupted, Pipeline, Run, TopologyBuilder
from pipeline.testing import VirtualClock
from stages.interpreting import Interpreter
from stages.interpreting.settings import chosen
from stages.live import Live
from stages.live.conduct import Conduct
from stages.live.feed import LiveFeed
from stages.messages import Messages
from stages.schemas import KINDS, schema_of
from stages.venues import venue_named
from tests.conftest import ROOT, tasks_left
from tests.patience import SECONDS
from tests.stages.live.server import T0, Answer, LocalVenue, book, depth, local_venue, quote, trade


def recipe(server: LocalVenue, **settings: Any) -> Live:
    words = {"symbols": ("BTCUSDT",), "websocket_url": server.ws, "http_url": server.http, **settings}
    return Live(venue="binance_spot", **words)


def test_decimal_places_are_the_venue_s_unless_they_are_declared() -> None:
    venue = venue_named("bitmex")
    for declared in ({}, {"price_scale": 4}, {"size_scale": 3}, {"price_scale": 6, "size_scale": 2}):
        feed = Live(venue=venue.name, symbols=("XBTUSD",), **declared)  # type: ignore[arg-type]
        scales = venue.scales.declared(declared.get("price_scale"), declared.get("size_scale"))
        told = {kind: schema_of(kind, scales) for kind in KINDS}
        assert feed.record_schemas({}) == told and Interpreter(venue, chosen(feed)).scales == scales
    assert Live(venue="binance_spot", symbols=("BTCUSDT",)).record_schemas({})["trade"] == schema_of("trade")


class Rows:
    """What a subscriber of a live feed has seen, by kind of record."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.tables: dict[str, list[pa.RecordBatch]] = {}

    async def until(self, kind: str, rows: int) -> pa.Table:
        async with asyncio.timeout(SECONDS):
            while sum(batch.num_rows for batch in self.tables.get(kind, ())) < rows:
                batch = await anext(self.batches)
                self.tables.setdefault(batch.record, []).append(batch.columns)
        return pa.Table.from_batches(self.tables[kind])


@asynccontextmanager
async def following(server: LocalVenue, folder: Path, **settings: Any) -> AsyncIterator[tuple[Run, Rows]]:
    """A run with one live feed, and its rows; it is drained to its end, and then nothing is left."""
    graph = TopologyBuilder()
    graph.add("market", recipe(server, **settings))
    pipeline = Pipeline.from_topology(graph.build(), output=folder)
    async with pipeline.start() as run:
        async with run.subscribe("market") as batches:
            rows = Rows(batches)
            run.begin()
            yield run, rows
            run.drain()
        with pytest.raises(Interrupted):
            await run.finished()
    ours = [task for task in await tasks_left() if not (task.get_coro().__qualname__ or "").startswith("Server.")]
    assert not ours, "what is left is the venue's, which goes later"


async def flat(stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Batches of what a feed gives."""
    async for item in stream:
        for batch in item if isinstance(item, tuple) else ():
            yield batch


def kinds(events: pa.Table) -> list[str]:
    return events["kind"].to_pylist()


async def test_records_come_out_and_books_are_made_whole_from_a_snapshot(tmp_path: Path) -> None:
    async with local_venue() as server, following(server, tmp_path) as (_, rows):
        client = await server.client(1)
        for said in (trade(1), depth(99, 101), quote(7), trade(2)):
            await client.send(said)
        trades = await rows.until("trade", 2)
        assert trades["trade_id"].to_pylist() == ["1", "2"]
        deltas = await rows.until("book_delta", 6)
        assert server.asked == ["/api/v3/depth?symbol=BTCUSDT&limit=1000"]
        assert deltas["action"].to_pylist() == [4, 1, 1, 1, 1, 1], "a clear, and what is in the book, update applied"
        await client.send(depth(102, 102, "97"))
        deltas = await rows.until("book_delta", 7)
        assert deltas["sequence"].to_pylist()[-1] == 102


async def test_a_hole_in_a_book_is_a_gap_and_a_resync_from_a_new_snapshot_and_the_other_book_goes_on(
    tmp_path: Path,
) -> None:
    async with local_venue() as server, following(server, tmp_path, symbols=("BTCUSDT", "ETHUSDT")) as (_, rows):
        held = asyncio.Event()

        async def late() -> Answer:
            await held.wait()
            return 200, {}, book(110)

        client = await server.client(1)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            await client.send(depth(99, 101, symbol=symbol))
        await rows.until("book_delta", 12)
        server.answers.append(late)
        await client.send(depth(109, 110))
        await client.send(depth(111, 112))
        await server.until(lambda: len(server.asked) == 3)
        await client.send(depth(102, 103, symbol="ETHUSDT"))
        deltas = await rows.until("book_delta", 13)
        assert deltas["instrument_id"].to_pylist()[-1] == "ETHUSDT.BINANCE"
        held.set()
        deltas = await rows.until("book_delta", 13 + 6)
        assert set(deltas["instrument_id"].to_pylist()[13:]) == {"BTCUSDT.BINANCE"}
        assert deltas["action"].to_pylist()[13] == 4
        events = await rows.until("quality_event", 2)
        assert kinds(events) == ["gap", "resync"]
        assert events["missing"].to_pylist()[0] == 7


async def test_everything_a_server_can_say_is_borne(tmp_path: Path) -> None:
    said = [b"\xff\xfe", "", "null", "{", "[]", '{"e":"trade"}', "9" * 5000, '{"stream":"btcusdt@trade","data":7}']
    async with local_venue() as server, following(server, tmp_path) as (_, rows):
        client = await server.client(1)
        for each in said:
            await client.send(each)
            await client.send(each, text=isinstance(each, bytes))
        await client.send(trade(5))
        await rows.until("trade", 1)
        events = await rows.until("quality_event", 10)
        assert set(kinds(events)) == {"parse_error"}
        raws = set(events["raw"].to_pylist())
        assert b"\xff\xfe" in raws and b"{" in raws


async def test_a_host_that_refuses_snapshots_holds_no_trades_up_and_is_asked_until_it_gives_one() -> None:
    async with local_venue() as server:
        server.answers.extend([(429, {"Retry-After": "0"}, b"slow down")] * 7)
        feed = LiveFeed(recipe(server), Context(), Conduct(first_retry=0.02, longest_retry=0.04))
        stream = feed.batches()
        rows = Rows(flat(stream))
        first = asyncio.ensure_future(rows.until("trade", 1))
        client = await server.client(1)
        await client.send(depth(99, 101))
        await client.send(trade(1))
        await first
        deltas = await rows.until("book_delta", 6)
        assert deltas["action"].to_pylist()[0] == 4
        assert len(server.asked) == 8, "once more for each refusal, and nobody asks beside it"
        await stream.aclose()
        await asyncio.to_thread(feed.close)


async def test_a_silent_connection_is_told_and_opened_anew(tmp_path: Path) -> None:
    clock = VirtualClock(T0 * 1_000_000)
    async with local_venue() as server:
        feed = LiveFeed(recipe(server, stale_after="20s"), Context(clock=clock))
        got: list[Any] = []

        async def gather() -> None:
            async for item in feed.batches():
                got.append(item)

        gathering = asyncio.ensure_future(gather())
        client = await server.client(1)
        await client.send(trade(1))
        async with asyncio.timeout(SECONDS):
            while not any(isinstance(item, tuple) for item in got):
                await asyncio.sleep(0)
            while len(server.clients) < 2:
                await asyncio.sleep(0.001)  # sockets are real, and take real time
                await clock.advance(0.5)
        feed.stop()
        await asyncio.wait_for(gathering, SECONDS)
        await asyncio.to_thread(feed.close)
        rows = [row for item in got if isinstance(item, tuple) for batch in item for row in batch.columns.to_pylist()]
        told = [(row["kind"], row["channel"]) for row in rows if "kind" in row]
        assert sorted(told[:2]) == [("stale", "binance_spot/1"), ("stale", "trade")]
        assert ("disconnect", "binance_spot/1") in told
        assert any(row.get("detail") == "by us: it brings nothing" for row in rows)
        assert any(not isinstance(item, tuple) and item.idle for item in got)


async def test_whoever_records_has_each_run_before_it_is_interpreted() -> None:
    async with local_venue() as server:
        order: list[tuple[str, int]] = []

        async def record(messages: Messages) -> None:
            await asyncio.sleep(0)
            order.append(("recorded", int(messages.ingest_seq[-1])))

        feed = LiveFeed(recipe(server), Context(), Conduct(), record)
        interpret = feed.interpreter.interpret

        def read(run: Messages) -> Any:
            order.append(("read", int(run.ingest_seq[-1])))
            return interpret(run)

        feed.interpreter.interpret = read  # type: ignore[method-assign]
        stream = feed.batches()
        rows = Rows(flat(stream))
        first = asyncio.ensure_future(rows.until("trade", 2))
        client = await server.client(1)
        await client.send(trade(1))
        await client.send(trade(2))
        await first
        await stream.aclose()
        await asyncio.to_thread(feed.close)
        assert order[:2] == [("recorded", order[0][1]), ("read", order[0][1])]
        assert [what for what, _ in order] == ["recorded", "read"] * (len(order) // 2)


async def test_a_run_that_is_aborted_leaves_nothing(tmp_path: Path) -> None:
    async with local_venue() as server:
        graph = TopologyBuilder()
        graph.add("market", recipe(server))
        threads = {thread.name for thread in threading.enumerate()}
        async with Pipeline.from_topology(graph.build(), output=tmp_path).start() as run:
            run.begin()
            client = await server.client(1)
            await client.send(depth(99, 101))
            await server.until(lambda: bool(server.asked))
        left = {task.get_name() for task in await tasks_left()}
        assert not [name for name in left if name.startswith("penstock")]
        left = {thread.name for thread in threading.enumerate()} - threads
        assert not [name for name in left if not name.startswith("asyncio_")]
        async with asyncio.timeout(SECONDS):
            await client.wait_closed()


async def test_a_consumer_that_sleeps_makes_the_venue_wait_and_gets_everything(tmp_path: Path) -> None:
    async with local_venue() as server, following(server, tmp_path, buffer_messages=50) as (_, rows):
        client = await server.client(1)

        async def burst() -> None:
            for number in range(20_000):
                await client.send(trade(number))

        sending = asyncio.ensure_future(burst())
        trades = await rows.until("trade", 20_000)
        await sending
        assert trades["trade_id"].to_pylist() == [str(number) for number in range(20_000)]
        assert "quality_event" not in rows.tables


async def test_the_live_configuration_runs_against_another_address_and_leaves_bars_and_files(tmp_path: Path) -> None:
    async with local_venue() as server:
        pipeline = Pipeline.from_yaml(
            ROOT / "configs" / "live.yaml", output=tmp_path,
            overrides=[
                f"containers.market.websocket_url={server.ws}", f"containers.market.http_url={server.http}",
                "containers.market.symbols=[BTCUSDT]",
            ],
        )  # fmt: skip
        async with pipeline.start() as run, run.subscribe("market") as batches:
            rows = Rows(batches)
            run.begin()
            client = await server.client(1)
            for minute in range(3):
                await client.send(trade(minute, ms=T0 + minute * 60_000))
            await client.send(depth(99, 101))
            await client.send(quote(7))
            await rows.until("trade", 3)
            await rows.until("book_snapshot", 1)
            await rows.until("quote", 1)
            run.drain()
            with pytest.raises(Interrupted):
                await run.finished()
            folder = run.folder
        assert folder is not None
        read = {
            path.name: pq.read_table(path)
            for path in (folder / "run").iterdir()
            if path.is_dir() and any(path.glob("*.parquet"))
        }
        assert read["trades"].num_rows == 3
        assert read["minutes"]["close"].to_pylist() != []
        assert read["books"].num_rows >= 1 and read["quotes"].num_rows == 1
        assert read["quality"]["kind"].to_pylist() == ["disconnect"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("venue=binance_spto", "expected the name of a venue, found 'binance_spto'; did you mean 'binance_spot'?"),
        ("channels=[trades]", "channels: no stream brings 'trades'; did you mean 'trade'?"),
        ("symbols=[]", "symbols: expected at least one"),
        ("symbols=[btc/usdt]", "symbols: 'btc/usdt' is no symbol of binance_spot; did you mean 'BTCUSDT'?"),
        ("symbols=[BTCUSDT.BINANCE]", "did you mean 'BTCUSDT'?"),
        ("websocket_url=http://x", "websocket_url: expected an address such as ws://127.0.0.1:8765, found 'http://x'"),
        ("http_url=x", "http_url: expected an address such as http://127.0.0.1:8765, found 'x'"),
        ("stale_after=5", "write '5s'?"),
        ("records=[trades]", "expected kinds out of"),
        ("buffer_mb=0", "expected room for at least one message"),
    ],
)
def test_what_is_written_wrong_is_told_before_anything_is_dialled(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        Pipeline.from_yaml(ROOT / "configs" / "live.yaml", overrides=[f"containers.market.{setting}"])


def test_without_its_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pipeline import InputError

    monkeypatch.setitem(sys.modules, "stages.live.feed", None)
    with pytest.raises(InputError, match=re.escape("pip install 'penstock[live]'")):
        Live(venue="binance_spot", symbols=("BTCUSDT",)).build(Context())


async def test_a_run_that_goes_on_is_told_since_when_nothing_was_heard() -> None:
    async with local_venue() as server:
        feed = LiveFeed(recipe(server, channels=("trade",)), Context(), Conduct(first_retry=0.01))
        for ts_recv in (T0 * 10**6, 7):
            feed.had_given(
                Batch(pa.RecordBatch.from_pydict({"ts_recv": pa.array([ts_recv], pa.timestamp("ns", "UTC"))}))
            )
        stream = flat(feed.batches())
        first = await anext(stream)
        await stream.aclose()
        await asyncio.to_thread(feed.close)
    [event] = first.columns.to_pylist()
    assert (event["kind"], event["channel"], event["gap_start"].value) == ("reconnect", "binance_spot/1", T0 * 10**6)
    assert event["gap_end"] == event["ts_recv"]
