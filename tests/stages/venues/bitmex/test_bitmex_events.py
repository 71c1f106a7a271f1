"""Rows of each of BitMEX's messages, by hand."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stages.schemas import ADD, CLEAR, DELETE, UPDATE, Names, Scales
from stages.venues import venue_named
from tests.stages.venues.binance.binance_decoding import batches, decoded, received, response, values
from tests.stages.venues.interpreting_venues import interpreted

BITMEX = venue_named("bitmex")
XBT = "XBTUSD.BITMEX"


def table(name: str, action: str, *rows: Any, symbol: str = "XBTUSD") -> str:
    told: dict[str, Any] = {"table": name, "action": action}
    if action == "partial":
        told |= {"keys": [], "types": {}, "filter": {"symbol": symbol}}
    return json.dumps({**told, "data": [json.loads(row) if isinstance(row, str) else row for row in rows]})


def fixture(recordings: Path, name: str) -> str:
    return (recordings / f"nautilus_trader/crates/adapters/bitmex/test_data/ws_{name}.json").read_text()


def level(id: int, side: str, **told: Any) -> dict[str, Any]:
    return {"symbol": "XBTUSD", "id": id, "side": side, **told}


BOOK = table(
    "orderBookL2", "partial", level(3, "Sell", size=30, price=100.5), level(5, "Buy", size=1, price=1e-8),
    level(4, "Buy", size=20, price=99),
)  # fmt: skip


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def test_a_trade(recordings: Path) -> None:
    rows = decoded(BITMEX, received(table("trade", "insert", fixture(recordings, "trade"))))
    assert rows == {
        "trade": [
            {
                "ts_event": ns("2024-11-24T08:15:38Z") + 704_000_000,
                "instrument_id": XBT,
                "flags": 128,
                "price": "98570.9",
                "size": "100",
                "aggressor_side": 2,
                "trade_id": "00000000-006d-1000-0000-000e8737d536",
                "trade_type": "regular",
            }
        ]
    }


def test_trades_from_before_a_subscription_are_told_where_they_are_new(recordings: Path) -> None:
    one = json.loads(fixture(recordings, "trade"))
    two, three = ({**one, "trdMatchID": name} for name in ("two", "three"))
    messages = received(
        table("trade", "partial", one), table("trade", "insert", two), table("trade", "partial", one, two, three),
        table("trade", "partial", three),
    )  # fmt: skip
    assert values(decoded(BITMEX, messages)["trade"], "trade_id", "flags") == [
        (one["trdMatchID"], 160),
        ("two", 128),
        ("three", 160),
    ]


def test_a_quote(recordings: Path) -> None:
    told = fixture(recordings, "quote")
    empty = json.dumps({**json.loads(told), "bidPrice": None, "bidSize": None})
    rows = decoded(BITMEX, received(table("quote", "insert", told, empty)))["quote"]
    names = ("instrument_id", "bid_price", "bid_size", "ask_price", "ask_size")
    assert values(rows, *names) == [
        ("BCHUSDT.BITMEX", "487.55", "103000", "488.25", "50000"),
        ("BCHUSDT.BITMEX", None, None, "488.25", "50000"),
    ]
    assert rows[0]["ts_event"] == ns("2024-11-22T22:44:25Z") + 85_000_000


def test_a_book_and_its_changes_by_id(recordings: Path) -> None:
    messages = received(
        BOOK,
        table("orderBookL2", "update", level(4, "Buy", size=7), level(3, "Sell", size=8)),
        table("orderBookL2", "insert", level(6, "Sell", size=5, price=101.0)),
        table("orderBookL2", "delete", level(5, "Buy"), level(6, "Sell")),
    )
    rows = decoded(BITMEX, messages)["book_delta"]
    assert values(rows, "action", "side", "price", "size", "flags") == [
        (CLEAR, 0, "0", "0", 32),
        (ADD, 1, "0.00000001", "1", 32),
        (ADD, 1, "99", "20", 32),
        (ADD, 2, "100.5", "30", 160),
        (UPDATE, 1, "99", "7", 0),
        (UPDATE, 2, "100.5", "8", 128),
        (UPDATE, 2, "101", "5", 128),
        (DELETE, 1, "0.00000001", "0", 0),
        (DELETE, 2, "101", "0", 128),
    ]
    now = json.loads(fixture(recordings, "orderbook_l2"))
    (clear, add) = decoded(BITMEX, received(table("orderBookL2", "partial", now)))["book_delta"]
    assert add["price"] == "98459.9" and add["ts_event"] == ns("2024-11-24T08:26:22Z") + 356_000_000
    assert clear["action"] == CLEAR


def test_changes_of_a_book_that_is_not_known_are_counted() -> None:
    decoder = BITMEX.decoder()
    update = table("orderBookL2", "update", level(4, "Buy", size=7))
    other = table("orderBookL2_25", "update", level(4, "Buy", size=7))
    found = batches(decoder, received(update, BOOK, other), Names())
    assert list(found) == ["book_delta"] and decoder.control == {"book update without its snapshot": 2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("update", level(9, "Buy", size=7)), "update of level 9, which is not there"),
        (("delete", level(9, "Buy")), "delete of level 9, which is not there"),
        (("insert", level(4, "Buy", size=7, price=99)), "insert of level 4, which is there already"),
        (("update", level(4, "Sell", size=7)), "update of level 4, which is another one"),
        (("update", level(4, "Buy", size=7, price=98)), "update of level 4, which is another one"),
    ],
)
def test_a_change_that_cannot_be_is_a_gap_told_once(change: tuple[str, Any], said: str) -> None:
    wrong = table("orderBookL2", *change)
    good = table("orderBookL2", "update", level(4, "Buy", size=6))
    rows = decoded(BITMEX, received(BOOK, wrong, good, wrong, BOOK, good))
    (event,) = rows["quality_event"]
    assert (event["kind"], event["instrument_id"], event["raw"]) == ("gap", XBT, wrong.encode())
    assert said in event["detail"]
    assert values(rows["book_delta"], "action") == [CLEAR, ADD, ADD, ADD] * 2 + [UPDATE]


def test_a_price_written_otherwise_is_the_same_price() -> None:
    change = table("orderBookL2", "update", level(4, "Buy", size=7, price=99.00))
    assert "quality_event" not in decoded(BITMEX, received(BOOK, change))


def test_a_message_of_a_book_that_comes_again_is_a_duplicate() -> None:
    change = table("orderBookL2", "delete", level(4, "Buy"))
    rows = decoded(BITMEX, received(BOOK, BOOK, change, change))
    assert values(rows["quality_event"], "kind") == ["duplicate", "duplicate"]
    assert values(rows["book_delta"], "action") == [CLEAR, ADD, ADD, ADD, DELETE]


def test_rows_of_several_symbols_are_groups_of_their_own() -> None:
    two = {**level(1, "Buy", size=1, price=5), "symbol": "ETHUSD"}
    whole = json.dumps({"table": "orderBookL2", "action": "partial", "data": [level(4, "Buy", size=1, price=9), two]})
    both = table("orderBookL2", "update", level(4, "Buy", size=2), {**two, "size": 3})
    rows = decoded(BITMEX, received(whole, both))["book_delta"]
    assert values(rows, "instrument_id", "flags") == [
        (XBT, 32), (XBT, 160), ("ETHUSD.BITMEX", 32), ("ETHUSD.BITMEX", 160), (XBT, 128), ("ETHUSD.BITMEX", 128),
    ]  # fmt: skip
    wrong = table("orderBookL2", "update", level(4, "Buy", size=2), {**two, "id": 8})
    found = decoded(BITMEX, received(whole, wrong, both))
    (event,) = found["quality_event"]
    assert event["kind"] == "gap" and "instrument_id" not in event, "of which books changes are missing is not known"
    assert len(found["book_delta"]) == 4


def test_the_ten_best_levels(recordings: Path) -> None:
    (row,) = decoded(BITMEX, received(table("orderBook10", "update", fixture(recordings, "orderbook_10"))))[
        "book_snapshot"
    ]
    assert (row["depth"], len(row["bids"]), len(row["asks"])) == (10, 10, 10)
    assert row["bids"][0] == ("98490.3", "22400") and row["asks"][9] == ("98504.9", "6200")


def test_a_candle_is_stamped_by_its_end(recordings: Path) -> None:
    (row,) = decoded(BITMEX, received(table("tradeBin1m", "insert", fixture(recordings, "trade_bin_1m"))))["bar"]
    end = ns("2024-11-23T20:07:00Z")
    assert (row["bar_start"], row["bar_end"], row["ts_event"]) == (end - 60 * 10**9, end, end)
    assert [row[name] for name in ("open", "high", "low", "close", "volume")] == [
        "97550", "97584.4", "97550", "97570.1", "84000",
    ]  # fmt: skip
    assert (row["vwap"], row["trade_count"], row["is_complete"], row["is_empty"]) == (97563.8311, 20, True, False)


def test_what_was_paid_as_funding(recordings: Path) -> None:
    (row,) = decoded(BITMEX, received(table("funding", "insert", fixture(recordings, "funding_rate"))))["funding_rate"]
    assert (row["rate"], row["interval_minutes"], row["ts_event"]) == ("0.0001", 480, ns("2024-11-25T04:00:00Z"))


def test_an_instrument_and_what_changes_of_it() -> None:
    whole = {
        "symbol": "XBTUSD", "state": "Open", "typ": "FFWCSX", "underlying": "XBT", "quoteCurrency": "USD",
        "settlCurrency": "XBt", "listing": "2016-05-13T12:00:00.000Z", "settle": None, "lotSize": 100, "tickSize": 0.5,
        "markPrice": 32184.89, "indicativeSettlePrice": 32182.72, "fundingRate": 0.0001, "openInterest": 574264600,
        "fundingTimestamp": "2021-07-23T04:00:00.000Z", "fundingInterval": "2000-01-01T08:00:00.000Z",
        "timestamp": "2021-07-22T22:36:05.000Z",
    }  # fmt: skip
    update = {"symbol": "XBTUSD", "markPrice": 32185, "timestamp": "2021-07-22T22:36:06.000Z"}
    messages = received(
        table("instrument", "partial", whole),
        table("instrument", "update", update),
        table("instrument", "update", {"symbol": "XBTUSD", "openInterest": 5}),
        table("instrument", "update", {"symbol": "XBTUSD", "state": "Closed", "volume": 1}),
        table("instrument", "update", {"symbol": "XBTUSD", "state": "Closed"}),
    )
    rows = decoded(BITMEX, messages)
    (listed,) = rows["instrument"]
    names = ("raw_symbol", "asset_class", "base", "quote", "settlement", "price_increment", "size_increment")
    assert [listed[name] for name in names] == ["XBTUSD", "perpetual", "XBT", "USD", "XBt", "0.5", "100"]
    assert listed["ts_valid_from"] == ns("2016-05-13T12:00:00Z") and "ts_valid_to" not in listed
    names = ("rate", "interval_minutes", "next_funding_ts", "mark_price", "index_price")
    same = ("0.0001", 480, ns("2021-07-23T04:00:00Z"))
    assert values(rows["funding_rate"], *names) == [
        (*same, "32184.89", "32182.72"),
        (*same, "32185", "32182.72"),
    ]
    assert values(rows["open_interest"], "open_interest", "ts_event") == [
        ("574264600", ns("2021-07-22T22:36:05Z")),
        ("5", None),
    ]
    assert values(rows["instrument_status"], "action") == ["trading", "closed"]
    (again,) = decoded(BITMEX, response(json.dumps([whole]), "https://www.bitmex.com/api/v1/instrument/active"))[
        "instrument"
    ]
    assert {**again, "ts_event": 0} == {**listed, "ts_event": 0}


def test_liquidations_are_told_when_they_begin_and_change() -> None:
    order = {"orderID": "a", "symbol": "XBTUSD", "side": "Buy", "price": 88225.6, "leavesQty": 15800}
    messages = received(
        table("liquidation", "partial"),
        table("liquidation", "insert", order),
        table("liquidation", "update", {"orderID": "a", "symbol": "XBTUSD", "price": 88234.5}),
        table("liquidation", "update", {"orderID": "unknown", "symbol": "XBTUSD", "price": 1}),
        table("liquidation", "delete", {"orderID": "a", "symbol": "XBTUSD"}),
    )
    rows = decoded(BITMEX, messages)["liquidation"]
    assert values(rows, "side", "price", "size", "order_id", "order_status") == [
        (1, "88225.6", "15800", "a", "insert"),
        (1, "88234.5", "15800", "a", "update"),
    ]


def test_control_traffic_leaves_nothing_and_a_refusal_is_told() -> None:
    calm = [
        "pong",
        '{"info":"Welcome to the BitMEX Realtime API.","version":"x","docs":"z","limit":{"remaining":39}}',
        '{"success":true,"subscribe":"trade:XBTUSD","request":{"op":"subscribe","args":["trade:XBTUSD"]}}',
        '{"success":true,"unsubscribe":"trade:XBTUSD","request":{}}',
        '{"table":"announcement","action":"insert","data":[{"id":1}]}',
    ]
    assert decoded(BITMEX, received(*calm)) == {}
    refused = '{"status":400,"error":"Unknown table: trades","meta":{},"request":{"op":"subscribe","args":["trades"]}}'
    (event,) = decoded(BITMEX, received(refused))["quality_event"]
    assert "Unknown table: trades" in event["detail"]


def test_numbers_are_what_their_text_says() -> None:
    row = '{"symbol":"A","timestamp":"2021-07-22T22:36:05.000Z","bidPrice":1.1e-7,"bidSize":1,"askPrice":0.1234567890,'
    told = f'{{"table":"quote","action":"insert","data":[{row}"askSize":9007199254740993}}]}}'
    (quote,) = decoded(BITMEX, received(told), Scales(10, 0))["quote"]
    assert (quote["bid_price"], quote["ask_price"], quote["ask_size"]) == (
        "0.00000011", "0.123456789", "9007199254740993",
    )  # fmt: skip


def test_connections_ask_for_tables() -> None:
    (plan,) = BITMEX.connections(["XBTUSD", "ETHUSD"], ["trade", "book_delta", "funding_rate", "open_interest"])
    assert plan.url == "wss://ws.bitmex.com/realtime"
    asked = [json.loads(sent) for sent in plan.sends]
    assert {told["op"] for told in asked} == {"subscribe"}
    args = [arg for told in asked for arg in told["args"]]
    assert (
        args
        == list(plan.streams)
        == [f"{table}:{symbol}" for table in ("trade", "orderBookL2", "instrument") for symbol in ("XBTUSD", "ETHUSD")]
    )
    with pytest.raises(LookupError, match="no stream brings 'orderBook'; did you mean 'orderBookL2'"):
        BITMEX.connections(["XBTUSD"], ["orderBook"])


def test_it_is_known_by_its_messages_and_hosts() -> None:
    assert BITMEX.recognises("ws://127.0.0.1/realtime", b'{"table":"trade","action":"insert","data":[]}')
    assert BITMEX.recognises("wss://www.bitmex.com/realtime", b"x")
    assert not BITMEX.recognises("wss://notbitmex.com/", b"x")


def test_an_index_is_told_as_trades_without_an_id() -> None:
    index = (
        '{"table":"trade","action":"insert","data":[{"timestamp":"2019-07-10T14:1%d:57.842Z","symbol":".BXBT",'
        '"side":"Buy","size":0,"price":1020%d.12,"trdMatchID":"00000000-0000-0000-0000-000000000000"}]}'
    )
    tables = interpreted(BITMEX, [*received(index % (1, 1), index % (2, 2), index % (2, 2))])
    assert tables.keys() == {"trade"} and tables["trade"].num_rows == 3


def test_a_candle_of_what_never_traded_has_no_prices_and_makes_no_row() -> None:
    candle = (
        '{"table":"tradeBin1m","action":"insert","data":[{"timestamp":"2019-07-10T14:12:00.000Z","symbol":"NEWZ19",'
        '"open":null,"high":null,"low":null,"close":null,"trades":0,"volume":0,"vwap":null}]}'
    )
    decoder = BITMEX.decoder()
    assert batches(decoder, received(candle), Names()) == {} and decoder.control == {"nothing new": 1}
