"""A real capture of Kraken: every message accounted for, every checksum right, and each fault found by one."""

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
from tests.stages.venues.interpreting_venues import after, equal, events, interpreted, run, spoilt
from tests.stages.venues.kraken.kraken_messages import FILES, as_v2, books_of, captured

V1, V2 = venue_named("kraken_v1"), venue_named("kraken")
PAIR = "XMR/USD"


@lru_cache(maxsize=4)
def _capture(*names: str) -> tuple[RawMessage, ...]:
    return tuple(captured(RECORDINGS, *names))


@pytest.fixture
def messages(recordings: Path) -> list[RawMessage]:
    return list(_capture(*FILES))


def _one_book(version: str) -> tuple[Venue, list[RawMessage]]:
    """One pair's snapshot and 300 changes."""
    book = books_of(_capture(FILES[-1]), PAIR)[:303]
    return (V1, book) if version == "v1" else (V2, as_v2(book))


def test_every_message_is_accounted_for_and_nothing_is_wrong(messages: list[RawMessage]) -> None:
    assert venue_of(Messages.of(messages)) is V1
    interpreter = Interpreter(V1, Interpreting())
    found = run(interpreter, messages)
    assert {kind: table.num_rows for kind, table in found.items()} == {
        "instrument": 293, "trade": 10, "quote": 18, "book_delta": 11755
    }  # fmt: skip
    assert interpreter.decoder.control == {
        "opened": 3, "sent": 3, "systemStatus": 3, "subscriptionStatus": 30, "heartbeat": 92
    }  # fmt: skip
    told = set().union(*(pc.unique(table["ingest_seq"]).to_pylist() for table in found.values()))
    assert len(told) + interpreter.decoder.control.total() == len(messages) == 4437


@pytest.mark.parametrize("venue", [V1, V2], ids=lambda venue: venue.name)
def test_every_checksum_is_right_in_either_version(venue: Venue, messages: list[RawMessage]) -> None:
    given = messages if venue is V1 else as_v2(_capture(FILES[-1]))
    checked = sum(b'"c":"' in message.payload or b'"checksum":' in message.payload for message in given)
    assert checked == (4269 if venue is V1 else 4269 + 10)
    interpreter = Interpreter(venue, Interpreting(records=("book_delta",)))
    assert run(interpreter, given).keys() == {"book_delta"}
    states = [interpreter.books.state(name).name for name in interpreter.books.instruments_kept()]
    assert states == ["LIVE"] * 10


def test_both_versions_say_the_same_of_a_book(messages: list[RawMessage]) -> None:
    (_, first), (_, second) = _one_book("v1"), _one_book("v2")
    first = [message for message in first if b"systemStatus" not in message.payload]
    one, two = interpreted(V1, first)["book_delta"], interpreted(V2, second)["book_delta"]
    columns = ["instrument_id", "action", "side", "price", "size", "flags", "ts_recv"]
    assert one.select(columns).to_pylist() == two.select(columns).to_pylist()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_wrong_checksum_is_told_wherever_it_is(version: str, messages: list[RawMessage]) -> None:
    venue, book = _one_book(version)
    for at in range(3, len(book), 60):
        told = book[at].payload
        place = told.index(b'"c":"' if version == "v1" else b'"checksum":') + (5 if version == "v1" else 11)
        other = told[:place] + (b"1" if told[place : place + 1] != b"1" else b"2") + told[place + 1 :]
        wrong = [*book[:at], msgspec.structs.replace(book[at], payload=other), *book[at + 1 :]]
        assert events(interpreted(venue, wrong)) == [("checksum", f"{PAIR}.KRAKEN")]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_how_messages_are_cut_into_runs_changes_nothing(version: str, messages: list[RawMessage]) -> None:
    venue, book = _one_book(version)
    if version == "v1":
        book = [*_capture(*FILES[1:3]), *book]
    book = spoilt("cut", spoilt("duplicated", book, len(book) - 150), len(book) - 20)
    whole = interpreted(venue, book, len(book), depth=3, quotes="both")
    assert len(events(whole)) == 2
    for cut in (1, 7):
        assert equal(whole, interpreted(venue, book, cut, depth=3, quotes="both"))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_it_goes_on_from_a_snapshot(version: str, messages: list[RawMessage]) -> None:
    venue, book = _one_book(version)
    whole = interpreted(venue, book)["book_delta"].to_pylist()
    first, second = (Interpreter(venue, Interpreting()) for _ in range(2))
    rows = [row for batch in first.interpret(Messages.of(book[:100])).batches for row in batch.to_pylist()]
    second.restore(first.snapshot())
    rows += [row for batch in second.interpret(Messages.of(book[100:])).batches for row in batch.to_pylist()]
    for row in (*rows, *whole):
        del row["ingest_seq"]
    assert rows == whole


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("fault", ["dropped", "duplicated", "swapped", "cut"])
def test_a_fault_in_a_book_is_one_event_at_most_and_no_wrong_best_levels(
    fault: str, version: str, messages: list[RawMessage]
) -> None:
    """A change that is missing shows where it touches the ten best levels: then by a checksum, once. Deeper ones
    nothing tells. Two that are swapped show where the first of them, come too early, does not fit its checksum."""
    venue, book = _one_book(version)
    instrument, kinds = f"{PAIR}.KRAKEN", {"duplicated": "duplicate", "cut": "parse_error"}
    told = tried = 0
    interpret, rest = after(venue, book[:100]), book[100:]
    for at in range(0, len(rest) - 2, 11):
        found = events(interpret(spoilt(fault, rest, at)))
        assert found in ([(kinds.get(fault, "checksum"), instrument)], []), (at, found)
        tried += 1
        told += len(found)
    assert told == tried or (fault in ("dropped", "swapped") and tried // 4 < told < tried)
    count("faults in Kraken's books", tried)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_book_whose_checksum_failed_goes_on_from_the_next_snapshot(version: str, messages: list[RawMessage]) -> None:
    """After another subscription, the snapshot comes in the stream."""
    venue, book = _one_book(version)
    start = next(
        at for at, message in enumerate(book) if b'"as":' in message.payload or b'"snapshot"' in message.payload
    )
    for at in range(start + 20, start + 60):
        broken = [*book[:at], *book[at + 1 : at + 40]]
        if events(interpreted(venue, broken)):
            break
    interpreter = Interpreter(venue, Interpreting())
    found = run(interpreter, [*broken, book[start]])
    assert [kind for kind, _ in events(found)] == ["checksum", "resync"]
    assert interpreter.books.state(f"{PAIR}.KRAKEN").name == "LIVE"


def test_a_lost_connection_stops_its_books_until_they_come_again(messages: list[RawMessage]) -> None:
    venue, book = _one_book("v2")
    closed = msgspec.structs.replace(book[100], kind=MessageKind.CLOSED, payload=b"gone")
    opened = msgspec.structs.replace(book[100], kind=MessageKind.OPENED, payload=b"")
    found = interpreted(venue, [*book[:100], closed, opened, *book[100:110], book[1]])
    assert [kind for kind, _ in events(found)] == ["disconnect", "reconnect", "resync"]


def test_a_book_update_that_does_not_fit_the_scale_stops_the_book_by_one_event(messages: list[RawMessage]) -> None:
    venue, book = _one_book("v2")
    fine = book[50].payload.replace(b'"qty":', b'"qty":1e-9,"unknown":', 1)
    found = events(interpreted(venue, [*book[:50], msgspec.structs.replace(book[50], payload=fine), *book[51:]]))
    assert found == [("parse_error", f"{PAIR}.KRAKEN")]
