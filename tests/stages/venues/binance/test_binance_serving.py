"""What clients and recordings say to Binance's side of the conversation is answered or left out; nothing raises."""

from __future__ import annotations

import pytest

from stages.venues.binance.serving import BinanceServer
from stages.venues.serving import BookAsked, Event, Reply, Subscriptions
from tests.stages.venues.binance.binance_decoding import received

SERVER = BinanceServer("/api/v3/depth")
DEEP = '{"a":' * 100_000
NO_TEXT = b"\xff\xfe"


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"method":"' + NO_TEXT + b'"}', DEEP, DEEP.encode()])
def test_a_request_that_cannot_be_read_is_refused(said: bytes | str) -> None:
    answer = SERVER.answer(said, Subscriptions())
    assert answer is not None and b'"code":3' in answer


def test_recorded_messages_that_cannot_be_read_are_of_no_stream_that_is_known() -> None:
    good = b'{"e":"trade","s":"AB"}'
    spoilt = [b'{"e":"trade","s":"' + NO_TEXT + b'"}', b'{"e":"trade","s":"AB","k":' + DEEP.encode(), b"{"]
    assert SERVER.events(received(good, *spoilt)) == [Event("ab@trade", good), None, None, None]
    (wrapped,) = SERVER.events(received(b'{"stream":"' + NO_TEXT + b'","data":{}}'))
    assert wrapped is not None and wrapped.data == b"{}"


@pytest.mark.parametrize(
    "body", [b"", b'{"lastUpdateId":1,"bids":[["' + NO_TEXT + b'","1"]],"asks":[]}', DEEP.encode()]
)
def test_a_body_that_is_no_book_tells_none(body: bytes) -> None:
    assert SERVER.told(body, "AB", 0) is None


@pytest.mark.parametrize(("limit", "levels"), [("7", 7), ("007", 7), ("9" * 20, 5000)])
def test_a_book_is_asked_for_by_a_number_of_levels(limit: str, levels: int) -> None:
    asked = SERVER.asked(f"/api/v3/depth?symbol=ab&limit={limit}")
    assert isinstance(asked, BookAsked) and (asked.symbol, asked.limit) == ("AB", levels)


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "9" * 21, "0" * 5000 + "7", "\u0663"])
def test_a_number_of_levels_that_is_none_is_refused(limit: str) -> None:
    refused = SERVER.asked(f"/api/v3/depth?symbol=AB&limit={limit}")
    assert isinstance(refused, Reply) and refused.status == 400
