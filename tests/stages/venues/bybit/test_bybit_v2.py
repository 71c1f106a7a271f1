"""Rows of each of Bybit's messages of before v5, by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stages.schemas import ADD, CLEAR, DELETE, UPDATE
from stages.venues import venue_named
from tests.stages.venues.binance.binance_decoding import decoded, received, values

V2 = venue_named("bybit_v2")
BTC = "BTCUSD.BYBIT"


def level(price: str, side: str, **told: Any) -> dict[str, Any]:
    return {"price": price, "symbol": "BTCUSD", "id": int(float(price) * 10000), "side": side, **told}


def book(number: int, data: Any, kind: str = "delta", channel: str = "orderBookL2_25") -> str:
    told = {"topic": f"{channel}.BTCUSD", "type": kind, "data": data, "cross_seq": number}
    return json.dumps({**told, "timestamp_e6": 1618677785417939 + number})


def change(number: int, **told: Any) -> str:
    return book(number, {"delete": [], "update": [], "insert": [], "transactTimeE6": 0, **told})


LEVELS = [level("60616.50", "Buy", size=8173486), level("60617", "Sell", size=2.5)]
WHOLE = book(10, LEVELS, "snapshot")


def test_trades_of_inverse_and_of_linear_contracts() -> None:
    inverse = {
        "trade_time_ms": 1618677786614, "timestamp": "2021-04-17T16:43:06.000Z", "symbol": "BTCUSD", "side": "Sell",
        "size": 4, "price": 60621.5, "tick_direction": "PlusTick", "trade_id": "5ffb8b77", "cross_seq": 5938955347,
    }  # fmt: skip
    linear = {
        "symbol": "BCHUSDT", "tick_direction": "MinusTick", "price": "1053.90", "size": 642.60004,
        "trade_time_ms": "1618677785116", "side": "Buy", "trade_id": "01cacfe9",
    }  # fmt: skip
    messages = (json.dumps({"topic": f"trade.{row['symbol']}", "data": [row]}) for row in (inverse, linear))
    one, two = decoded(V2, received(*messages))["trade"]
    assert one == {
        "ts_event": 1618677786614 * 10**6, "instrument_id": BTC, "sequence": 5938955347, "flags": 128,
        "price": "60621.5", "size": "4", "aggressor_side": 2, "trade_id": "5ffb8b77", "trade_type": "regular",
    }  # fmt: skip
    assert (two["price"], two["size"], two["aggressor_side"]) == ("1053.9", "642.60004", 1)


@pytest.mark.parametrize("snapshot", [WHOLE, book(10, {"order_book": LEVELS}, "snapshot")])
def test_a_book_and_its_changes_in_the_order_in_which_they_are_made(snapshot: str) -> None:
    changed = change(
        12,
        insert=[level("60618", "Buy", size=3)],
        delete=[level("60617", "Sell")],
        update=[level("60616.50", "Buy", size=5)],
    )
    rows = decoded(V2, received(snapshot, changed))["book_delta"]
    assert values(rows, "sequence", "action", "side", "price", "size", "flags") == [
        (10, CLEAR, 0, "0", "0", 32),
        (10, ADD, 1, "60616.5", "8173486", 32),
        (10, ADD, 2, "60617", "2.5", 160),
        (12, UPDATE, 1, "60616.5", "5", 0),
        (12, UPDATE, 1, "60618", "3", 0),
        (12, DELETE, 2, "60617", "0", 128),
    ]
    assert rows[0]["ts_event"] == 1618677785417949 * 1000


def test_a_change_that_cannot_be_late_or_repeated_is_told_once() -> None:
    wrong = change(11, update=[level("1", "Buy", size=3)])
    good = change(12, update=[level("60617", "Sell", size=3)])
    rows = decoded(V2, received(WHOLE, wrong, good))
    assert values(rows["quality_event"], "kind", "seq_got", "instrument_id") == [("gap", 11, BTC)]
    assert len(rows["book_delta"]) == 3
    rows = decoded(V2, received(WHOLE, good, change(11, update=[level("60617", "Sell", size=9)]), good))
    assert values(rows["quality_event"], "kind", "seq_expected", "seq_got") == [("out_of_order", 13, 11)]
    rows = decoded(V2, received(WHOLE, WHOLE, good, good))
    assert values(rows["quality_event"], "kind") == ["duplicate", "duplicate"] and len(rows["book_delta"]) == 4


def test_another_depth_of_the_same_book_is_left_out() -> None:
    other = book(20, LEVELS, "snapshot", "orderBook_200.100ms")
    assert len(decoded(V2, received(WHOLE, other))["book_delta"]) == 3
    assert len(decoded(V2, received(other, WHOLE))["book_delta"]) == 3


def test_an_instrument_and_what_changes_of_it() -> None:
    whole = {
        "id": 1, "symbol": "BTCUSD", "mark_price_e4": 299463400, "mark_price": "29946.34", "index_price_e4": 299461300,
        "open_interest": 654525102, "funding_rate_e6": 8, "next_funding_time": "2022-06-02T16:00:00Z",
        "funding_rate_interval": 8,
    }  # fmt: skip
    head = {"topic": "instrument_info.100ms.BTCUSD", "cross_seq": 5, "timestamp_e6": 1654161517001968}
    update = {"delete": [], "insert": [], "update": [{"id": 1, "symbol": "BTCUSD", "mark_price_e4": "299463500"}]}
    messages = received(
        json.dumps({**head, "type": "snapshot", "data": whole}), json.dumps({**head, "type": "delta", "data": update})
    )
    rows = decoded(V2, messages)
    same = ("0.000008", 480, 1654185600 * 10**9, "29946.13", 1654161517001968000)
    names = ("rate", "interval_minutes", "next_funding_ts", "index_price", "ts_event", "mark_price")
    assert values(rows["funding_rate"], *names) == [(*same, "29946.34"), (*same, "29946.35")]
    assert values(rows["open_interest"], "open_interest") == ["654525102"]


def test_a_candle_and_a_liquidation() -> None:
    candle = {
        "start": 1667461800, "end": 1667461860, "period": "1", "open": 20282, "close": 20280.5, "high": 20282.5,
        "low": 20280, "volume": "20.753", "turnover": "420912.939", "confirm": False, "timestamp": 1667461837466318,
    }  # fmt: skip
    order = {"symbol": "BTCUSD", "side": "Sell", "price": "10740.00", "qty": "25", "time": 1596164713123}
    rows = decoded(
        V2,
        received(
            json.dumps({"topic": "candle.1.BTCUSDT", "data": [candle], "timestamp_e6": 1667461837466318}),
            json.dumps({"topic": "klineV2.1.BTCUSD", "data": [{**candle, "confirm": True}]}),
            json.dumps({"topic": "liquidation.BTCUSD", "data": order}),
        ),
    )
    assert values(rows["bar"], "instrument_id", "close", "volume", "ts_event", "is_complete") == [
        ("BTCUSDT.BYBIT", "20280.5", "20.753", 1667461837466318000, False),
        (BTC, "20280.5", "20.753", 1667461860 * 10**9, True),
    ]
    assert values(rows["liquidation"], "side", "price", "size") == [(1, "10740", "25")]


def test_control_traffic_leaves_nothing_and_a_refusal_is_told() -> None:
    calm = [
        '{"success":true,"ret_msg":"","conn_id":"x","request":{"op":"subscribe","args":["trade.EOSUSD"]}}',
        '{"success":true,"ret_msg":"pong","conn_id":"x","request":{"op":"ping","args":null}}',
        '{"topic":"insurance.BTC","data":[]}',
    ]
    assert decoded(V2, received(*calm)) == {}
    refused = '{"success":false,"ret_msg":"unknown topic","conn_id":"x","request":{"op":"subscribe","args":["x"]}}'
    (event,) = decoded(V2, received(refused))["quality_event"]
    assert "unknown topic" in event["detail"]


def test_connections_ask_by_category() -> None:
    plans = V2.connections(["BTCUSDT", "BTCUSD"], ["trade", "bar"])
    assert [(plan.url, plan.streams) for plan in plans] == [
        ("wss://stream.bybit.com/realtime_public", ("trade.BTCUSDT", "candle.1.BTCUSDT")),
        ("wss://stream.bybit.com/realtime", ("trade.BTCUSD", "klineV2.1.BTCUSD")),
    ]


def test_a_trade_of_before_2020_has_its_time_as_a_text() -> None:
    (row,) = decoded(V2, received(
        '{"topic":"trade.BTCUSD","data":[{"timestamp":"2019-11-06T12:50:52.000Z","symbol":"BTCUSD","side":"Buy",'
        '"size":6000,"price":9366,"trade_id":"8c53dd53-2df5-563d-8e3b-e0dbba7c55a0","cross_seq":794201980}]}'
    ))["trade"]  # fmt: skip
    assert (row["ts_event"], row["price"], row["sequence"]) == (1573044652 * 10**9, "9366", 794201980)


def test_several_liquidations_may_come_as_a_list() -> None:
    rows = decoded(V2, received(
        '{"topic":"liquidation.BTCUSD","generated":true,"data":[{"id":1,"qty":836,"side":"Sell","time":1608280339753,'
        '"symbol":"BTCUSD","price":23216},{"id":2,"qty":7,"side":"Buy","time":1608280339754,"symbol":"BTCUSD","price":1}]}'
    ))["liquidation"]  # fmt: skip
    assert values(rows, "side", "size") == [(1, "836"), (2, "7")]
