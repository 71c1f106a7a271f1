"""A real capture of BitMEX: read to the last message, books equal to its own best quotes, faults told once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.messages.captures import open_captures
from stages.venues import venue_of
from tests import counted
from tests.stages.venues.interpreting_venues import after, equal, events, interpreted, spoilt


@pytest.fixture(scope="module")
def captured(request: pytest.FixtureRequest) -> list[RawMessage]:
    folder = Path(__file__).resolve().parents[5] / "shared" / "data" / "cryptofeed"
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}")
    return [message for run in open_captures(folder / "BITMEX.ws.1.0").runs() for message in run]


VENUE = venue_of(Messages.of_payloads([b""], [0], url="wss://www.bitmex.com/realtime"))


def test_every_message_is_accounted_for_and_nothing_is_wrong(captured: list[RawMessage], recordings: Path) -> None:
    interpreter = Interpreter(VENUE, Interpreting())
    interpreter.interpret(Messages.of(captured))
    figures = interpreter.ledger.figures()
    assert (figures["messages"], figures["quality"]) == (2124, {})
    assert figures["rows"] == {"book_delta": 14343, "quote": 436, "trade": 27}
    assert interpreter.decoder.control == {"opened": 1, "sent": 3, "info": 1, "reply": 30}
    books = interpreter.books
    assert [books.state(name).name for name in books.instruments_kept()] == ["LIVE"] * 10
    one = Interpreter(VENUE, Interpreting())
    one.interpret(*open_captures(recordings / "cryptofeed/BITMEX.0").runs())
    assert one.ledger.figures()["rows"] == {
        "funding_rate": 34, "open_interest": 34, "instrument_status": 34, "instrument": 34,
    }  # fmt: skip
    assert one.ledger.figures()["quality"] == {}


def test_a_price_too_fine_is_told_and_its_book_is_not_published(captured: list[RawMessage]) -> None:
    tables = interpreted(VENUE, captured, len(captured), price_scale=8)
    assert Counter(events(tables)) == {("parse_error", "TRXU21.BITMEX"): 5}
    said = tables["quality_event"]["detail"].to_pylist()
    assert all("a price scale of 10 holds it" in detail for detail in said)
    assert "TRXU21.BITMEX" not in tables["book_delta"]["instrument_id"].combine_chunks().dictionary_decode().to_pylist()


def test_books_are_equal_to_the_venue_s_best_quotes(captured: list[RawMessage]) -> None:
    """The last quote of each message is what the book had come to by then: of all 83 after the books' snapshots."""
    both = interpreted(VENUE, captured, len(captured), quotes="both")["quote"].to_pylist()
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    partial = {
        message.ingest_seq for message in captured if b'"table":"quote","action":"partial"' in message.payload[:40]
    }
    venue_s: dict[int, dict[str, Any]] = {row["ingest_seq"]: row for row in both if row["ts_event"] is not None}
    book: dict[str, tuple[Any, ...]] = {}
    compared = 0
    for row in both:
        told = tuple(row[name] for name in names)
        if row["ts_event"] is None:
            book[row["instrument_id"]] = told
        elif venue_s[row["ingest_seq"]] is row and row["ingest_seq"] not in partial:
            assert book[row["instrument_id"]] == told
            compared += 1
    assert compared == 83
    assert all(row["bid_price"] < row["ask_price"] for row in both if row["ts_event"] is None)


@pytest.mark.parametrize("size", [1, 7])
def test_cuts_make_no_difference(captured: list[RawMessage], size: int) -> None:
    some = captured[: 100 + 150 * size]
    settings: dict[str, Any] = {"depth": 5, "quotes": "both"}
    assert equal(interpreted(VENUE, some, size, **settings), interpreted(VENUE, some, len(some), **settings))


def test_it_goes_on_from_a_snapshot(captured: list[RawMessage]) -> None:
    captured = captured[:1200]
    whole = interpreted(VENUE, captured)
    first = interpreted(VENUE, captured[:900])
    rest = after(VENUE, captured[:900])(captured[900:])
    for kind, table in whole.items():
        assert table.to_pylist() == [*first[kind].to_pylist(), *(rest[kind].to_pylist() if kind in rest else ())]


# -- one fault, one event --------------------------------------------------------------------------------------------


class Levels:
    """An independent reading of which ids there are: the first message that cannot be true, by instrument."""

    def __init__(self) -> None:
        self.known: dict[str, set[int]] = {}
        self.wrong: list[tuple[str, str]] = []

    def read(self, message: RawMessage) -> None:
        if message.kind != MessageKind.RECEIVED:
            return
        told = json.loads(message.payload)
        if told.get("table") != "orderBookL2":
            return
        symbol, action = told["data"][0]["symbol"], told["action"]
        ids = {row["id"] for row in told["data"]}
        if action == "partial":
            self.known[symbol] = ids
        elif symbol in self.known:
            known = self.known[symbol]
            if (ids & known if action == "insert" else ids - known) != set():
                del self.known[symbol]
                self.wrong.append(("gap", f"{symbol}.BITMEX"))
            elif action != "update":
                self.known[symbol] = known | ids if action == "insert" else known - ids


BEGIN = 600
"""All books are known by then."""


@pytest.mark.parametrize("fault", ["dropped", "duplicated", "swapped", "cut"])
def test_one_fault_is_one_event_wherever_it_shows(fault: str, captured: list[RawMessage]) -> None:
    interpret = after(VENUE, captured[:BEGIN])
    begun = Levels()
    for message in captured[:BEGIN]:
        begun.read(message)
    rest = captured[BEGIN:1200]
    shown = tried = 0
    for at in range(1, 300, 23):
        told = json.loads(rest[at].payload)
        symbol = f"{told['data'][0]['symbol']}.BITMEX"
        if told["table"] != "orderBookL2":
            continue
        messages = list(rest)
        if fault == "swapped":
            same = f'"data":[{{"symbol":"{told["data"][0]["symbol"]}","id"'.encode()
            then = next(at for at in range(at + 1, len(rest)) if same in rest[at].payload)
            messages[at], messages[then] = rest[then], rest[at]
        else:
            messages = spoilt(fault, rest, at)
        found = events(interpret(messages))
        tried += 1
        shown += bool(found)
        if fault == "cut":
            has_symbol = f'"symbol":"{symbol.removesuffix(".BITMEX")}"'.encode() in messages[at].payload
            assert found == [("parse_error", symbol if has_symbol else None)]
        elif fault == "duplicated":
            assert found == [("duplicate", symbol)]
        else:
            expected = Levels()
            expected.known = {name: set(ids) for name, ids in begun.known.items()}
            for message in messages:
                expected.read(message)
            assert found == expected.wrong
            assert len(found) <= 1
    counted.count("faults in captures of BitMEX", tried)
    assert tried > 8
    assert shown == tried or fault in ("dropped", "swapped")
    if fault == "dropped":
        assert shown > 3, "an insert or a delete that is missing shows when its level is spoken of again"


def test_a_book_with_a_hole_waits_for_its_snapshot(captured: list[RawMessage]) -> None:
    partial = next(
        at
        for at, message in enumerate(captured)
        if b'"orderBookL2","action":"partial"' in message.payload and b'"filter":{"symbol":"XBTUSD"}' in message.payload
    )
    wrong = b'{"table":"orderBookL2","action":"delete","data":[{"symbol":"XBTUSD","id":1,"side":"Buy"}]}'
    messages = [
        *captured[:700],
        RawMessage(captured[699].ts_recv, 0, MessageKind.RECEIVED, captured[699].source, captured[699].url, wrong),
        *captured[700:1100],
        captured[partial],
    ]
    tables = interpreted(VENUE, messages)
    assert events(tables) == [("gap", "XBTUSD.BITMEX"), ("resync", "XBTUSD.BITMEX")]
    rows = [row for row in tables["book_delta"].to_pylist() if row["instrument_id"] == "XBTUSD.BITMEX"]
    later = {row["ingest_seq"] for row in rows if row["ingest_seq"] >= 700}
    assert later == {len(messages) - 1}, "nothing of it is published until then"


def test_a_book_message_without_its_symbol_stops_all_books_of_the_connection(captured: list[RawMessage]) -> None:
    cut = RawMessage(
        captured[699].ts_recv, 0, MessageKind.RECEIVED, captured[699].source, captured[699].url,
        b'{"table":"orderBookL2","action":"insert","da',
    )  # fmt: skip
    tables = interpreted(VENUE, [*captured[:700], cut, *captured[700:]])
    assert events(tables) == [("parse_error", None)]
    assert max(tables["book_delta"]["ingest_seq"].to_pylist()) < 700 < max(tables["quote"]["ingest_seq"].to_pylist())
