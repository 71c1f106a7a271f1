"""Messages of Kraken's version 2, from single recorded and documented ones, become these rows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stages.interpreting import Interpreter, Interpreting
from stages.schemas import Names, Scales
from stages.venues import venue_named
from tests.stages.venues.binance.binance_decoding import batches, decoded, received, response, values

V2 = venue_named("kraken")
FIXTURES = "nautilus_trader/crates/adapters/kraken/test_data"
TRADE = (
    '{"channel":"trade","type":"%s","data":[{"symbol":"BTC/USD","side":"sell","price":%s,"qty":0.5,"ord_type":"market",'
    '"trade_id":%d,"timestamp":"2023-09-25T07:49:37.708706Z"}]}'
)


def fixture(recordings: Path, name: str) -> bytes:
    return (recordings / FIXTURES / f"{name}.json").read_bytes()


def test_trades_have_numbers_and_the_taker_s_side(recordings: Path) -> None:
    rows = decoded(V2, received(fixture(recordings, "ws_trade_update")))["trade"]
    assert values(rows, "ts_event", "price", "size", "aggressor_side", "trade_id", "sequence", "flags") == [
        (1696613755440295000, "105944.2", "0.00027625", 1, "10218208", 10218208, 128),
        (1696613756123456000, "105910.5", "0.0001246", 2, "10218209", 10218209, 128),
    ]


def test_best_quotes_come_of_tickers(recordings: Path) -> None:
    (row,) = decoded(V2, received(fixture(recordings, "ws_ticker_snapshot")))["quote"]
    assert values([row], "ts_event", "bid_price", "bid_size", "ask_price", "ask_size") == [
        (1671960659123456000, "105944.2", "2.5", "105944.3", "3.2")
    ]
    assert row["instrument_id"] == "BTC/USD.KRAKEN"


def test_a_candle_is_of_its_interval(recordings: Path) -> None:
    (row,) = decoded(V2, received(fixture(recordings, "ws_ohlc_update")))["bar"]
    assert (row["bar_start"], row["bar_end"]) == (1696436700 * 10**9, 1696436760 * 10**9)
    assert (row["open"], row["volume"], row["trade_count"]) == ("106038.2", "30927.68066226", 12)
    assert row["is_complete"] is False and "ts_event" not in row


def test_a_candle_that_begins_in_no_time_zone_is_told(recordings: Path) -> None:
    told = msgspec.json.decode(fixture(recordings, "ws_ohlc_update"))
    told["data"][0]["interval_begin"] = "2023-10-04T16:25:00"
    (event,) = decoded(V2, received(msgspec.json.encode(told)))["quality_event"]
    assert event["kind"] == "parse_error" and "interval_begin" in event["detail"]


def test_books_are_snapshots_and_updates_with_a_checksum_each(recordings: Path) -> None:
    messages = received(fixture(recordings, "ws_book_snapshot"), fixture(recordings, "ws_book_update"))
    rows = decoded(V2, messages)["book_delta"]
    assert values(rows, "action", "side", "price", "size", "flags") == [
        (4, 0, "0", "0", 32),
        (1, 1, "105944.2", "0.136", 32), (1, 1, "105935.4", "0.024", 32), (1, 1, "105920.1", "0.052", 32),
        (1, 2, "105944.3", "0.136", 32), (1, 2, "105946.9", "0.095", 32), (1, 2, "105955.8", "0.003", 160),
        (2, 1, "105944.2", "0.25", 128),
    ]  # fmt: skip


def test_a_made_up_checksum_is_told_and_nothing_is_published(recordings: Path) -> None:
    """The fixture's numbers are an example's, and its checksum is not theirs in any decimal places."""
    interpreter = Interpreter(V2, Interpreting())
    (events,) = interpreter.interpret(received(fixture(recordings, "ws_book_snapshot"))).batches
    (event,) = events.to_pylist()
    assert event["kind"] == "checksum" and "2439117997" in event["detail"]


def test_orders_one_by_one_are_known_and_counted(recordings: Path) -> None:
    decoder = V2.decoder()
    names = ["snapshot", "update_add", "update_delete", "update_modify_price", "update_modify_qty"]
    assert batches(decoder, received(*(fixture(recordings, f"ws_l3_{name}") for name in names)), Names()) == {}
    assert decoder.control == {"level3": 5}


def test_numbers_are_read_as_they_are_written() -> None:
    """0.1 + 0.2 is no float's, and neither is a price of 18 digits."""
    for text in ("1234567890.12345678", "0.3", "3e-7", "9999999999.99999999"):
        (row,) = decoded(V2, received(TRADE % ("update", text, 1)))["trade"]
        assert row["price"] == (text if "e" not in text else "0.0000003")
    (event,) = decoded(V2, received(TRADE % ("update", "0.1234567891", 1)), Scales(8, 8))["quality_event"]
    assert "a price scale of 10 holds it" in event["detail"] and event["instrument_id"] == "BTC/USD.KRAKEN"


def test_trades_that_a_subscription_brings_again_fill_holes_and_are_not_told_twice() -> None:
    again, new = (lambda n: TRADE % ("snapshot", "7", n)), (lambda n: TRADE % ("update", "7", n))
    decoder = V2.decoder()
    rows = batches(decoder, received(again(4), new(5), again(5), again(6), new(7)), Names())
    assert rows["trade"]["trade_id"].to_pylist() == ["4", "5", "6", "7"]
    assert [flags & 32 for flags in rows["trade"]["flags"].to_pylist()] == [32, 0, 32, 0]
    assert decoder.control == {"trades known already": 1}
    other = V2.decoder()
    other.restore(decoder.snapshot())
    assert batches(other, received(again(7)), Names()) == {}


def test_depth_is_the_subscription_s_or_else_what_holds_the_snapshot(recordings: Path) -> None:
    decoder, rule = V2.decoder(), V2.book_rule("")
    result = '{"channel":"book","depth":25,"snapshot":true,"symbol":"ETH/USD"}'
    acknowledged = f'{{"method":"subscribe","result":{result},"success":true}}'
    snapshot = fixture(recordings, "ws_book_snapshot")
    batches(decoder, received(acknowledged, snapshot, snapshot.replace(b"BTC", b"ETH")), Names())
    assert [decoder.book_rule(f"{name}/USD.KRAKEN", rule).depth for name in ("ETH", "BTC", "SOL")] == [25, 10, 1000]
    assert decoder.control == {"reply": 1}


def test_an_instrument_channel_tells_what_pairs_are_and_what_may_be_done() -> None:
    message = (
        '{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":"EUR/USD","base":"EUR",'
        '"quote":"USD","status":"online","qty_precision":8,"qty_increment":1e-8,"price_precision":5,'
        '"price_increment":0.00001,"qty_min":0.5},{"symbol":"X/USD","base":"X","quote":"USD","status":"cancel_only",'
        '"qty_increment":0.1,"price_increment":0.05}]}}'
    )
    rows = decoded(V2, received(message))
    assert values(rows["instrument"], "instrument_id", "price_increment", "size_increment") == [
        ("EUR/USD.KRAKEN", "0.00001", "0.00000001"), ("X/USD.KRAKEN", "0.05", "0.1")
    ]  # fmt: skip
    assert values(rows["instrument_status"], "action") == ["trading", "cancel_only"]


def test_pairs_that_http_lists_are_by_this_version_s_names(recordings: Path) -> None:
    url = "https://api.kraken.com/0/public/AssetPairs"
    body = fixture(recordings, "http_asset_pairs").decode()
    rows = decoded(V2, response(body, url))
    assert values(rows["instrument"], "instrument_id", "base", "price_increment", "size_increment") == [
        ("BTC/USDT.KRAKEN", "BTC", "0.1", "0.00000001")
    ]
    assert values(rows["instrument_status"], "action") == ["trading"]
    first = decoded(venue_named("kraken_v1"), response(body, url))
    assert values(first["instrument"], "instrument_id", "base") == [("XBT/USDT.KRAKEN", "XBT")]


def test_refusals_and_unknown_channels_are_told() -> None:
    refused = '{"error":"Currency pair not supported A/B","method":"subscribe","success":false,"symbol":"A/B"}'
    rows = decoded(V2, received(refused, '{"channel":"news","type":"update","data":[]}', '{"channel":"heartbeat"}'))
    assert len(rows["quality_event"]) == 2 and "Currency pair not supported" in rows["quality_event"][0]["detail"]
    assert "found 'update' of 'news'" in rows["quality_event"][1]["detail"]


def test_streams_are_asked_for_by_kinds_of_record_and_kraken_s_words() -> None:
    (plan,) = V2.connections(["BTC/USD"], ["trade", "quote", "book-25", "instrument", "instrument_status"])
    assert plan.url == "wss://ws.kraken.com/v2"
    assert [msgspec.json.decode(message) for message in plan.sends] == [
        {"method": "subscribe", "params": {"channel": "instrument"}},
        {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}},
        {"method": "subscribe", "params": {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "bbo"}},
        {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 25}},
    ]
    plans = V2.connections([f"S{number}/USD" for number in range(450)], ["trade"])
    assert [len(plan.streams) for plan in plans] == [200, 200, 50] and len(plans[0].sends) == 4
    with pytest.raises(LookupError, match="no stream brings 'spread'"):
        V2.connections(["BTC/USD"], ["spread"])


def test_a_stand_in_s_messages_are_known(recordings: Path) -> None:
    assert V2.recognises("ws://127.0.0.1:9", fixture(recordings, "ws_trade_update"))
    assert not V2.recognises("wss://ws.kraken.com", fixture(recordings, "ws_trade_update"))


def test_an_update_of_assets_alone_lists_no_pair() -> None:
    decoder = V2.decoder()
    message = '{"channel":"instrument","type":"update","data":{"assets":[{"id":"USD","status":"enabled"}]}}'
    assert batches(decoder, received(message), Names()) == {} and decoder.control == {"nothing new": 1}


def test_a_book_without_a_checksum_is_not_checked() -> None:
    message = (
        '{"channel":"book","type":"snapshot","data":[{"symbol":"A/B","bids":[{"price":99.9,"qty":0.5}],"asks":[]}]}'
    )
    found = decoded(V2, received(message))
    assert [row["action"] for row in found["book_delta"]] == [4, 1] and found.keys() == {"book_delta"}
