"""Rows of each of Bybit's messages of v5, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stages.messages import MessageKind, Messages, RawMessage
from stages.schemas import ADD, CLEAR, DELETE, UPDATE, Names
from stages.venues import Heartbeat, venue_named
from tests.stages.venues.binance.binance_decoding import batches, decoded, received, response, values

BYBIT, SPOT = venue_named("bybit"), venue_named("bybit_spot")
BTC = "BTCUSDT.BYBIT"
MS = 10**6


def fixture(recordings: Path, name: str) -> str:
    return (recordings / f"nautilus_trader/crates/adapters/bybit/test_data/ws_{name}.json").read_text()


def book(number: int, kind: str = "delta", depth: int = 50, bids: Any = (), asks: Any = (), symbol: str = "AB") -> str:
    data = {"s": symbol, "b": list(bids), "a": list(asks), "u": number, "seq": 10 * number}
    told = {"topic": f"orderbook.{depth}.{symbol}", "type": kind, "ts": 1000 + number, "data": data}
    return json.dumps({**told, "cts": 900 + number})


def ticker(kind: str = "delta", symbol: str = "AB", **told: str) -> str:
    data = {"symbol": symbol, **told}
    return json.dumps({"topic": f"tickers.{symbol}", "type": kind, "data": data, "cs": 7, "ts": 5})


def test_a_trade(recordings: Path) -> None:
    expected = {
        "ts_event": 1709891679000 * MS,
        "instrument_id": BTC,
        "flags": 128,
        "price": "27451",
        "size": "0.01",
        "aggressor_side": 1,
        "trade_id": "9dc75fca-4bdd-4773-9f78-6f5d7ab2a110",
        "trade_type": "regular",
    }
    told = json.loads(fixture(recordings, "public_trade"))
    assert decoded(BYBIT, received(json.dumps(told))) == {"trade": [expected]}
    told["topic"] = "publicTrade.BTCUSDT"
    told["data"][0] |= {"S": "Sell", "BT": True, "seq": 549792210006, "L": "MinusTick", "RPI": False}
    (row,) = decoded(BYBIT, received(json.dumps(told)))["trade"]
    assert row == {**expected, "aggressor_side": 2, "trade_type": "block", "sequence": 549792210006}
    assert decoded(SPOT, received(json.dumps(told)))["trade"][0]["instrument_id"] == "BTCUSDT.BYBIT_SPOT"


def test_a_book_and_its_changes() -> None:
    messages = received(
        book(7, "snapshot", bids=[["1.5", "2"], ["1.4", "1"]], asks=[["1.6", "3"]]),
        book(8, bids=[["1.5", "0"]], asks=[["1.7", "4"]]),
        book(9),
        book(1, bids=[["1", "1"]]),
    )
    rows = decoded(BYBIT, messages)["book_delta"]
    assert values(rows, "sequence", "action", "side", "price", "size", "flags", "ts_event") == [
        (7, CLEAR, 0, "0", "0", 32, 907 * MS),
        (7, ADD, 1, "1.5", "2", 32, 907 * MS),
        (7, ADD, 1, "1.4", "1", 32, 907 * MS),
        (7, ADD, 2, "1.6", "3", 160, 907 * MS),
        (8, DELETE, 1, "1.5", "0", 0, 908 * MS),
        (8, UPDATE, 2, "1.7", "4", 128, 908 * MS),
        (9, 0, 0, "0", "0", 128, 909 * MS),
        (1, CLEAR, 0, "0", "0", 32, 901 * MS),
        (1, ADD, 1, "1", "1", 160, 901 * MS),
    ]


def test_a_book_is_that_of_the_first_depth() -> None:
    decoder = BYBIT.decoder()
    found = batches(
        decoder, received(book(7, "snapshot"), book(20, "snapshot", 200), book(8, bids=[["1", "1"]])), Names()
    )
    assert found["book_delta"]["sequence"].to_pylist() == [7, 8]
    assert decoder.control == {"book of a second depth": 1}
    opened = RawMessage(9, 9, MessageKind.OPENED, "one", "wss://stream.bybit.com/v5/public/linear", b"")
    batches(decoder, Messages.of([opened]), Names())
    again = batches(decoder, received(book(30, "snapshot", 200), book(9)), Names())
    assert again["book_delta"]["sequence"].to_pylist() == [30], "a connection that is opened anew may bring another one"


def test_best_prices_of_the_documentation(recordings: Path) -> None:
    both = received(fixture(recordings, "orderbook_snapshot"), fixture(recordings, "orderbook_delta"))
    names = ("bid_price", "bid_size", "ask_price", "ask_size", "ts_event")
    assert values(decoded(BYBIT, both)["quote"], *names) == [
        ("27450", "0.5", "27451", "0.75", 1709891679000 * MS),
        ("27450", "0.4", "27451.5", "0.9", 1709891679500 * MS),
    ]


def quotes(*messages: str) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Best prices, events, and what was counted."""
    decoder = BYBIT.decoder()
    found = {kind: batch.to_pylist() for kind, batch in batches(decoder, received(*messages), Names()).items()}
    rows = [(row["bid_price"], row["ask_price"]) for row in found.get("quote", ())]
    events = values(found.get("quality_event", ()), "kind", "seq_expected", "seq_got", "missing")
    return rows, events, dict(decoder.control)


WHOLE = book(7, "snapshot", 1, [["10", "1"]], [["11", "1"]])


def test_best_prices_go_on_by_changes_and_an_empty_side_is_none() -> None:
    rows, events, control = quotes(
        WHOLE, WHOLE, book(8, depth=1, bids=[["10", "0"], ["9", "1"]]), book(9, depth=1, asks=[["11", "0"]])
    )
    assert rows == [(10, 11), (9, 11), (9, None)] and events == []
    assert control == {"best prices again": 1}, "after three seconds without a change Bybit says it again"


def test_best_prices_with_a_hole_are_known_again_once_both_sides_were_told() -> None:
    rows, events, control = quotes(
        WHOLE,
        book(9, depth=1, bids=[["9", "1"]]),
        book(10, depth=1, bids=[["9", "2"]]),
        book(11, depth=1, asks=[["12", "2"]]),
    )
    assert events == [("gap", 8, 9, 1)] and rows == [(10, 11), (9, 12)]
    assert control == {"best prices not known yet": 1}


def test_best_prices_that_come_again_or_late_are_told() -> None:
    change = book(8, depth=1, bids=[["10", "2"]])
    _, events, _ = quotes(WHOLE, change, change, book(9, depth=1, bids=[["10", "3"]]), change)
    assert [event[0] for event in events] == ["duplicate", "out_of_order"]
    _, events, _ = quotes(WHOLE, change[:-20], book(9, depth=1, bids=[["10", "3"]]))
    assert [event[0] for event in events] == ["parse_error"], "one that cannot be read is told once"


def test_a_ticker_tells_of_funding_and_open_interest(recordings: Path) -> None:
    messages = received(
        fixture(recordings, "ticker_linear"),
        ticker(symbol="BTCUSDT", markPrice="17217.34"),
        ticker(symbol="BTCUSDT", openInterestValue="5"),
        ticker(symbol="BTCUSDT", lastPrice="3"),
    )
    rows = decoded(BYBIT, messages)
    names = ("rate", "interval_minutes", "next_funding_ts", "mark_price", "index_price", "sequence")
    same = ("-0.000212", 480, 1673280000000 * MS)
    assert values(rows["funding_rate"], *names) == [
        (*same, "17217.33", "17227.36", 24987956059),
        (*same, "17217.34", "17227.36", 7),
    ]
    assert values(rows["open_interest"], "open_interest", "open_interest_value") == [
        ("68744.761", "1183601235.91"),
        ("68744.761", "5"),
    ]
    assert rows.keys() == {"funding_rate", "open_interest"}, "its best prices are those of `orderbook.1`, but late"
    spot = decoded(SPOT, received(ticker("snapshot", lastPrice="1", usdIndexPrice="1", markPrice="2")))
    assert spot == {}


def test_an_option_s_ticker_has_its_best_prices(recordings: Path) -> None:
    rows = decoded(BYBIT, received(fixture(recordings, "ticker_option")))
    (quote,) = rows["quote"]
    assert (quote.get("bid_price"), quote["ask_price"], quote["ask_size"]) == (None, "10", "5.1")
    assert quote["instrument_id"] == "BTC-6JAN23-17500-C.BYBIT"
    assert values(rows["open_interest"], "open_interest") == ["49.85"]
    assert values(rows["funding_rate"], "mark_price", "rate") == [("7.86976724", None)]


def test_a_candle(recordings: Path) -> None:
    told = json.loads(fixture(recordings, "kline"))
    (row,) = decoded(BYBIT, received(json.dumps(told)))["bar"]
    assert (row["bar_start"], row["bar_end"], row["interval_ns"]) == (
        1672324800000 * MS, 1672325100000 * MS, 300 * 10**9,
    )  # fmt: skip
    assert (row["ts_event"], row["is_complete"], row["vwap"]) == (1672324988882 * MS, False, 34666.4005 / 2.081)
    assert [row[name] for name in ("open", "high", "low", "close", "volume")] == [
        "16649.5", "16677", "16608", "16677", "2.081",
    ]  # fmt: skip
    told["data"][0]["confirm"] = True
    told["topic"] = "kline.5.BTCUSD"
    (row,) = decoded(BYBIT, received(json.dumps(told)))["bar"]
    assert (row["ts_event"], row["is_complete"], row.get("vwap")) == (1672325100000 * MS, True, None)


def test_a_long_position_that_is_liquidated_sells() -> None:
    now = {"T": 1739502302929, "s": "ROSEUSDT", "S": "Buy", "v": "20000", "p": "0.04499"}
    old = {"updatedTime": 1673251091822, "symbol": "GALAUSDT", "side": "Sell", "size": "1637", "price": "0.03803"}
    messages = received(
        json.dumps({"topic": "allLiquidation.ROSEUSDT", "type": "snapshot", "ts": 1, "data": [now]}),
        json.dumps({"topic": "liquidation.GALAUSDT", "type": "snapshot", "ts": 1, "data": old}),
    )
    rows = decoded(BYBIT, messages)["liquidation"]
    assert values(rows, "instrument_id", "side", "price", "size", "ts_event") == [
        ("ROSEUSDT.BYBIT", 2, "0.04499", "20000", 1739502302929 * MS),
        ("GALAUSDT.BYBIT", 1, "0.03803", "1637", 1673251091822 * MS),
    ]


def test_instruments_as_they_are_listed() -> None:
    listed = {
        "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC",
        "quoteCoin": "USDT", "launchTime": "1585526400000", "deliveryTime": "0", "settleCoin": "USDT",
        "priceFilter": {"minPrice": "0.10", "tickSize": "0.10"}, "lotSizeFilter": {"qtyStep": "0.001"},
    }  # fmt: skip
    told = {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [listed]}, "time": 1672}
    url = "https://api.bybit.com/v5/market/instruments-info?category=linear"
    (row,) = decoded(BYBIT, response(json.dumps(told), url))["instrument"]
    names = ("raw_symbol", "asset_class", "base", "quote", "settlement", "price_increment", "size_increment")
    assert [row[name] for name in names] == ["BTCUSDT", "perpetual", "BTC", "USDT", "USDT", "0.1", "0.001"]
    assert row["ts_valid_from"] == 1585526400000 * MS and "ts_valid_to" not in row


def test_control_traffic_leaves_nothing_and_a_refusal_is_told() -> None:
    calm = [
        '{"success":true,"ret_msg":"","conn_id":"x","req_id":"","op":"subscribe"}',
        '{"success":true,"ret_msg":"pong","conn_id":"x","req_id":"","op":"ping"}',
        '{"req_id":"x","op":"pong","args":["1"],"conn_id":"y"}',
        '{"success":true,"conn_id":"x","data":{"failTopics":[],"successTopics":["t"]},"type":"COMMAND_RESP"}',
        '{"retCode":0,"retMsg":"OK","result":{"timeSecond":"1"},"time":5}',
        '{"topic":"orderbook.rpi.BTCUSDT","type":"delta","ts":1,"data":{}}',
    ]
    assert decoded(BYBIT, received(*calm)) == {}
    refused = '{"success":false,"ret_msg":"error:handler not found","conn_id":"x","op":"subscribe"}'
    (event,) = decoded(BYBIT, received(refused))["quality_event"]
    assert "handler not found" in event["detail"]


def test_connections_ask_by_category() -> None:
    plans = BYBIT.connections(["BTCUSDT", "BTCUSD", "BTC-6JAN23-17500-C"], ["trade", "quote"])
    assert [(plan.url, plan.streams) for plan in plans] == [
        ("wss://stream.bybit.com/v5/public/linear", ("publicTrade.BTCUSDT", "orderbook.1.BTCUSDT")),
        ("wss://stream.bybit.com/v5/public/inverse", ("publicTrade.BTCUSD", "orderbook.1.BTCUSD")),
        ("wss://stream.bybit.com/v5/public/option", ("publicTrade.BTC-6JAN23-17500-C", "tickers.BTC-6JAN23-17500-C")),
    ]
    assert msgspec.json.decode(plans[0].sends[0]) == {"op": "subscribe", "args": ["publicTrade.BTCUSDT"]}
    (spot,) = SPOT.connections(["BTCUSDT"], ["book_delta", "bar"], "ws://127.0.0.1:8080/")
    assert (spot.url, spot.streams) == (
        "ws://127.0.0.1:8080/v5/public/spot", ("orderbook.200.BTCUSDT", "kline.1.BTCUSDT"),
    )  # fmt: skip
    with pytest.raises(LookupError, match="no stream brings 'funding_rate'"):
        SPOT.connections(["BTCUSDT"], ["funding_rate"])
    with pytest.raises(LookupError, match=r"one book of an instrument, found orderbook\.50, orderbook\.200"):
        BYBIT.connections(["BTCUSDT"], ["orderbook.50", "book_delta"])
    assert BYBIT.heartbeat() == Heartbeat(b'{"op":"ping"}', 20)


@pytest.mark.parametrize(
    ("url", "payload", "known"),
    [
        ("ws://127.0.0.1/v5/public/spot", "x", "bybit_spot"),
        ("wss://stream.bybit.com/v5/public/inverse", "x", "bybit"),
        ("https://api.bybit.com/v5/market/instruments-info?category=spot", "x", "bybit_spot"),
        ("", book(1, "snapshot", symbol="BTCUSD"), "bybit"),
        ("", book(1, "snapshot", 500), None),
        ("", ticker("snapshot", usdIndexPrice="1"), "bybit_spot"),
        ("", book(1, "snapshot"), None),
    ],
)
def test_it_is_known_by_its_path_or_by_what_only_one_category_writes(url: str, payload: str, known: str | None) -> None:
    compact = payload.replace(": ", ":").encode()
    found = [venue.name for venue in (BYBIT, SPOT, venue_named("bybit_v2")) if venue.recognises(url, compact)]
    assert found == ([] if known is None and "500" not in payload else [known or "bybit"])


@pytest.mark.parametrize(
    "topic", ["kline_lt.5.EOS3LUSDT", "tickers_lt.EOS3LUSDT", "lt.EOS3LUSDT", "rfq.open.public.trades"]
)
def test_topics_of_what_is_no_record_are_counted(topic: str) -> None:
    decoder = BYBIT.decoder()
    message = f'{{"topic":"{topic}","type":"snapshot","ts":1672325246847,"data":[]}}'
    assert batches(decoder, received(message), Names()) == {} and decoder.control == {topic.split(".")[0]: 1}
