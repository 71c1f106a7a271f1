"""Messages of Coinbase Exchange, as its documentation has them, become these rows."""

from __future__ import annotations

import msgspec
import pytest

from stages.schemas import Names
from stages.venues import venue_named
from tests.stages.venues.binance.binance_decoding import batches, decoded, received, response, values

EXCHANGE = venue_named("coinbase_exchange")
MATCH = (
    '{"type":"%s","trade_id":%d,"sequence":50,"maker_order_id":"ac928c66","taker_order_id":"132fb6ae",'
    '"time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}'
)
TICKER = (
    '{"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","price":"1285.22","open_24h":"1310.79",'
    '"best_bid":"1285.04","best_bid_size":"0.46688654","best_ask":"1285.27","best_ask_size":"1.56637040",'
    '"side":"buy","time":"2022-10-19T23:28:22.061769Z","trade_id":370843401,"last_size":"11.4396987"}'
)
SNAPSHOT = (
    '{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],"asks":[["10102.55","0.57753524"]]}'
)
UPDATE = (
    '{"type":"l2update","product_id":"BTC-USD","changes":[["buy","22356.270000","0.00000000"],'
    '["sell","22356.300000","1.00000000"]],"time":"2022-08-04T15:25:05.010758Z"}'
)


def test_a_trade_s_aggressor_is_the_other_side_than_the_maker_s() -> None:
    rows = decoded(EXCHANGE, received(MATCH % ("match", 10), (MATCH % ("match", 11)).replace("sell", "buy")))["trade"]
    assert values(rows, "ts_event", "price", "size", "aggressor_side", "trade_id", "sequence", "flags") == [
        (1415348367028459000, "400.23", "5.23512", 1, "10", 10, 128),
        (1415348367028459000, "400.23", "5.23512", 2, "11", 11, 128),
    ]


def test_the_last_trade_before_a_subscription_is_told_once() -> None:
    decoder = EXCHANGE.decoder()
    messages = received(*(MATCH % told for told in (("last_match", 9), ("match", 10), ("last_match", 10))))
    found = batches(decoder, messages, Names())["trade"]
    assert found["trade_id"].to_pylist() == ["9", "10"] and found["flags"].to_pylist() == [160, 128]
    assert decoder.control == {"trades known already": 1}


def test_best_quotes_come_of_tickers_also_where_sizes_are_not_told() -> None:
    old = TICKER.replace('"best_bid_size":"0.46688654",', "").replace('"best_ask_size":"1.56637040",', "")
    rows = decoded(EXCHANGE, received(TICKER, old))["quote"]
    assert values(rows, "sequence", "bid_price", "bid_size", "ask_price", "ask_size") == [
        (37475248783, "1285.04", "0.46688654", "1285.27", "1.5663704"),
        (37475248783, "1285.04", None, "1285.27", None),
    ]


def test_a_book_is_a_snapshot_and_its_changes() -> None:
    rows = decoded(EXCHANGE, received(SNAPSHOT, UPDATE))["book_delta"]
    assert values(rows, "action", "side", "price", "size", "flags") == [
        (4, 0, "0", "0", 32), (1, 1, "10101.1", "0.4505414", 32), (1, 2, "10102.55", "0.57753524", 160),
        (3, 1, "22356.27", "0", 0), (2, 2, "22356.3", "1", 128),
    ]  # fmt: skip
    assert rows[3]["ts_event"] == 1659626705010758000 and "sequence" not in rows[3]


def test_products_and_their_status_are_told_by_the_status_channel_and_by_http() -> None:
    products = (
        '[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","base_increment":"0.00000001",'
        '"quote_increment":"0.01","status":"online","status_message":null,"cancel_only":false},'
        '{"id":"A-EUR","base_currency":"A","quote_currency":"EUR","base_increment":"0.1","quote_increment":"0.001",'
        '"status":"online","post_only":true,"status_message":"soon"},{"id":"B-EUR","base_currency":"B",'
        '"quote_currency":"EUR","base_increment":"0.1","quote_increment":"0.001","status":"delisted","trading_disabled":true}]'
    )
    rows = decoded(EXCHANGE, received(f'{{"type":"status","products":{products},"currencies":[]}}'))
    assert values(rows["instrument"], "instrument_id", "base", "quote", "price_increment", "size_increment") == [
        ("BTC-USD.COINBASE", "BTC", "USD", "0.01", "0.00000001"),
        ("A-EUR.COINBASE", "A", "EUR", "0.001", "0.1"),
        ("B-EUR.COINBASE", "B", "EUR", "0.001", "0.1"),
    ]
    assert values(rows["instrument_status"], "action", "reason") == [
        ("trading", None), ("post_only", "soon"), ("halted", None)
    ]  # fmt: skip
    assert decoded(EXCHANGE, response(products, "https://api.exchange.coinbase.com/products")) == rows


def test_orders_one_by_one_and_heartbeats_are_known_and_errors_are_told() -> None:
    decoder = EXCHANGE.decoder()
    kinds = ["received", "open", "done", "change", "activate", "heartbeat", "subscriptions"]
    assert batches(decoder, received(*(f'{{"type":"{kind}","product_id":"BTC-USD"}}' for kind in kinds)), Names()) == {}
    assert decoder.control == dict.fromkeys(kinds, 1)
    (event,) = decoded(EXCHANGE, received('{"type":"error","message":"Failed to subscribe","reason":"x"}'))[
        "quality_event"
    ]
    assert "Failed to subscribe" in event["detail"] and "channel" not in event


def test_what_is_cut_off_is_told_with_its_product() -> None:
    rows = decoded(EXCHANGE, received(UPDATE[:70], SNAPSHOT[:60], UPDATE[:20]))["quality_event"]
    assert values(rows, "channel", "instrument_id") == [
        ("level2", "BTC-USD.COINBASE"), ("level2", "BTC-USD.COINBASE"), ("level2", None)
    ]  # fmt: skip
    assert EXCHANGE.record_of("level2") == "book_delta" and EXCHANGE.record_of("matches") == "trade"


def test_streams_are_asked_for_by_kinds_of_record_and_coinbase_s_words() -> None:
    (plan,) = EXCHANGE.connections(["BTC-USD", "ETH-USD"], ["trade", "book_delta", "instrument", "heartbeat"])
    assert plan.url == "wss://ws-feed.exchange.coinbase.com"
    both = ["BTC-USD", "ETH-USD"]
    assert [msgspec.json.decode(message) for message in plan.sends] == [
        {"type": "subscribe", "channels": ["status"]},
        {"type": "subscribe", "product_ids": both, "channels": ["matches"]},
        {"type": "subscribe", "product_ids": both, "channels": ["level2_batch"]},
        {"type": "subscribe", "product_ids": both, "channels": ["heartbeat"]},
    ]
    with pytest.raises(LookupError, match="no stream brings 'bar'"):
        EXCHANGE.connections(["BTC-USD"], ["bar"])


def test_an_update_whose_time_is_not_known_changes_the_book_all_the_same() -> None:
    timeless = UPDATE.replace(',"time":"2022-08-04T15:25:05.010758Z"', "")
    zero = UPDATE.replace("2022-08-04T15:25:05.010758Z", "0001-01-01T00:00:00.000000Z")
    found = decoded(EXCHANGE, received(timeless, zero))
    assert found.keys() == {"book_delta"} and len(found["book_delta"]) == 4
    assert all("ts_event" not in row for row in found["book_delta"])


def test_a_product_that_does_not_trade_yet_has_no_best_prices() -> None:
    decoder = EXCHANGE.decoder()
    bare = '{"type":"ticker","sequence":1,"product_id":"NEW-USD","price":"0"}'
    empty = bare.replace("}", ',"best_bid":"","best_ask":""}')
    assert batches(decoder, received(bare, empty), Names()) == {} and decoder.control == {"nothing new": 2}


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ('{"type":"auction","product_id":"LTC-USD","sequence":1,"auction_state":"collection"}', "auction"),
        ('{"type":"rfq_match","trade_id":30,"product_id":"BTC-USD","size":"5","price":"4","side":"sell"}', "rfq_match"),
        ('{"type":"level3","schema":{"done":["type","product_id"]}}', "level3"),
        ('["open","BTC-USD","3","a1","2021-01-01T00:00:00.000000Z","1.5","2"]', "level3"),
    ],
)
def test_what_is_known_and_no_record_is_counted(message: str, word: str) -> None:
    decoder = EXCHANGE.decoder()
    assert batches(decoder, received(message), Names()) == {} and decoder.control == {word: 1}


def test_products_of_before_2020_have_no_step_of_sizes() -> None:
    listed = (
        '{"type":"status","products":[{"id":"B-C","base_currency":"B","quote_currency":"C","quote_increment":"0.01"}]}'
    )
    (row,) = decoded(EXCHANGE, received(listed))["instrument"]
    assert row["price_increment"] == "0.01" and "size_increment" not in row
