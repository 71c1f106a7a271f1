"""What each message of Binance's documentation becomes, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from binance_decoding import batches, decoded, received, response, values

from stages.schemas import Names
from stages.venues import venue_named
from tests.stages.venues.interpreting_venues import interpreted

SPOT, USDM, COINM = (venue_named(f"binance_{market}") for market in ("spot", "usdm", "coinm"))
MS = 1_000_000
TRADE = (
    '{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","b":88,"a":50,"T":1672515782135,'
    '"m":true,"M":true}'
)


def test_a_trade_whose_buyer_was_the_maker_was_a_sale() -> None:
    assert decoded(SPOT, received(TRADE)) == {
        "trade": [
            {
                "ts_event": 1672515782135 * MS,
                "instrument_id": "BNBBTC.BINANCE",
                "sequence": 12345,
                "flags": 128,
                "price": "0.001",
                "size": "100",
                "aggressor_side": 2,
                "trade_id": "12345",
                "trade_type": "regular",
            }
        ]
    }


def test_a_trade_of_a_combined_stream_is_the_same_trade() -> None:
    wrapped = f'{{"stream":"bnbbtc@trade","data":{TRADE}}}'
    assert decoded(SPOT, received(wrapped)) == decoded(SPOT, received(TRADE))


@pytest.mark.parametrize(
    ("word", "kind"), [("MARKET", "regular"), ("INSURANCE_FUND", "liquidation"), ("ADL", "adl"), ("NA", "NA")]
)
def test_trades_of_futures_say_what_they_were(word: str, kind: str) -> None:
    message = TRADE.replace('"m":true,"M":true', f'"X":"{word}","m":false')
    (trade,) = decoded(USDM, received(message))["trade"]
    assert (trade["aggressor_side"], trade["trade_type"], trade["instrument_id"]) == (1, kind, "BNBBTC.BINANCE_USDM")


def test_an_aggregate_trade_has_the_aggregate_s_number(recordings: Path) -> None:
    (trade,) = decoded(USDM, received(fixture(recordings, "agg_trade_stream")))["trade"]
    assert (trade["trade_id"], trade["sequence"], trade["ts_event"]) == ("5933014", 5933014, 123456785 * MS)
    assert (trade["price"], trade["size"], trade["aggressor_side"]) == ("0.001", "100", 2)


def test_times_in_microseconds_are_known_by_their_size() -> None:
    message = TRADE.replace("1672515782135", "1672515782135123")
    assert decoded(SPOT, received(message))["trade"][0]["ts_event"] == 1672515782135123000


def test_a_best_quote_of_spot_has_no_time_of_its_own() -> None:
    message = '{"u":400900217,"s":"BNBUSDT","b":"25.3519","B":"31.21","a":"25.3652","A":"40.66"}'
    assert decoded(SPOT, received(message)) == {
        "quote": [
            {
                "instrument_id": "BNBUSDT.BINANCE",
                "sequence": 400900217,
                "flags": 192,
                "bid_price": "25.3519",
                "bid_size": "31.21",
                "ask_price": "25.3652",
                "ask_size": "40.66",
            }
        ]
    }


def test_a_best_quote_of_futures_has_the_time_it_was_matched(recordings: Path) -> None:
    (quote,) = decoded(USDM, received(fixture(recordings, "book_ticker_stream")))["quote"]
    assert (quote["ts_event"], quote["sequence"], quote["ask_price"]) == (1568014460891 * MS, 400900217, "25.3652")


def test_a_side_without_orders_has_neither_price_nor_size() -> None:
    message = '{"u":4,"s":"AB","b":"0.00000000","B":"0.00000000","a":"2","A":"3"}'
    (quote,) = decoded(SPOT, received(message))["quote"]
    assert "bid_price" not in quote and "bid_size" not in quote and quote["ask_price"] == "2"


def test_an_update_of_depth_is_a_group_of_rows(recordings: Path) -> None:
    (bid, ask) = decoded(USDM, received(fixture(recordings, "depth_update_stream")))["book_delta"]
    both = {
        "ts_event": 123456788 * MS,
        "instrument_id": "BTCUSDT.BINANCE_USDM",
        "sequence": 160,
        "first_sequence": 157,
        "prev_sequence": 149,
        "action": 2,
        "order_id": 0,
    }
    assert bid == {**both, "flags": 0, "side": 1, "price": "0.0024", "size": "10"}
    assert ask == {**both, "flags": 128, "side": 2, "price": "0.0026", "size": "100"}


def test_depth_of_spot_has_no_previous_number_and_a_size_of_0_deletes() -> None:
    message = '{"e":"depthUpdate","E":5,"s":"AB","U":7,"u":9,"b":[["1.5","0.00000000"],["1.4","2"]],"a":[]}'
    rows = decoded(SPOT, received(message))["book_delta"]
    assert values(rows, "action", "side", "price", "flags") == [(3, 1, "1.5", 0), (2, 1, "1.4", 128)]
    assert values(rows, "ts_event", "first_sequence", "prev_sequence") == [(5 * MS, 7, None)] * 2


def test_depth_without_levels_still_moves_the_sequence() -> None:
    message = '{"e":"depthUpdate","E":5,"s":"AB","U":7,"u":9,"b":[],"a":[]}'
    (row,) = decoded(SPOT, received(message))["book_delta"]
    assert (row["action"], row["side"], row["sequence"], row["flags"]) == (0, 0, 9, 128)


def test_depth_without_levels_between_others_keeps_its_place() -> None:
    one, none, two = (
        f'{{"e":"depthUpdate","E":5,"s":"AB","U":{u},"u":{u},"b":{b},"a":{a}}}'
        for u, b, a in ((1, '[["1","2"]]', "[]"), (2, "[]", "[]"), (3, "[]", '[["3","0"],["4","5"]]'))
    )
    rows = decoded(SPOT, received(none, one, none, two, none))["book_delta"]
    assert values(rows, "sequence", "action", "side", "price", "flags") == [
        (2, 0, 0, "0", 128),
        (1, 2, 1, "1", 128),
        (2, 0, 0, "0", 128),
        (3, 3, 2, "3", 0),
        (3, 2, 2, "4", 128),
        (2, 0, 0, "0", 128),
    ]


SNAPSHOT = '{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"],["0.0027","1"]]}'


def test_a_depth_response_clears_and_adds() -> None:
    rows = decoded(SPOT, response(SNAPSHOT, "https://api.binance.com/api/v3/depth?symbol=BNBBTC&limit=1000"))
    assert values(rows["book_delta"], "action", "side", "price", "size", "flags", "sequence") == [
        (4, 0, "0", "0", 32, 160),
        (1, 1, "0.0024", "10", 32, 160),
        (1, 2, "0.0026", "100", 32, 160),
        (1, 2, "0.0027", "1", 160, 160),
    ]
    assert values(rows["book_delta"], "instrument_id") == ["BNBBTC.BINANCE"] * 4


def test_a_snapshot_in_a_capture_is_of_the_only_symbol_before_it() -> None:
    rows = decoded(SPOT, received(TRADE, SNAPSHOT))
    assert values(rows["book_delta"], "instrument_id") == ["BNBBTC.BINANCE"] * 4
    for before in ([], [TRADE, TRADE.replace("BNBBTC", "BTCUSDT")]):
        rows = decoded(SPOT, received(*before, SNAPSHOT, TRADE))
        (event,) = rows["quality_event"]
        assert "book_delta" not in rows and event["kind"] == "parse_error" and "symbol" in event["detail"]


def test_snapshots_of_futures_say_their_time_and_coin_m_its_symbol() -> None:
    message = SNAPSHOT.replace('"lastUpdateId"', '"symbol":"BTCUSD_PERP","pair":"BTCUSD","E":6,"T":5,"lastUpdateId"')
    rows = decoded(COINM, received(message))["book_delta"]
    assert values(rows, "instrument_id", "ts_event") == [("BTCUSD_PERP.BINANCE_COINM", 5 * MS)] * 4


def test_partial_depth_is_a_snapshot_of_the_best_levels() -> None:
    levels = {"depth": 5, "bids": [("0.0024", "10")], "asks": [("0.0026", "100"), ("0.0027", "1")]}
    wrapped = decoded(SPOT, received(f'{{"stream":"bnbbtc@depth5@100ms","data":{SNAPSHOT}}}'))
    assert wrapped == {"book_snapshot": [{"instrument_id": "BNBBTC.BINANCE", "sequence": 160, "flags": 160, **levels}]}
    assert decoded(SPOT, received(SNAPSHOT, url="wss://stream.binance.com:9443/ws/bnbbtc@depth5")) == wrapped


def test_partial_depth_of_futures_is_told_from_updates_by_its_stream() -> None:
    update = '{"e":"depthUpdate","E":6,"T":5,"s":"AB","U":7,"u":9,"pu":6,"b":[["1","2"]],"a":[["3","4"]]}'
    assert set(decoded(USDM, received(f'{{"stream":"ab@depth@0ms","data":{update}}}'))) == {"book_delta"}
    rows = decoded(USDM, received(f'{{"stream":"ab@depth20@500ms","data":{update}}}'))
    assert rows == decoded(USDM, received(update, url="wss://fstream.binance.com/ws/ab@depth20@500ms"))
    assert values(rows["book_snapshot"], "depth", "sequence", "ts_event") == [(20, 9, 5 * MS)]
    both = received(update, url="wss://fstream.binance.com/ws/ab@depth20/ab@depth")
    assert "one kind" in decoded(USDM, both)["quality_event"][0]["detail"]


def test_a_candle_that_is_closed_is_a_complete_bar(recordings: Path) -> None:
    (bar,) = decoded(USDM, received(fixture(recordings, "kline_stream_closed")))["bar"]
    assert bar == {
        "ts_event": 1638747720000 * MS,
        "instrument_id": "BTCUSDT.BINANCE_USDM",
        "flags": 128,
        "open": "0.001",
        "high": "0.0025",
        "low": "0.001",
        "close": "0.002",
        "volume": "1000",
        "vwap": 0.001,
        "trade_count": 100,
        "buy_volume": "500",
        "bar_start": 1638747660000 * MS,
        "bar_end": 1638747720000 * MS,
        "interval_ns": 60_000 * MS,
        "bar_kind": "time",
        "price_type": "last",
        "source": "venue",
        "is_complete": True,
        "is_empty": False,
    }


def test_a_candle_that_goes_on_is_no_complete_bar_and_stamped_when_it_was_told(recordings: Path) -> None:
    (bar,) = decoded(COINM, received(fixture(recordings, "kline_stream_open")))["bar"]
    assert not bar["is_complete"] and bar["low"] == "0.0015"
    assert (bar["ts_event"], bar["bar_end"]) == (1638747660000 * MS, 1638747720000 * MS)
    assert "vwap" not in bar  # volume is in contracts


def test_a_mark_price_is_a_funding_rate(recordings: Path) -> None:
    assert decoded(USDM, received(fixture(recordings, "mark_price_stream")))["funding_rate"] == [
        {
            "ts_event": 1562305380000 * MS,
            "instrument_id": "BTCUSDT.BINANCE_USDM",
            "flags": 128,
            "rate": "0.00038167",
            "next_funding_ts": 1562306400000 * MS,
            "mark_price": "11794.15",
            "index_price": "11784.62659091",
        }
    ]


def test_mark_prices_of_all_symbols_are_a_row_each_and_delivered_contracts_have_no_rate() -> None:
    message = (
        '[{"e":"markPriceUpdate","E":1596095725000,"s":"BTCUSD_201225","p":"10934.5","P":"1","i":"10933.5","r":"","T":0},'
        '{"e":"markPriceUpdate","E":1596095725000,"s":"BTCUSD_PERP","p":"11012.5","P":"1","r":"0.00000000",'
        '"T":1596096000000}]'
    )
    rows = decoded(COINM, received(message))["funding_rate"]
    assert values(rows, "instrument_id", "rate", "next_funding_ts", "index_price") == [
        ("BTCUSD_201225.BINANCE_COINM", None, None, "10933.5"),
        ("BTCUSD_PERP.BINANCE_COINM", "0", 1596096000000 * MS, None),
    ]
    assert rows == decoded(COINM, received(f'{{"stream":"!markPrice@arr","data":{message}}}'))["funding_rate"]


def test_a_liquidation_keeps_the_side_it_was_matched_at(recordings: Path) -> None:
    assert decoded(USDM, received(fixture(recordings, "liquidation_stream")))["liquidation"] == [
        {
            "ts_event": 1568014460893 * MS,
            "instrument_id": "BTCUSDT.BINANCE_USDM",
            "flags": 128,
            "side": 2,
            "price": "9910",
            "size": "0.014",
            "average_price": "9910.12345678",
            "filled_size": "0.014",
            "order_status": "FILLED",
        }
    ]


def test_open_interest_comes_over_http() -> None:
    message = '{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}'
    (row,) = decoded(USDM, response(message, "https://fapi.binance.com/fapi/v1/openInterest?symbol=BTCUSDT"))[
        "open_interest"
    ]
    assert (row["open_interest"], row["ts_event"]) == ("10659.509", 1589437530011 * MS)


def test_a_contract_s_status_is_told() -> None:
    message = '{"e":"contractInfo","E":1669647330701,"s":"IOTAUSDT","ps":"IOTAUSDT","ct":"PERPETUAL","cs":"SETTLING"}'
    (row,) = decoded(USDM, received(message))["instrument_status"]
    assert (row["instrument_id"], row["action"]) == ("IOTAUSDT.BINANCE_USDM", "settling")


def test_exchange_information_of_futures_is_an_instrument_each() -> None:
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.1"}, {"filterType": "LOT_SIZE", "stepSize": "1"}]
    listed = {"baseAsset": "BTC", "quoteAsset": "USD", "marginAsset": "BTC", "contractSize": 100, "filters": filters}
    perpetual = {"symbol": "BTCUSD_PERP", "contractType": "PERPETUAL", "deliveryDate": 4133404800000, **listed}
    future = {"symbol": "BTCUSD_200925", "contractType": "CURRENT_QUARTER", "deliveryDate": 1601020800000, **listed}
    body = json.dumps({"serverTime": 9, "symbols": [perpetual, future]})
    one, two = decoded(COINM, response(body, "https://dapi.binance.com/dapi/v1/exchangeInfo"))["instrument"]
    assert one == {
        "ts_event": 9 * MS,
        "instrument_id": "BTCUSD_PERP.BINANCE_COINM",
        "flags": 128,
        "raw_symbol": "BTCUSD_PERP",
        "asset_class": "perpetual",
        "base": "BTC",
        "quote": "USD",
        "settlement": "BTC",
        "price_increment": "0.1",
        "size_increment": "1",
        "multiplier": "100",
        "size_unit": "contract",
        "calendar": "24/7",
    }
    assert (two["asset_class"], two["ts_valid_to"]) == ("future", 1601020800000 * MS)


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ('{"result":null,"id":1}', "reply"),
        ('{"result":["btcusdt@trade"],"id":3}', "reply"),
        ('{"e":"24hrTicker","E":1,"s":"BTCUSDT"}', "24hrTicker"),
        ('[{"e":"24hrMiniTicker","E":1,"s":"BTCUSDT"}]', "24hrMiniTicker"),
        (
            '{"stream":"btcusdt@rpiDepth@500ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"A","U":1,"u":2,"b":[],"a":[]}}',
            "rpiDepth",
        ),
        ('{"e":"serverShutdown","E":1770123456789}', "serverShutdown"),
    ],
)
def test_what_is_known_and_leaves_no_rows_is_counted(payload: str, word: str) -> None:
    from binance_decoding import batches

    from stages.schemas import Names

    decoder = SPOT.decoder()
    assert batches(decoder, received(payload), Names()) == {}
    assert decoder.control == {word: 1}


@pytest.mark.parametrize(
    "payload",
    [
        '{"error":{"code":2,"msg":"Invalid request: missing field `method`"},"id":1}',
        '{"code":-1121,"msg":"Invalid symbol."}',
    ],
)
def test_a_refusal_is_told_with_the_venue_s_words(payload: str) -> None:
    (event,) = decoded(SPOT, received(payload))["quality_event"]
    assert event["kind"] == "parse_error" and "Invalid" in event["detail"] and event["raw"] == payload.encode()


def fixture(recordings: Path, name: str) -> Any:
    folder = recordings / "nautilus_trader/crates/adapters/binance/test_data/futures/market_data_json"
    return (folder / f"{name}.json").read_text()


def test_block_trades_are_numbered_apart_from_others() -> None:
    block = (
        '{"stream":"bnbbtc@blockTrade","data":{"e":"blockTrade","E":1772506983582,"s":"BNBBTC","t":%d,"p":"0.052",'
        '"q":"5838","T":1772506983321,"m":true}}'
    )
    trades = [TRADE, block % 582, TRADE.replace("12345", "12346"), block % 583]
    tables = interpreted(SPOT, [*received(*trades)])
    assert tables.keys() == {"trade"}
    assert tables["trade"].column("trade_type").to_pylist() == ["regular", "block", "regular", "block"]
    gaps = interpreted(SPOT, [*received(*trades, block % 585)])["quality_event"].to_pylist()
    assert [(gap["kind"], gap["seq_expected"]) for gap in gaps] == [("gap", 584)]


def test_levels_of_before_2019_have_an_empty_list_behind_them() -> None:
    old = '{"e":"depthUpdate","E":123456789,"s":"AB","U":157,"u":160,"b":[["0.0024","10",[]]],"a":[["0.0026","0",[]]]}'
    assert decoded(SPOT, received(old)) == decoded(SPOT, received(old.replace(",[]]", "]")))
    book = '{"lastUpdateId":1027024,"bids":[["4.00000000","431.00000000",[]]],"asks":[]}'
    url = "https://api.binance.com/api/v3/depth?symbol=BNBBTC"
    assert decoded(SPOT, response(book, url)) == decoded(SPOT, response(book.replace(",[]]", "]"), url))


def test_contracts_that_were_delivered_before_2021_had_no_rate() -> None:
    message = '{"e":"markPriceUpdate","E":1592265602000,"s":"BTCUSD_200925","p":"9501.15","P":"9429.39"}'
    (row,) = decoded(COINM, received(message))["funding_rate"]
    assert row["mark_price"] == "9501.15" and "rate" not in row and "next_funding_ts" not in row


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/v3/ticker/24hr", '[{"symbol":"BNBBTC","priceChange":"-94.99999800"}]'),
        ("/api/v3/klines?symbol=BNBBTC&interval=1m", '[[1499040000000,"0.01634790"]]'),
        ("/api/v3/ticker/bookTicker?symbol=BNBBTC", '{"symbol":"BNBBTC","bidPrice":"4.00000000"}'),
        ("/api/v3/ping", "{}"),
    ],
)
def test_responses_that_are_not_read_are_counted(path: str, answer: str) -> None:
    decoder = SPOT.decoder()
    found = batches(decoder, response(answer, f"https://api.binance.com{path}"), Names())
    assert found == {} and decoder.control == {"response": 1}


def test_a_refusal_of_such_a_request_is_told() -> None:
    refused = response('{"code":-1003,"msg":"Too many requests."}', "https://api.binance.com/api/v3/ticker/24hr")
    assert "refused a request" in decoded(SPOT, refused)["quality_event"][0]["detail"]


def test_what_futures_number_as_a_trade_of_nothing_is_no_trade() -> None:
    bought = (
        '{"e":"trade","E":1756220468099,"T":1756220468099,"s":"BTCUSDT","t":%d,"p":"%s","q":"%s","X":"%s","m":true}'
    )
    trades = [(11, "5", "1", "MARKET"), (12, "0", "0", "NA"), (13, "5", "1", "MARKET"), (14, "5", "2", "NA")]
    tables = interpreted(USDM, [*received(*(bought % trade for trade in trades))])
    assert tables.keys() == {"trade"} and tables["trade"].column("sequence").to_pylist() == [11, 13, 14]
    assert tables["trade"].column("trade_type").to_pylist() == ["regular", "regular", "NA"]
    missed = interpreted(USDM, [*received(bought % trades[0], bought % trades[2])])["quality_event"].to_pylist()
    assert [(event["kind"], event["seq_expected"]) for event in missed] == [("gap", 12)]


def test_a_snapshot_that_was_fetched_by_who_recorded_the_streams_is_the_whole_book() -> None:
    book = (
        '{"stream":"btcusdt@depthSnapshot","generated":true,"data":{"lastUpdateId":100,"bids":[["99","1"]],"asks":[]}}'
    )
    update = (
        '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT","U":101,"u":102,"pu":100,'
    )
    tables = interpreted(USDM, [*received(book, update + '"b":[],"a":[["101","1"]]}}')])
    assert tables.keys() == {"book_delta"}
    assert tables["book_delta"].column("action").to_pylist() == [4, 1, 2]


def test_open_interest_may_have_no_time() -> None:
    message = (
        '{"stream":"btcusdt@openInterest","generated":true,"data":{"symbol":"BTCUSDT","openInterest":"26286.181"}}'
    )
    (row,) = decoded(USDM, received(message))["open_interest"]
    assert row["open_interest"] == "26286.181" and "ts_event" not in row
