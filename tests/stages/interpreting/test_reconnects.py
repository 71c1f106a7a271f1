"""What comes twice because connections overlap is left out; what nobody sent while there was none is a gap."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.venues import venue_named

SPOT = venue_named("binance_spot")
BTC = "BTCUSDT.BINANCE"
CLOSED, OPENED = MessageKind.CLOSED, MessageKind.OPENED


def trade(number: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1700000000000,"s":"BTCUSDT","t":{number},'
        f'"p":"100.5","q":"2","T":1700000000000,"m":true,"M":true}}}}'
    ).encode()


def quote(number: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@bookTicker","data":{{"u":{number},"s":"BTCUSDT","b":"100","B":"1","a":"101","A":"1"}}}}'
    ).encode()


def depth(first: int, last: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1700000000000,"s":"BTCUSDT",'
        f'"U":{first},"u":{last},"b":[["99","{last}"]],"a":[]}}}}'
    ).encode()


BOOK = RawMessage(
    0, 0, MessageKind.RESPONSE, "http", "http://x/api/v3/depth?symbol=BTCUSDT&limit=1000",
    b'{"lastUpdateId":100,"bids":[["99","1"]],"asks":[["101","1"]]}',
)  # fmt: skip


def told(given: list[bytes | MessageKind | RawMessage], cut: int) -> tuple[dict[str, pa.Table], list[Any]]:
    messages = []
    for seq, what in enumerate(given):
        if isinstance(what, RawMessage):
            messages.append(RawMessage(seq, seq, what.kind, what.source, what.url, what.payload))
        elif isinstance(what, MessageKind):
            messages.append(RawMessage(seq, seq, what, "one", "wss://x", b"gone" if what == CLOSED else b""))
        else:
            messages.append(RawMessage(seq, seq, MessageKind.RECEIVED, "one", "wss://x", what))
    interpreter, found, requests = Interpreter(SPOT, Interpreting()), {}, []
    for begin in range(0, len(messages), cut):
        interpreted = interpreter.interpret(Messages.of(messages[begin : begin + cut]))
        requests += interpreted.requests
        for batch in interpreted.batches:
            found.setdefault(batch.schema.metadata[b"record"].decode(), []).append(batch)
    return {kind: pa.Table.from_batches(parts) for kind, parts in found.items()}, requests


def events(tables: dict[str, pa.Table]) -> list[tuple[Any, ...]]:
    columns = ["kind", "channel", "seq_got", "missing"]
    return [tuple(row.values()) for row in tables["quality_event"].select(columns).to_pylist()]


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_trades_that_both_connections_brought_are_one(cut: int) -> None:
    tables, _ = told([OPENED, *map(trade, (7, 8, 9)), CLOSED, OPENED, *map(trade, (8, 9, 10, 11))], cut)
    assert tables["trade"]["trade_id"].to_pylist() == ["7", "8", "9", "10", "11"]
    assert events(tables) == [
        ("disconnect", "one", None, None), ("reconnect", "one", None, None),
        ("duplicate", "trade", 8, None), ("duplicate", "trade", 9, None),
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_trades_that_came_while_there_was_no_connection_are_one_gap(cut: int) -> None:
    tables, _ = told([OPENED, trade(7), CLOSED, OPENED, trade(11), trade(12)], cut)
    assert events(tables)[2:] == [("gap", "trade", 11, 3)]


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_quotes_that_both_connections_brought_are_one_and_older_ones_are_left_out(cut: int) -> None:
    tables, _ = told([OPENED, quote(7), quote(9), CLOSED, OPENED, quote(7), quote(9), quote(12)], cut)
    assert tables["quote"]["sequence"].to_pylist() == [7, 9, 12]
    assert events(tables)[2:] == [("out_of_order", "quote", 7, None), ("duplicate", "quote", 9, None)]


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_a_book_whose_updates_overlap_goes_on_without_a_snapshot(cut: int) -> None:
    given = [OPENED, depth(100, 101), BOOK, depth(102, 104), CLOSED, OPENED, depth(102, 104), depth(105, 105)]
    tables, requests = told(given, cut)
    assert [each.instrument_id for each in requests] == [BTC], "the first one"
    assert events(tables)[2:] == [("duplicate", None, 104, None)]
    assert tables["book_delta"]["sequence"].to_pylist()[-2:] == [104, 105]


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_a_book_that_missed_updates_meanwhile_asks_for_a_snapshot_once(cut: int) -> None:
    given = [OPENED, depth(100, 101), BOOK, depth(102, 104), CLOSED, OPENED, depth(109, 110), depth(111, 112)]
    tables, requests = told(given, cut)
    assert [each.instrument_id for each in requests] == [BTC, BTC]
    kinds = [event[0] for event in events(tables)]
    assert kinds == ["disconnect", "reconnect", "gap"]
    assert tables["book_delta"]["sequence"].to_pylist()[-1] == 104


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_a_snapshot_that_was_refused_is_not_asked_for_by_its_book_but_by_whoever_was_refused(cut: int) -> None:
    refused = RawMessage(0, 0, MessageKind.FAILED, "http", BOOK.url, b"429 too many")
    tables, requests = told([OPENED, depth(100, 101), refused, refused, BOOK, depth(102, 104)], cut)
    assert [each.instrument_id for each in requests] == [BTC], "two would bring the same book twice"
    assert tables["book_delta"]["sequence"].to_pylist()[-1] == 104


def test_a_venue_that_could_not_be_reached_at_first_is_reached_again() -> None:
    tables, _ = told([CLOSED, OPENED, trade(1)], 1)
    assert [event[0] for event in events(tables)] == ["disconnect", "reconnect"]
