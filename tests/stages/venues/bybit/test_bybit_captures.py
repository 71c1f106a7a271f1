"""Real captures of Bybit: read to the last message, books never crossed, faults told once."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.messages import MessageKind, Messages, RawMessage
from stages.messages.captures import open_captures
from stages.schemas import Scales
from stages.venues import venue_named, venue_of
from tests import counted
from tests.stages.venues.interpreting_venues import after, equal, events, interpreted, spoilt

V5, V2 = venue_named("bybit"), venue_named("bybit_v2")
FOLDER = Path(__file__).resolve().parents[5] / "shared" / "data"
XRP = "XRPUSDT.BYBIT"
CLEAN: dict[str, tuple[int, dict[str, int], dict[str, int]]] = {
    "BYBIT.ws.25.0": (3359, {"trade": 101, "book_delta": 20350}, {"opened": 1, "sent": 16, "reply": 16}),
    "BYBIT.ws.26.0": (1103, {"trade": 150, "book_delta": 2654}, {"opened": 1, "sent": 4, "reply": 4}),
    "BYBIT.0": (1, {"instrument": 15}, {}),
}


def capture(name: str) -> list[RawMessage]:
    if not FOLDER.is_dir():
        pytest.skip(f"real recordings are not at {FOLDER}")
    return [message for run in open_captures(FOLDER / "cryptofeed" / name).runs() for message in run]


@pytest.fixture(scope="module")
def linear() -> list[RawMessage]:
    return capture("BYBIT.ws.25.0")


@pytest.fixture(scope="module")
def lines() -> list[RawMessage]:
    """The venue's own file of a book of 500 levels: 50 messages of 5 seconds, as v5 writes them."""
    if not FOLDER.is_dir():
        pytest.skip(f"real recordings are not at {FOLDER}")
    with zipfile.ZipFile(FOLDER / "nautilus_trader/tests/test_data/bybit/xrpusdt-ob500.data.zip") as packed:
        payloads = packed.read(packed.namelist()[0]).splitlines()
    times = [1_000_000 * json.loads(payload)["ts"] for payload in payloads]
    return list(Messages.of_payloads(payloads, times, source="xrp"))


@pytest.mark.parametrize("name", CLEAN)
def test_every_message_is_accounted_for_and_nothing_is_wrong(name: str) -> None:
    count, rows, control = CLEAN[name]
    messages = Messages.of(capture(name))
    assert venue_of(messages) is V2
    interpreter = Interpreter(V2, Interpreting())
    interpreter.interpret(messages)
    figures = interpreter.ledger.figures()
    assert (figures["messages"], figures["rows"], figures["quality"]) == (count, rows, {})
    assert interpreter.decoder.control == control
    books = interpreter.books
    assert {books.state(name).name for name in books.instruments_kept()} <= {"LIVE"}


class PlainBook:
    """An independent reading: a dict for each side of prices as written."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"Buy": {}, "Sell": {}}

    def put(self, side: str, price: str, size: Any) -> None:
        if not Decimal(str(size)):
            del self.sides[side][Decimal(price)]
        else:
            self.sides[side][Decimal(price)] = Decimal(str(size))

    def best_first(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids, asks = (
            [(_units(price), _units(size)) for price, size in sorted(side.items())] for side in self.sides.values()
        )
        return bids[::-1], asks


def _units(number: Decimal) -> int:
    return int(number.scaleb(Scales().price))


def kept(interpreter: Interpreter, name: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    bids, asks = (
        list(zip(prices.tolist(), sizes.tolist(), strict=True)) for prices, sizes in interpreter.books.book(name)
    )
    return bids, asks


@pytest.mark.parametrize("name", ["BYBIT.ws.25.0", "BYBIT.ws.26.0"])
def test_books_of_v2_are_what_a_plain_reading_makes_of_them(name: str) -> None:
    """25 levels a side after each message, never crossed; at the end equal in every level."""
    messages = capture(name)
    books: dict[str, PlainBook] = {}
    compared = 0
    for message in messages:
        told = json.loads(message.payload) if message.kind == MessageKind.RECEIVED else {}
        if not told.get("topic", "").startswith("orderBookL2_25."):
            continue
        data = told["data"]
        if told["type"] == "snapshot":
            book = books[told["topic"].partition(".")[2]] = PlainBook()
            rows = data if isinstance(data, list) else data["order_book"]
        else:
            book = books[told["topic"].partition(".")[2]]
            rows = [{**row, "size": 0} for row in data["delete"]] + data["update"] + data["insert"]
        for row in rows:
            book.put(row["side"], row["price"], row["size"])
        assert [len(side) for side in book.sides.values()] == [25, 25]
        assert max(book.sides["Buy"]) < min(book.sides["Sell"])
        compared += 1
    interpreter = Interpreter(V2, Interpreting(quotes="book"))
    (quotes,) = (
        batch for batch in interpreter.interpret(Messages.of(messages)).batches
        if batch.schema.metadata[b"record"] == b"quote"
    )  # fmt: skip
    assert compared == {"BYBIT.ws.25.0": 3260, "BYBIT.ws.26.0": 1018}[name]
    assert {symbol: kept(interpreter, f"{symbol}.BYBIT") for symbol in books} == {
        symbol: book.best_first() for symbol, book in books.items()
    }
    assert all(row["bid_price"] < row["ask_price"] for row in quotes.to_pylist())


def test_a_book_of_v5_is_what_a_plain_reading_makes_of_it(lines: list[RawMessage]) -> None:
    assert venue_of(Messages.of(lines)) is V5
    interpreter, book = Interpreter(V5, Interpreting(quotes="book")), PlainBook()
    for message in lines:
        interpreter.interpret(Messages.of([message]))
        data = json.loads(message.payload)["data"]
        for side, levels in (("Buy", data["b"]), ("Sell", data["a"])):
            for price, size in levels:
                book.put(side, price, size)
        assert kept(interpreter, XRP) == book.best_first()
        assert [len(side) for side in book.sides.values()] == [500, 500], "what leaves the depth is deleted"
    figures = interpreter.ledger.figures()
    assert figures["quality"] == {} and figures["messages"] == 50
    assert figures["rows"]["book_delta"] == 1001 + sum(
        len(json.loads(message.payload)["data"][side]) for message in lines[1:] for side in "ab"
    )


@pytest.mark.parametrize("size", [1, 7])
def test_cuts_make_no_difference(size: int, linear: list[RawMessage], lines: list[RawMessage]) -> None:
    settings: dict[str, Any] = {"depth": 5, "quotes": "both"}
    for venue, messages in ((V2, linear[: 150 + 100 * size]), (V5, lines)):
        assert equal(
            interpreted(venue, messages, size, **settings), interpreted(venue, messages, len(messages), **settings)
        )


def test_it_goes_on_from_a_snapshot(linear: list[RawMessage], lines: list[RawMessage]) -> None:
    for venue, messages, at in ((V2, linear[:900], 400), (V5, lines, 20)):
        whole = interpreted(venue, messages)
        first, rest = interpreted(venue, messages[:at]), after(venue, messages[:at])(messages[at:])
        for kind, table in whole.items():
            assert table.to_pylist() == first[kind].to_pylist() + (rest[kind].to_pylist() if kind in rest else [])


# -- one fault, one event --------------------------------------------------------------------------------------------

BY_NUMBER = {
    "dropped": [("gap", XRP)],
    "duplicated": [("duplicate", XRP)],
    "swapped": [("gap", XRP), ("out_of_order", XRP)],
    "cut": [("parse_error", XRP)],
}


@pytest.mark.parametrize("fault", BY_NUMBER)
def test_one_fault_in_a_book_of_v5_is_told_once(fault: str, lines: list[RawMessage]) -> None:
    for at in range(2, 45, 4):
        assert events(interpreted(V5, spoilt(fault, lines, at))) == BY_NUMBER[fault]
    counted.count("faults in captures of Bybit", 11)


def test_a_book_of_v5_with_a_hole_waits_for_its_snapshot(lines: list[RawMessage]) -> None:
    again = json.loads(lines[0].payload)
    again["data"]["u"] = 1
    snapshot = RawMessage(lines[-1].ts_recv, 0, MessageKind.RECEIVED, "xrp", "", json.dumps(again).encode())
    tables = interpreted(V5, [*lines[:10], *lines[11:30], snapshot])
    assert events(tables) == [("gap", XRP), ("resync", XRP)]
    assert set(tables["book_delta"]["ingest_seq"].to_pylist()) == {*range(10), 29}


class Levels:
    """An independent reading of which prices there are: the first message that cannot be true, by instrument."""

    def __init__(self) -> None:
        self.known: dict[str, set[tuple[str, str]]] = {}
        self.last: dict[str, int] = {}
        self.wrong: list[tuple[str, str]] = []

    def read(self, message: RawMessage) -> None:
        told = json.loads(message.payload) if message.kind == MessageKind.RECEIVED else {}
        channel, _, symbol = told.get("topic", "").partition(".")
        if channel != "orderBookL2_25":
            return
        data, number = told["data"], int(told["cross_seq"])
        if told["type"] == "snapshot":
            self.known[symbol] = {(row["side"], row["price"]) for row in data["order_book"]}
        elif symbol in self.known:
            known = self.known[symbol]
            gone, kept, new = (
                {(row["side"], row["price"]) for row in data[what]} for what in ("delete", "update", "insert")
            )
            late = number <= self.last[symbol]
            if late or (gone | kept) - known or new & (known - gone):
                self.wrong.append(("out_of_order" if late else "gap", f"{symbol}.BYBIT"))
                del self.known[symbol]
            else:
                self.known[symbol] = (known - gone) | new
        self.last[symbol] = number


@pytest.mark.parametrize("fault", ["dropped", "duplicated", "swapped", "cut"])
def test_one_fault_in_a_book_of_v2_is_told_once_wherever_it_shows(fault: str, linear: list[RawMessage]) -> None:
    begin = 200
    interpret = after(V2, linear[:begin])
    begun = Levels()
    for message in linear[:begin]:
        begun.read(message)
    rest = linear[begin:800]
    tried: Counter[str] = Counter()
    for at in range(1, 300, 23):
        told = json.loads(rest[at].payload)
        channel, _, symbol = told["topic"].partition(".")
        if channel != "orderBookL2_25":
            continue
        messages = list(rest)
        if fault == "swapped":
            then = next(at for at in range(at + 1, len(rest)) if told["topic"].encode() in rest[at].payload)
            messages[at], messages[then] = rest[then], rest[at]
        else:
            messages = spoilt(fault, rest, at)
        found = events(interpret(messages))
        if fault in ("duplicated", "cut"):
            kind = "duplicate" if fault == "duplicated" else "parse_error"
            assert found == [(kind, f"{symbol}.BYBIT")]
        else:
            expected = Levels()
            expected.known = {name: set(known) for name, known in begun.known.items()}
            expected.last = dict(begun.last)
            for message in messages:
                expected.read(message)
            assert found == expected.wrong and len(found) <= 1
        tried["told" if found else "not to be seen"] += 1
    counted.count("faults in captures of Bybit", tried.total())
    assert tried.total() > 10
    assert tried["told"] > 3 if fault == "dropped" else tried["told"] == tried.total()
