"""Messages of Coinbase Advanced Trade, from single recorded ones, become these rows."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stages.schemas import Names
from stages.venues import venue_named
from stages.venues.coinbase.numbers import Numbers
from tests.stages.venues.binance.binance_decoding import batches, decoded, received, response, values

ADVANCED = venue_named("coinbase_advanced")
FIXTURES = "nautilus_trader/crates/adapters/coinbase/test_data"


def fixture(recordings: Path, name: str) -> bytes:
    return (recordings / FIXTURES / f"ws_{name}.json").read_bytes()


def envelope(channel: str, number: int, *events: object) -> bytes:
    body = {"channel": channel, "client_id": "", "timestamp": "2026-04-07T14:30:00Z", "sequence_num": number}
    return msgspec.json.encode({**body, "events": events})


def change(kind: str, product: str, *levels: tuple[str, str, str]) -> dict[str, object]:
    return {
        "type": kind,
        "product_id": product,
        "updates": [
            {"side": side, "event_time": "2026-04-07T14:30:01.5Z", "price_level": price, "new_quantity": size}
            for side, price, size in levels
        ],
    }


def test_a_trade_s_aggressor_is_the_other_side_than_the_maker_s(recordings: Path) -> None:
    rows = decoded(ADVANCED, received(fixture(recordings, "market_trades")))["trade"]
    assert values(rows, "ts_event", "price", "size", "aggressor_side", "trade_id", "sequence") == [
        (1775572202789012000, "68900.5", "0.0015", 2, "995098700", 995098700),
        (1775572202800000000, "68900", "0.05", 1, "995098701", 995098701),
    ]


def test_trades_are_told_in_the_order_of_their_numbers(recordings: Path) -> None:
    told = msgspec.json.decode(fixture(recordings, "market_trades"))
    told["events"][0]["trades"].reverse()
    rows = decoded(ADVANCED, received(msgspec.json.encode(told)))
    assert rows == decoded(ADVANCED, received(fixture(recordings, "market_trades")))


def test_best_quotes_and_candles_of_five_minutes(recordings: Path) -> None:
    rows = decoded(ADVANCED, received(fixture(recordings, "ticker"), fixture(recordings, "candles")))
    assert values(rows["quote"], "ts_event", "bid_price", "bid_size", "ask_price", "ask_size") == [
        (1775572203000000000, "68900", "1.5", "68901", "0.5")
    ]
    (bar,) = rows["bar"]
    assert (bar["bar_start"], bar["bar_end"]) == (1775521800 * 10**9, 1775522100 * 10**9)
    assert (bar["open"], bar["close"], bar["volume"], bar["is_complete"]) == ("68900", "68920.5", "42.15", False)


def test_books_are_a_snapshot_and_changes_that_say_what_they_follow(recordings: Path) -> None:
    messages = received(fixture(recordings, "l2_data_snapshot"), fixture(recordings, "l2_data_update"))
    rows = decoded(ADVANCED, messages)["book_delta"]
    assert [row["action"] for row in rows] == [4, 1, 1, 1, 1, 1, 1, 2, 3]
    assert values(rows[7:], "ts_event", "side", "price", "size", "sequence", "prev_sequence") == [
        (1775572201456789000, 1, "68900", "2", 1, 0), (1775572201456789000, 2, "68901", "0", 1, 0)
    ]  # fmt: skip
    assert rows[0]["ts_event"] == 1775572200123456000 and "prev_sequence" not in rows[0]


def test_events_of_one_product_in_a_message_are_one_change() -> None:
    first = change("snapshot", "A-B", ("bid", "1", "1"), ("bid", "2", "2"))
    events = [first, change("update", "A-B", ("bid", "2", "0")), change("update", "C-D", ("offer", "3", "1"))]
    rows = decoded(ADVANCED, received(envelope("l2_data", 4, *events)))["book_delta"]
    assert values(rows, "instrument_id", "action", "price", "flags") == [
        ("A-B.COINBASE", 4, "0", 32), ("A-B.COINBASE", 1, "1", 32), ("A-B.COINBASE", 1, "2", 32),
        ("A-B.COINBASE", 3, "2", 160), ("C-D.COINBASE", 2, "3", 128),
    ]  # fmt: skip


def test_heartbeats_and_the_like_are_known_and_move_the_number(recordings: Path) -> None:
    decoder = ADVANCED.decoder()
    subscriptions = envelope("subscriptions", 1, {"subscriptions": {}})
    batch = envelope("ticker_batch", 2, {"tickers": []})
    assert batches(decoder, received(fixture(recordings, "heartbeats"), subscriptions, batch), Names()) == {}
    assert decoder.control == {"heartbeats": 1, "subscriptions": 1, "ticker_batch": 1}
    assert decoder.snapshot()["numbers"]["one"]["highest"] == 2
    refused = '{"type":"error","message":"failure to subscribe"}'
    (event,) = decoded(ADVANCED, received(refused))["quality_event"]
    assert "failure to subscribe" in event["detail"]


def test_numbers_of_a_connection_tell_each_book_whether_anything_is_missing() -> None:
    numbers = Numbers()
    follows: list[int | None] = []
    for number, product in enumerate(["", "A", "B", "", "A", "B"]):
        numbers.arrived(number)
        if product:
            follows.append(numbers.book(product, number))
    assert follows == [0, 1, 1, 2], "a first one follows its own number, a later one the book's last"
    numbers.arrived(7)
    assert numbers.book("A", 7) == 6, "6 is missing, and may have been of any book"
    numbers.arrived(8)
    assert numbers.book("B", 8) == 7 and numbers.book("A", 8) == 7
    numbers.unread += 1
    numbers.arrived(10)
    assert numbers.book("A", 10) == 8, "one came that could not be read: that is told already"
    numbers.arrived(0)
    assert numbers.book("A", 0) is None and numbers.books == {"A": 0}, "a connection begins"


def test_products_are_told_by_the_status_channel_and_by_http() -> None:
    product = {"base_increment": "0.00000001", "quote_increment": "0.01", "status": "online", "status_message": ""}
    told = {"product_type": "SPOT", "id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", **product}
    listed = {"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD", "price_increment": "0.05",
              "product_type": "SPOT", **product}  # fmt: skip
    rows = decoded(ADVANCED, received(envelope("status", 0, {"type": "snapshot", "products": [told]})))
    assert values(rows["instrument"], "instrument_id", "base", "price_increment", "asset_class") == [
        ("BTC-USD.COINBASE", "BTC", "0.01", "spot")
    ]
    assert values(rows["instrument_status"], "action") == ["trading"]
    body = msgspec.json.encode({"products": [listed], "num_products": 1}).decode()
    rows = decoded(ADVANCED, response(body, "https://api.coinbase.com/api/v3/brokerage/market/products"))
    assert values(rows["instrument"], "quote", "price_increment") == [("USD", "0.05")]


def test_books_have_connections_of_their_own_and_heartbeats_keep_each() -> None:
    others, books = ADVANCED.connections(["BTC-USD"], ["trade", "book_delta", "instrument"])
    assert (others.streams, books.streams) == (("status", "market_trades:BTC-USD"), ("level2:BTC-USD",))
    heartbeats = {"type": "subscribe", "channel": "heartbeats"}
    assert [msgspec.json.decode(message) for message in others.sends] == [
        heartbeats,
        {"type": "subscribe", "channel": "status"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "market_trades"},
    ]
    assert [msgspec.json.decode(message) for message in books.sends] == [
        heartbeats, {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"}
    ]  # fmt: skip
    assert ADVANCED.record_of("l2_data") == ADVANCED.record_of("level2") == "book_delta"


def test_tickers_of_before_best_prices_were_told_are_counted() -> None:
    decoder = ADVANCED.decoder()
    old = {"type": "update", "tickers": [{"type": "ticker", "product_id": "BTC-USD", "price": "21932.98"}]}
    assert batches(decoder, received(envelope("ticker", 0, old)), Names()) == {}
    assert decoder.control == {"nothing new": 1}


def test_an_offer_may_be_called_an_ask() -> None:
    rows = decoded(ADVANCED, received(envelope("l2_data", 0, change("snapshot", "A-B", ("ask", "1.6", "2.25")))))
    assert [(row["side"], row["price"]) for row in rows["book_delta"]][1:] == [(2, "1.6")]
