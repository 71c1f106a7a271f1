"""Messages become records: nothing is wrong with clean captures, and one fault in them is one event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.messages.captures import open_captures
from stages.venues import venue_named, venue_of

SPOT, USDM = venue_named("binance_spot"), venue_named("binance_usdm")
SECOND = 1_000_000_000


def capture(recordings: Path, *names: str) -> list[RawMessage]:
    return [message for run in open_captures([recordings / name for name in names]).runs() for message in run]


def numbered(messages: Sequence[RawMessage]) -> list[RawMessage]:
    """As if they had come in this order."""
    return [msgspec.structs.replace(message, ingest_seq=seq) for seq, message in enumerate(messages)]


def interpreted(messages: Sequence[RawMessage], cut: int, venue: Any = None, **settings: Any) -> dict[str, pa.Table]:
    """All records by kind, of messages interpreted so many at a time."""
    runs = [Messages.of(messages[at : at + cut]) for at in range(0, len(messages), cut)]
    interpreter = Interpreter(venue or venue_of(Messages.of(messages)), Interpreting(**settings))
    return joined(batch for run in runs for batch in interpreter.interpret(run).batches)


def joined(batches: Iterator[pa.RecordBatch]) -> dict[str, pa.Table]:
    found: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:
        found.setdefault(batch.schema.metadata[b"record"].decode(), []).append(batch)
    return {kind: pa.Table.from_batches(parts) for kind, parts in found.items()}


def plain(tables: dict[str, pa.Table]) -> dict[str, list[Any]]:
    return {kind: table.to_pylist() for kind, table in tables.items()}


def events(tables: dict[str, pa.Table]) -> list[tuple[Any, ...]]:
    if "quality_event" not in tables:
        return []
    columns = ["kind", "channel", "instrument_id", "seq_expected", "seq_got", "missing"]
    return [tuple(row.values()) for row in tables["quality_event"].select(columns).to_pylist()]


FUTURES = ("cryptofeed/BINANCE_FUTURES.ws.1.0", "cryptofeed/BINANCE_FUTURES.http.0.0")
CLEAN = {
    "spot": (("hftbacktest/spot/btcusdt_20240808.gz", "hftbacktest/spot/btcusdt_20240809.gz"), (19904, 73174, 300080)),
    "coin-M": (tuple(f"hftbacktest/cm/btcusd_perp_2024080{day}.gz" for day in (8, 9)), (5235, 48355, 661398)),
    "USD-M": (("hftbacktest/usdm/btcusdt_20240808.gz",), (21313, 66089, 445207)),
    "several": (("cryptofeed/BINANCE.ws.1.0", "cryptofeed/BINANCE.http.0.0"), (2, 84, 5060)),
    "several of USD-M": (FUTURES, (91, 613, 11861)),
    "US": (("cryptofeed/BINANCE_US.ws.1.0", "cryptofeed/BINANCE_US.http.0.0"), (11, 128, 2293)),
}  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_wrong_with_a_clean_capture(name: str, recordings: Path) -> None:
    files, rows = CLEAN[name]
    interpreter = None
    for run in open_captures([recordings / file for file in files]).runs():
        interpreter = interpreter or Interpreter(venue_of(run), Interpreting())
        assert not any(
            batch.schema.metadata[b"record"] == b"quality_event" for batch in interpreter.interpret(run).batches
        )
    assert interpreter is not None
    figures = interpreter.ledger.figures()
    assert tuple(figures["rows"][kind] for kind in ("trade", "quote", "book_delta")) == rows
    assert figures["quality"] == {}
    books = [interpreter.books.state(name).name for name in interpreter.books.instruments_kept()]
    assert set(books) == {"LIVE"}


def test_how_messages_are_cut_into_runs_changes_nothing(recordings: Path) -> None:
    messages = capture(recordings, *FUTURES)
    del messages[700]
    messages[900:902] = messages[901], messages[900], messages[900]
    messages[950] = msgspec.structs.replace(messages[950], payload=messages[950].payload[:-9])
    messages = numbered(messages)
    whole = interpreted(messages, len(messages), depth=5, quotes="both")
    for cut in (1, 7, 500):
        assert plain(interpreted(messages, cut, depth=5, quotes="both")) == plain(whole)


def test_it_goes_on_from_a_snapshot_as_if_nothing_had_been(recordings: Path) -> None:
    messages = capture(recordings, *FUTURES)
    messages[800:802] = messages[801], messages[800], messages[800]
    messages = numbered(messages)
    whole = plain(interpreted(messages, 100))
    for at in (10, 300, 801, 1200):
        first, second = (Interpreter(USDM, Interpreting()) for _ in range(2))
        batches = list(first.interpret(Messages.of(messages[:at])).batches)
        second.restore(first.snapshot())
        batches += second.interpret(Messages.of(messages[at:])).batches
        assert plain(joined(iter(batches))) == whole, at
        assert second.ledger.figures()["messages"] == len(messages)


# -- one fault, one event --------------------------------------------------------------------------------------------


def trade(number: int, price: str = "100.5", symbol: str = "BTCUSDT", side: str = "true") -> bytes:
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":1700000000000,"s":"{symbol}","t":{number},'
        f'"p":"{price}","q":"2","T":1700000000000,"m":{side},"M":true}}}}'
    ).encode()


def quote(number: int, price: str = "100.5") -> bytes:
    return (
        f'{{"stream":"btcusdt@bookTicker","data":{{"u":{number},"s":"BTCUSDT","b":"{price}","B":"1","a":"101","A":"1"}}}}'
    ).encode()


def given(*payloads: bytes, kind: MessageKind = MessageKind.RECEIVED) -> list[RawMessage]:
    return [RawMessage(at * SECOND, at, kind, "one", "wss://x", payload) for at, payload in enumerate(payloads, 1)]


def told(*payloads: bytes) -> tuple[list[tuple[Any, ...]], dict[str, pa.Table]]:
    whole = interpreted(given(*payloads), 100, SPOT)
    one_by_one = interpreted(given(*payloads), 1, SPOT)
    assert plain(whole) == plain(one_by_one)
    return events(whole), whole


BTC = "BTCUSDT.BINANCE"


def test_a_trade_that_is_missing_is_a_gap_and_one_that_comes_late_is_no_second_one() -> None:
    found, tables = told(*map(trade, (11, 13, 12, 14)))
    assert found == [("gap", "trade", BTC, 12, 13, 1), ("out_of_order", "trade", BTC, 14, 12, None)]
    assert tables["trade"]["trade_id"].to_pylist() == ["11", "13", "12", "14"]
    event = tables["quality_event"].to_pylist()[0]
    assert (event["gap_start"].timestamp(), event["gap_end"].timestamp()) == (1, 2)


def test_a_trade_that_comes_twice_is_told_and_left_out() -> None:
    found, tables = told(*map(trade, (11, 12, 11, 12, 13)))
    assert found == [("duplicate", "trade", BTC, None, 11, None), ("duplicate", "trade", BTC, None, 12, None)]
    assert tables["trade"]["trade_id"].to_pylist() == ["11", "12", "13"]


def test_a_trade_that_comes_again_with_other_content_is_an_error_with_its_bytes() -> None:
    wrong = trade(11, "99")
    found, tables = told(trade(11), trade(12), wrong, trade(11, side="false"))
    assert [event[0] for event in found] == ["parse_error", "parse_error"]
    assert tables["quality_event"]["raw"][0].as_py() == wrong
    assert "trade 11 came before with another price" in tables["quality_event"]["detail"][0].as_py()
    assert tables["trade"].num_rows == 2


def test_instruments_are_counted_apart() -> None:
    found, _ = told(
        trade(1), trade(7, symbol="ETHUSDT"), trade(2), trade(8, symbol="ETHUSDT"), trade(10, symbol="ETHUSDT")
    )
    assert found == [("gap", "trade", "ETHUSDT.BINANCE", 9, 10, 1)]


def test_a_quote_older_than_the_last_is_left_out() -> None:
    found, tables = told(*map(quote, (5, 9, 7, 9, 12)))
    assert found == [("out_of_order", "quote", BTC, 10, 7, None), ("duplicate", "quote", BTC, None, 9, None)]
    assert tables["quote"]["sequence"].to_pylist() == [5, 9, 12]


def test_a_connection_that_is_lost_and_comes_back_is_told() -> None:
    messages = given(b"", trade(1), b"going away", b"again")
    kinds = [MessageKind.OPENED, MessageKind.RECEIVED, MessageKind.CLOSED, MessageKind.OPENED]
    messages = [msgspec.structs.replace(m, kind=kind) for m, kind in zip(messages, kinds, strict=True)]
    rows = interpreted(messages, 10, SPOT)["quality_event"].to_pylist()
    assert [(row["kind"], row["channel"], row["detail"]) for row in rows] == [
        ("disconnect", "one", "going away"),
        ("reconnect", "one", "again"),
    ]
    assert (rows[1]["gap_start"].timestamp(), rows[1]["gap_end"].timestamp()) == (3, 4)


FAULTS: dict[str, Callable[[list[RawMessage], int], None]] = {
    "dropped": lambda messages, at: messages.__delitem__(at),
    "duplicated": lambda messages, at: messages.insert(at, messages[at]),
    "cut": lambda messages, at: messages.__setitem__(
        at, msgspec.structs.replace(messages[at], payload=messages[at].payload[: len(messages[at].payload) // 2])
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_in_a_capture_is_one_event_about_the_right_instrument(fault: str, recordings: Path) -> None:
    """Each of the messages of trades, quotes and depth in a part of a real capture, one at a time."""
    messages = capture(recordings, *FUTURES)[:700]
    tried = 0
    for at in range(400, 690, 7 if fault == "cut" else 3):
        said = msgspec.json.decode(messages[at].payload)
        channel = said["stream"].partition("@")[2]
        instrument = f"{said['data']['s']}.BINANCE_USDM"
        follows = any(
            said["stream"] == msgspec.json.decode(later.payload).get("stream") for later in messages[at + 1 :]
        )
        if channel.startswith("kline") or not follows:
            continue
        spoilt = list(messages)
        FAULTS[fault](spoilt, at)
        found = events(interpreted(numbered(spoilt), 1000, USDM))
        if fault == "dropped" and channel == "bookTicker":
            assert found == [], "their numbers have holes by nature"
            continue
        assert len(found) == 1 and found[0][2] == instrument, (at, channel, found)
        kinds = {"dropped": "gap", "duplicated": "duplicate", "cut": "parse_error"}
        assert found[0][0] == kinds[fault], (at, channel, found)
        tried += 1
    assert tried > 15


def aggregate(number: int) -> bytes:
    return (
        trade(number)
        .replace(b'"e":"trade"', b'"e":"aggTrade"')
        .replace(b'"t":', b'"a":')
        .replace(b"@trade", b"@aggTrade")
    )


def test_trades_and_sums_of_trades_are_numbered_apart() -> None:
    found, tables = told(trade(100), aggregate(7), trade(101), aggregate(9), trade(102), trade(104))
    assert found == [("gap", "trade", BTC, 8, 9, 1), ("gap", "trade", BTC, 103, 104, 1)]
    types = tables["trade"]["trade_type"].to_pylist()
    assert types == ["regular", "aggregate", "regular", "aggregate", "regular", "regular"]
