"""Messages of Kraken's version 1, as its documentation has them, become these rows."""

from __future__ import annotations

import msgspec
import pytest

from stages.schemas import Names
from stages.venues import venue_named
from tests.stages.venues.binance.binance_decoding import batches, decoded, received, response, values

V1 = venue_named("kraken_v1")
TRADES = (
    '[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""],'
    '["6060.00000","0.02455000","1534614057.324998","b","m",""]],"trade","XBT/USD"]'
)
SPREAD = '[0,["5698.40000","5700.00000","1542057299.545897","1.01234567","0.98765432"],"spread","XBT/USD"]'
TICKER = '[0,{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"0.5"],"c":["5525.1","0.0"]},"ticker","XBT/USD"]'
CANDLE = (
    '[42,["1542057314.748456","1542057360.435743","3586.70000","3586.80000","3586.60000","3586.60000","3586.68894",'
    '"0.03373000",2],"ohlc-5","XBT/USD"]'
)
SNAPSHOT = (
    '[0,{"as":[["5541.30000","2.50700000","1534614248.123678"],["5541.80000","0.33000000","1534614098.345543"]],'
    '"bs":[["5541.20000","1.52900000","1534614248.765567"]]},"book-100","XBT/USD"]'
)
CHANGE = (
    '[1234,{"a":[["5541.30000","2.50700000","1534614248.456738","r"],["5542.50000","0.40100000","1534614248.456738"]]},'
    '{"b":[["5541.30000","0.00000000","1534614335.345903"]],"c":"974942666"},"book-10","XBT/USD"]'
)


def test_trades_are_by_the_taker_s_side_and_have_no_numbers() -> None:
    rows = decoded(V1, received(TRADES))["trade"]
    assert values(rows, "ts_event", "price", "size", "aggressor_side", "trade_id", "sequence") == [
        (1534614057321597000, "5541.2", "0.15850568", 2, None, None),
        (1534614057324998000, "6060", "0.02455", 1, None, None),
    ]
    assert values(rows, "instrument_id") == ["XBT/USD.KRAKEN"] * 2


def test_best_quotes_come_of_spreads_with_a_time_and_of_tickers_without() -> None:
    rows = decoded(V1, received(SPREAD, TICKER, SPREAD.replace("5698.40000", "0.00000")))["quote"]
    assert values(rows, "ts_event", "bid_price", "bid_size", "ask_price", "ask_size") == [
        (1542057299545897000, "5698.4", "1.01234567", "5700", "0.98765432"),
        (None, "5525.1", "0.5", "5525.4", "1"),
        (1542057299545897000, None, None, "5700", "0.98765432"),
    ]


def test_a_candle_ends_at_the_minute_and_is_never_said_to_be_complete() -> None:
    (row,) = decoded(V1, received(CANDLE))["bar"]
    assert (row["bar_start"], row["bar_end"]) == (1542057060 * 10**9, 1542057360 * 10**9)
    assert (row["ts_event"], row["volume"], row["trade_count"]) == (1542057314748456000, "0.03373", 2)
    assert (row["vwap"], row["is_complete"], row["close"]) == (3586.68894, False, "3586.6")


def test_a_book_s_snapshot_clears_and_its_changes_end_with_the_checksum() -> None:
    names = Names()
    found = batches(V1.decoder(), received(SNAPSHOT, CHANGE), names)["book_delta"].to_pylist()
    assert values(found, "action", "side", "flags") == [
        (4, 0, 32), (1, 1, 32), (1, 2, 32), (1, 2, 160), (3, 1, 0), (2, 2, 0), (2, 2, 128)
    ]  # fmt: skip
    assert [str(row["price"].normalize()) for row in found[4:]] == ["5541.3", "5541.3", "5542.5"]
    assert found[0]["ts_event"].value == 1534614248765567000 and found[-1]["ts_event"].value == 1534614335345903000


def test_a_book_is_cut_to_the_depth_of_its_first_message() -> None:
    decoder = V1.decoder()
    batches(decoder, received(SNAPSHOT, CHANGE), Names())
    rule = V1.book_rule("XBT/USD.KRAKEN")
    assert (rule.depth, decoder.book_rule("XBT/USD.KRAKEN", rule).depth) == (1000, 100)
    assert decoder.book_rule("ETH/USD.KRAKEN", rule) is rule
    again = V1.decoder()
    again.restore(decoder.snapshot())
    assert again.book_rule("XBT/USD.KRAKEN", rule).depth == 100


def test_events_are_control_and_refusals_are_told() -> None:
    decoder = V1.decoder()
    subscribed = '{"channelID":10,"channelName":"trade","event":"subscriptionStatus","pair":"XBT/EUR","status":"%s"}'
    status = '{"event":"systemStatus","status":"online"}'
    assert batches(decoder, received('{"event":"heartbeat"}', subscribed % "subscribed", status), Names()) == {}
    assert decoder.control == {"heartbeat": 1, "subscriptionStatus": 1, "systemStatus": 1}
    (event,) = decoded(V1, received(subscribed % "error"))["quality_event"]
    assert event["kind"] == "parse_error" and "instrument_id" not in event and "no error" in event["detail"]


def test_a_message_cut_off_is_known_by_its_number_and_one_without_its_beginning_by_its_end() -> None:
    rows = decoded(V1, received(TRADES, SPREAD.replace("[0,", "[7,"), TRADES[:50], SPREAD.replace("[0", "[7")[:40]))
    assert values(rows["quality_event"], "channel", "instrument_id") == [
        ("trade", "XBT/USD.KRAKEN"), ("spread", "XBT/USD.KRAKEN")
    ]  # fmt: skip
    (event,) = decoded(V1, received(CHANGE[20:]))["quality_event"]
    assert (event["channel"], event["instrument_id"]) == ("book-10", "XBT/USD.KRAKEN")


def test_pairs_that_have_streams_are_instruments() -> None:
    body = (
        '{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT\\/USD","pair_decimals":1,"lot_decimals":8,"status":"post_only"},'
        '"XXBTZUSD.d":{"pair_decimals":1,"lot_decimals":8},'
        '"SOLUSD":{"wsname":"SOL/USD","pair_decimals":2,"lot_decimals":6,"tick_size":"0.05"}}}'
    )
    rows = decoded(V1, response(body, "https://api.kraken.com/0/public/AssetPairs"))
    assert values(rows["instrument"], "instrument_id", "base", "quote", "price_increment", "size_increment") == [
        ("XBT/USD.KRAKEN", "XBT", "USD", "0.1", "0.00000001"),
        ("SOL/USD.KRAKEN", "SOL", "USD", "0.05", "0.000001"),
    ]
    assert values(rows["instrument_status"], "instrument_id", "action") == [("XBT/USD.KRAKEN", "post_only")]


def test_streams_are_asked_for_by_kinds_of_record_and_kraken_s_words() -> None:
    (plan,) = V1.connections(["XBT/USD", "ETH/USD"], ["quote", "book_delta", "ohlc-60"])
    assert plan.url == "wss://ws.kraken.com"
    assert plan.streams[:3] == ("spread:XBT/USD", "spread:ETH/USD", "book-1000:XBT/USD")
    assert [msgspec.json.decode(message)["subscription"] for message in plan.sends] == [
        {"name": "spread"}, {"name": "book", "depth": 1000}, {"name": "ohlc", "interval": 60}
    ]  # fmt: skip
    assert msgspec.json.decode(plan.sends[0])["pair"] == ["XBT/USD", "ETH/USD"]
    with pytest.raises(LookupError, match="no stream brings 'book-11'; did you mean"):
        V1.connections(["XBT/USD"], ["book-11"])
    with pytest.raises(LookupError, match="no stream brings 'instrument'"):
        V1.connections(["XBT/USD"], ["instrument"])


@pytest.mark.parametrize(
    ("channel", "record"),
    [("book-25", "book_delta"), ("trade", "trade"), ("spread", "quote"), ("ohlc-5", "bar"), ("x", None)],
)
def test_channels_bring_kinds_of_record(channel: str, record: str | None) -> None:
    assert V1.record_of(channel) == record


def test_a_stand_in_s_messages_are_known() -> None:
    assert V1.recognises("ws://127.0.0.1:9", CHANGE.encode())
    assert not V1.recognises("wss://example.com", CHANGE.encode())
    assert not V1.recognises("", b'{"channel":"book","type":"update","data":[]}')


def test_a_spread_of_before_sizes_were_told_has_prices_alone() -> None:
    found = decoded(V1, received('[0,["5698.40000","5700.00000","1542057299.545897"],"spread","XBT/USD"]'))
    (row,) = found["quote"]
    assert (row["bid_price"], row["ask_price"]) == ("5698.4", "5700") and "bid_size" not in row


def test_a_second_part_of_a_book_may_be_none() -> None:
    whole = '[923,{"as":[["0.102987","3.00000000","1561939199.992830"]],"bs":[]},null,"book-1000","ADA/CAD"]'
    found = decoded(V1, received(whole))
    assert [row["action"] for row in found["book_delta"]] == [4, 1] and found.keys() == {"book_delta"}
