"""Whatever bytes come from a venue that is read message by message: no exception, and one event with the bytes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import Messages
from stages.schemas import Names
from stages.venues import Venue, venue_named
from tests import counted
from tests.stages.venues.binance.binance_decoding import batches, received
from tests.stages.venues.coinbase import test_advanced, test_exchange
from tests.stages.venues.damage import damaged
from tests.stages.venues.kraken import test_kraken_v1, test_kraken_v2

ROUNDS = 120
"""Ways each message is damaged."""

V1 = [getattr(test_kraken_v1, name) for name in ("TRADES", "SPREAD", "TICKER", "CANDLE", "SNAPSHOT", "CHANGE")]
V2 = [
    test_kraken_v2.TRADE % ("update", "7.25", 4),
    '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":1.50,"bid_qty":2.5,"ask":1.6,"ask_qty":3e-2}]}',
    '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":1.5,"qty":0.136}],"asks":[],'
    '"checksum":2439117997,"timestamp":"2023-10-06T17:35:55.440295Z"}]}',
    '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1.5,"qty":0}],"asks":'
    '[{"price":1.7,"qty":1.25}],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}',
    '{"channel":"ohlc","type":"update","data":[{"symbol":"BTC/USD","interval":1,"interval_begin":"2023-10-04T16:25:00Z",'
    '"open":1.5,"high":1.6,"low":1.4,"close":1.5,"volume":3.25,"vwap":1.55,"trades":12}]}',
    '{"method":"subscribe","result":{"channel":"book","depth":25,"symbol":"ETH/USD"},"success":true}',
]
EXCHANGE = [
    test_exchange.MATCH % ("match", 10),
    *(getattr(test_exchange, name) for name in ("TICKER", "SNAPSHOT", "UPDATE")),
    '{"type":"status","products":[{"id":"B-C","base_currency":"B","quote_currency":"C","base_increment":"0.1",'
    '"quote_increment":"0.01"}]}',
]
_CHANGE = test_advanced.change("update", "BTC-USD", ("bid", "1.5", "0"), ("offer", "1.6", "2.25"))
_TRADE = {
    "trade_id": "7",
    "product_id": "BTC-USD",
    "price": "1.5",
    "size": "2",
    "side": "BUY",
    "time": "2026-04-07T14:30:02Z",
}
ADVANCED = [
    payload.decode()
    for payload in (
        test_advanced.envelope("l2_data", 5, {**_CHANGE, "type": "snapshot"}),
        test_advanced.envelope("l2_data", 6, _CHANGE),
        test_advanced.envelope("market_trades", 7, {"type": "update", "trades": [_TRADE]}),
        test_advanced.envelope("heartbeats", 8, {"heartbeat_counter": 4}),
    )
]
VENUES = {"kraken_v1": V1, "kraken": V2, "coinbase_exchange": EXCHANGE, "coinbase_advanced": ADVANCED}


@pytest.fixture(params=VENUES)
def spoken(request: pytest.FixtureRequest) -> tuple[Venue, list[str]]:
    return venue_named(request.param), VENUES[request.param]


def _spoilt(messages: list[str], rounds: int) -> list[bytes]:
    """Damaged messages in even places, good ones between them."""
    chance = random.Random(7)
    found: list[bytes] = []
    for message in messages:
        for _ in range(rounds):
            found += [damaged(message.encode(), chance), chance.choice(messages).encode()]
    return found


def _rows(batch: pa.RecordBatch, odd: bool) -> list[dict[str, Any]]:
    """Of good messages alone; what a book's update follows depends on those before it."""
    rows = batch.to_pylist()
    return [{**row, "prev_sequence": None} for row in rows if not odd or row["ingest_seq"] % 2]


def test_damage_leaves_one_event_and_every_other_message_as_it_was(spoken: tuple[Venue, list[str]]) -> None:
    venue, said = spoken
    payloads = _spoilt(said, ROUNDS)
    counted.count(f"damaged messages of {venue.name}", len(payloads) // 2)
    messages = received(*payloads)
    decoder = venue.decoder()
    found = batches(decoder, messages, Names())
    good = batches(venue.decoder(), Messages.of([row for row in messages if row.ingest_seq % 2]), Names())
    for kind, batch in good.items():
        assert _rows(found[kind], True) == _rows(batch, False)
    told: Counter[int] = Counter()
    for kind, batch in found.items():
        told.update(pc.unique(batch["ingest_seq"]).to_pylist() if kind != "instrument_status" else ())
    assert max(told.values()) == 1 and len(told) + decoder.control.total() == len(payloads)
    events = found["quality_event"]
    assert events.num_rows > len(payloads) // 4 and set(events["kind"].to_pylist()) == {"parse_error"}
    assert events["raw"].to_pylist() == [payloads[seq] for seq in events["ingest_seq"].to_pylist()]
    assert all(events["detail"].to_pylist())


def test_a_message_cut_anywhere_is_one_event(spoken: tuple[Venue, list[str]]) -> None:
    venue, said = spoken
    for message in said:
        payloads = [message.encode()[:end] for end in range(len(message))]
        (events,) = batches(venue.decoder(), received(*payloads), Names()).values()
        assert events["raw"].to_pylist() == payloads


def test_what_damaged_messages_come_to_does_not_depend_on_cuts(spoken: tuple[Venue, list[str]]) -> None:
    venue, said = spoken
    messages = received(*_spoilt(said, 12))
    found = []
    for cut in (1, 7, len(messages)):
        interpreter = Interpreter(venue, Interpreting())
        rows: dict[str, list[dict[str, Any]]] = {}
        for at in range(0, len(messages), cut):
            for batch in interpreter.interpret(messages.slice(at, min(at + cut, len(messages)))).batches:
                rows.setdefault(batch.schema.metadata[b"record"].decode(), []).extend(batch.to_pylist())
        found.append((rows, interpreter.decoder.control, interpreter.decoder.snapshot()))
    assert found[0] == found[1] == found[2]


GARBAGE = [
    "",
    " ",
    "null",
    "17",
    '"text"',
    "{}",
    "[[]]",
    "[1,2]",
    "[" * 100_000,
    '{"a":' * 100_000,
    "\x00" * 10,
    "\xff",
]


@pytest.mark.parametrize("payload", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_message_is_one_event(payload: str, spoken: tuple[Venue, list[str]]) -> None:
    venue, _ = spoken
    (events,) = batches(venue.decoder(), received(payload), Names()).values()
    assert events["raw"].to_pylist() == [payload.encode()] and "expected" in events["detail"][0].as_py()
