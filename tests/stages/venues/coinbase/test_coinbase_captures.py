"""A real capture of Coinbase: every message accounted for, the same by either protocol, and what of faults is found."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec
import pyarrow.compute as pc
import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.venues import Venue, venue_named, venue_of
from tests.conftest import DATA as RECORDINGS
from tests.counted import count
from tests.stages.venues.coinbase.coinbase_messages import FILES, about, as_advanced, captured
from tests.stages.venues.interpreting_venues import after, equal, events, interpreted, run, spoilt

EXCHANGE, ADVANCED = venue_named("coinbase_exchange"), venue_named("coinbase_advanced")
PRODUCT = "SKL-USD"
SEVERAL = ("SKL-USD", "NMR-EUR", "BAND-GBP")


@lru_cache(maxsize=1)
def _capture() -> tuple[RawMessage, ...]:
    return tuple(captured(RECORDINGS, *FILES))


@pytest.fixture
def messages(recordings: Path) -> list[RawMessage]:
    return list(_capture())


def _some(venue: Venue, messages: list[RawMessage], *products: str) -> list[RawMessage]:
    some = about(messages, *products)
    return some if venue is EXCHANGE else as_advanced(some)


def test_every_message_is_accounted_for_and_nothing_is_wrong(messages: list[RawMessage]) -> None:
    assert venue_of(Messages.of(messages)) is EXCHANGE
    interpreter = Interpreter(EXCHANGE, Interpreting())
    found = run(interpreter, messages)
    assert {kind: table.num_rows for kind, table in found.items()} == {
        "instrument": 162, "instrument_status": 162, "trade": 107, "quote": 107, "book_delta": 18091
    }  # fmt: skip
    assert interpreter.decoder.control == {"opened": 1, "sent": 3, "subscriptions": 3}
    told = set().union(*(pc.unique(table["ingest_seq"]).to_pylist() for table in found.values()))
    assert len(told) + interpreter.decoder.control.total() == len(messages) == 9951
    states = [interpreter.books.state(name).name for name in interpreter.books.instruments_kept()]
    assert states == ["LIVE"] * 10


def test_a_trade_s_aggressor_is_what_the_ticker_says_of_it(messages: list[RawMessage]) -> None:
    """A ticker has the taker's side of the same trade, a match the maker's."""
    sides = {}
    for message in messages:
        if message.payload.startswith(b'{"type":"ticker"'):
            told = msgspec.json.decode(message.payload)
            sides[f"{told['product_id']}.COINBASE", told["trade_id"]] = {"buy": 1, "sell": 2}[told["side"]]
    rows = interpreted(EXCHANGE, messages)["trade"].to_pylist()
    found = [(row["aggressor_side"], sides.get((row["instrument_id"], row["sequence"]))) for row in rows]
    assert len([pair for pair in found if pair[1]]) > 100 and all(one == two for one, two in found if two)


def test_both_protocols_say_the_same(messages: list[RawMessage]) -> None:
    one, two = interpreted(EXCHANGE, messages[1:]), interpreted(ADVANCED, as_advanced(messages))
    assert two.keys() == {"trade", "book_delta"}
    for kind in two:
        columns = [name for name in one[kind].schema.names if name not in ("ingest_seq", "sequence", "prev_sequence")]
        left, right = (found[kind].select(columns).to_pylist() for found in (one, two))
        for row in (*left, *right):
            row["ts_event"] = None if row.get("action") in (1, 4) else row["ts_event"]
        assert left == right


@pytest.mark.parametrize("venue", [EXCHANGE, ADVANCED], ids=lambda venue: venue.name)
def test_how_messages_are_cut_into_runs_changes_nothing(venue: Venue, messages: list[RawMessage]) -> None:
    some = _some(venue, messages, *SEVERAL)[:400]
    some = spoilt("cut", spoilt("duplicated", spoilt("dropped", some, 300), 200), 100)
    some = [*some[:350], msgspec.structs.replace(some[350], kind=MessageKind.CLOSED, payload=b""), *some[350:]]
    whole = interpreted(venue, some, len(some), depth=3, quotes="both")
    assert {"duplicate", "parse_error", "disconnect"} <= {kind for kind, _ in events(whole)}
    for cut in (1, 7):
        assert equal(whole, interpreted(venue, some, cut, depth=3, quotes="both"))


@pytest.mark.parametrize("venue", [EXCHANGE, ADVANCED], ids=lambda venue: venue.name)
def test_it_goes_on_from_a_snapshot(venue: Venue, messages: list[RawMessage]) -> None:
    some = _some(venue, messages, *SEVERAL)[:300]
    some = spoilt("cut", some, 149)
    whole, interpret = interpreted(venue, some), after(venue, some[:150])
    first, second = interpreted(venue, some[:150]), interpret(some[150:])
    for kind, table in whole.items():
        rows = [row for found in (first, second) if kind in found for row in found[kind].to_pylist()]
        assert rows == table.to_pylist()


@pytest.mark.parametrize("fault", ["dropped", "duplicated", "swapped", "cut"])
def test_a_fault_in_a_numbered_book_is_told_once(fault: str, messages: list[RawMessage]) -> None:
    book = as_advanced(about(messages, PRODUCT))
    book = [message for message in book if b'"market_trades"' not in message.payload]
    book = as_advanced_again(book)
    expected = {
        "dropped": ["gap"],
        "duplicated": ["duplicate"],
        "swapped": ["gap", "out_of_order"],
        "cut": ["parse_error"],
    }
    interpret, rest = after(ADVANCED, book[:50]), book[50:350]
    for at in range(0, len(rest) - 3, 13):
        found = events(interpret(spoilt(fault, rest, at)))
        assert found == [(kind, f"{PRODUCT}.COINBASE") for kind in expected[fault]], at
    count("faults in Coinbase's books", len(rest) // 13)


def as_advanced_again(messages: list[RawMessage]) -> list[RawMessage]:
    """Numbered anew from 0."""
    found, number = [], 0
    for message in messages:
        payload = message.payload
        if message.kind == MessageKind.RECEIVED:
            told = msgspec.json.decode(payload)
            payload = msgspec.json.encode({**told, "sequence_num": number})
            number += 1
        found.append(msgspec.structs.replace(message, payload=payload))
    return found


def test_what_is_missing_of_a_connection_is_told_of_each_of_its_books(messages: list[RawMessage]) -> None:
    some = as_advanced(about(messages, *SEVERAL))
    at = next(at for at in range(200, 400) if b'"l2_data"' in some[at].payload)
    found = events(interpreted(ADVANCED, spoilt("dropped", some, at)))
    assert sorted(found, key=str) == [("gap", f"{product}.COINBASE") for product in sorted(SEVERAL)]


def test_a_message_of_books_whose_product_cannot_be_read_stops_all_of_them_by_one_event(
    messages: list[RawMessage],
) -> None:
    for venue, text in ((ADVANCED, b'"product_id":'), (EXCHANGE, b'"product_id":')):
        some = _some(venue, messages, *SEVERAL)
        at = next(at for at in range(200, 400) if b'"l2' in some[at].payload)
        cut = msgspec.structs.replace(some[at], payload=some[at].payload[: some[at].payload.index(text)])
        interpreter = Interpreter(venue, Interpreting())
        found = run(interpreter, [*some[:at], cut, *some[at + 1 :]])
        assert events(found) == [("parse_error", None)]
        assert {interpreter.books.state(f"{product}.COINBASE").name for product in SEVERAL} == {"SYNCING"}


@pytest.mark.parametrize("fault", ["dropped", "duplicated", "swapped", "cut"])
def test_of_a_book_without_numbers_only_what_comes_twice_or_is_unreadable_is_found(
    fault: str, messages: list[RawMessage]
) -> None:
    """Nothing in the Exchange's updates tells of one that is missing or of two that are swapped."""
    some = [message for message in about(messages, PRODUCT) if b'"match"' not in message.payload]
    interpret, rest = after(EXCHANGE, some[:50]), some[50:350]
    expected = {"duplicated": "duplicate", "cut": "parse_error"}
    tried = 0
    for at in range(0, len(rest) - 3, 13):
        if b'"l2update"' not in rest[at].payload:
            continue
        found = events(interpret(spoilt(fault, rest, at)))
        if fault in expected:
            assert found == [(expected[fault], f"{PRODUCT}.COINBASE")], at
        else:
            assert {kind for kind, _ in found} <= {"crossed", "out_of_order"}, at
        tried += 1
    assert tried > 15


@pytest.mark.parametrize("venue", [EXCHANGE, ADVANCED], ids=lambda venue: venue.name)
def test_a_missing_trade_is_a_gap_and_an_unreadable_one_is_no_second_event(
    venue: Venue, messages: list[RawMessage]
) -> None:
    mark = b'"match"' if venue is EXCHANGE else b'"market_trades"'
    trades = [message for message in _some(venue, messages, "SKL-BTC") if mark in message.payload]
    assert len(trades) > 7 and not events(interpreted(venue, trades))
    for at in range(1, len(trades) - 1):
        assert events(interpreted(venue, spoilt("dropped", trades, at))) == [("gap", "SKL-BTC.COINBASE")]
        assert events(interpreted(venue, spoilt("cut", trades, at))) == [("parse_error", "SKL-BTC.COINBASE")]


def test_a_connection_that_begins_anew_brings_its_books_anew(messages: list[RawMessage]) -> None:
    """Numbers begin at 0 again, also where the new snapshot has the very number of the last update."""
    book = as_advanced_again([m for m in as_advanced(about(messages, PRODUCT)) if b'"market_trades"' not in m.payload])
    snapshot = next(message for message in book if b'"snapshot"' in message.payload)
    told = msgspec.json.decode(snapshot.payload)
    told |= {"timestamp": "2021-04-17T16:43:50Z"}
    told["events"][0]["updates"] = told["events"][0]["updates"][:-3]
    other = msgspec.structs.replace(snapshot, payload=msgspec.json.encode(told))
    closed, opened = (
        msgspec.structs.replace(snapshot, kind=kind, payload=b"") for kind in (MessageKind.CLOSED, MessageKind.OPENED)
    )
    head = book[: book.index(snapshot) + 1]
    interpreter = Interpreter(ADVANCED, Interpreting())
    found = run(interpreter, [*head, closed, opened, other, *book[len(head) : len(head) + 50]])
    assert [kind for kind, _ in events(found)] == ["disconnect", "reconnect"]
    (bids, _), (asks, _) = interpreter.books.book(f"{PRODUCT}.COINBASE")
    clears = [row["ingest_seq"] for row in found["book_delta"].to_pylist() if row["action"] == 4]
    assert len(clears) == 2 and len(bids) and len(asks)


def test_a_numbered_book_that_broke_goes_on_by_the_next_connection(messages: list[RawMessage]) -> None:
    """Its numbers are those of the connection before again, and repeat none of it."""
    book = as_advanced_again([m for m in as_advanced(about(messages, PRODUCT)) if b'"market_trades"' not in m.payload])[
        :60
    ]
    closed = msgspec.structs.replace(book[0], kind=MessageKind.CLOSED, payload=b"")
    interpreter = Interpreter(ADVANCED, Interpreting())
    found = run(interpreter, [*book[:30], *book[31:40], closed, *book])
    assert [kind for kind, _ in events(found)] == ["gap", "disconnect", "reconnect", "resync"]
    assert interpreter.books.state(f"{PRODUCT}.COINBASE").name == "LIVE"
