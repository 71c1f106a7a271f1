"""Whatever bytes come of Bybit: no exception, one event with the bytes, and nothing changes for other messages."""

from __future__ import annotations

import pytest

from stages.venues import Venue, venue_named
from tests import counted
from tests.stages.venues.accounting import check_cuts, check_damage
from tests.stages.venues.binance.binance_decoding import decoded, received

V5, V2 = venue_named("bybit"), venue_named("bybit_v2")
TRADE = (
    '{"topic":"publicTrade.AB","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"AB","S":"Buy",'
    '"v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950","BT":false,"seq":5}]}'
)
BOOK = (
    '{"topic":"orderbook.50.CD","type":"snapshot","ts":1672304484978,"data":{"s":"CD","b":[["16493.50","0.006"]],'
    '"a":[["16611.00","0.029"]],"u":18521288,"seq":7961638724},"cts":1672304484976}'
)
KLINE = (
    '{"topic":"kline.5.CD","data":[{"start":1672324800000,"end":1672325099999,"interval":"5","open":"16649.5",'
    '"close":"16677","high":"16677","low":"16608","volume":"2.081","turnover":"34666.4","confirm":false,'
    '"timestamp":1672324988882}],"ts":1672324988882,"type":"snapshot"}'
)
TICKER = (
    '{"topic":"tickers.CD","type":"snapshot","data":{"symbol":"CD","markPrice":"17217.33","indexPrice":"17227.36",'
    '"openInterest":"68744.761","nextFundingTime":"1673280000000","fundingRate":"-0.000212"},"cs":1,"ts":2}'
)
FORCED = (
    '{"topic":"allLiquidation.CD","type":"snapshot","ts":1739502303204,"data":[{"T":1739502302929,"s":"CD",'
    '"S":"Sell","v":"20000","p":"0.04499"}]}'
)
OLD_TRADE = (
    '{"topic":"trade.AB","data":[{"symbol":"AB","tick_direction":"MinusTick","price":"1053.90","size":0.14,'
    '"timestamp":"2021-04-17T16:43:05.000Z","trade_time_ms":"1618677785116","side":"Buy","trade_id":"01cacfe9"}]}'
)
OLD_BOOK = (
    '{"topic":"orderBookL2_25.CD","type":"snapshot","data":[{"price":"7.943","symbol":"CD","id":79430,"side":"Buy",'
    '"size":154219}],"cross_seq":1225777224,"timestamp_e6":1618677786558146}'
)
OLD_CHANGE = (
    '{"topic":"orderBookL2_25.CD","type":"delta","data":{"delete":[],"update":[{"price":"7.943","symbol":"CD",'
    '"id":79430,"side":"Buy","size":47766}],"insert":[]},"cross_seq":1225777225,"timestamp_e6":1618677786598877}'
)
REPLY = '{"success":true,"ret_msg":"","conn_id":"x","op":"subscribe","request":{"op":"subscribe"}}'
MESSAGES = {
    "v5": [TRADE, BOOK, BOOK.replace("orderbook.50", "orderbook.1"), KLINE, TICKER, FORCED, REPLY],
    "v2": [OLD_TRADE, OLD_BOOK, OLD_CHANGE, REPLY],
}
EACH = [(venue, message) for venue, name in ((V5, "v5"), (V2, "v2")) for message in MESSAGES[name]]


@pytest.mark.parametrize(("venue", "name", "clean"), [(V5, "v5", TRADE), (V2, "v2", OLD_TRADE)])
def test_damage_leaves_one_event_and_every_other_message_as_it_was(venue: Venue, name: str, clean: str) -> None:
    told = check_damage(venue, [message.encode() for message in MESSAGES[name]], clean.encode(), 150, 11)
    counted.count("damaged messages of Bybit", 150 * len(MESSAGES[name]))
    assert told > 75 * len(MESSAGES[name])


@pytest.mark.parametrize(("venue", "message"), EACH)
def test_a_message_cut_anywhere_is_one_event(venue: Venue, message: str) -> None:
    check_cuts(venue, message.encode())


GARBAGE = [
    "",
    "null",
    "17",
    "{}",
    "[1]",
    '{"topic":5,"data":{}}',
    '{"topic":"nonsense.AB","type":"snapshot","ts":1,"data":{}}',
    '{"topic":"publicTrade","type":"snapshot","ts":1,"data":[{}]}',
    "[" * 100_000,
    '{"a":' * 100_000,
    TRADE.replace('"16578.50"', "16578.50"),
    TRADE.replace('"16578.50"', '"NaN"'),
    TRADE.replace('"16578.50"', '"-1"'),
    TRADE.replace('"16578.50"', '"0.000000001"'),
    TRADE.replace("Buy", "Hold"),
    TRADE.replace("1672304486865", "-5"),
    TRADE.replace('"20f43950"', "null"),
    BOOK.replace('"s":"CD"', '"s":"CE"'),
    BOOK.replace('"0.006"', '"many"'),
    BOOK.replace('["16493.50","0.006"]', '["16493.50"]'),
    BOOK.replace("18521288", "-1"),
    BOOK.replace("orderbook.50", "orderbook.1").replace('"0.006"', '"1e9999999999"'),
    KLINE.replace('"2.081"', '"lots"'),
    KLINE.replace("1672325099999", "1672324700000"),
    TICKER.replace('"-0.000212"', '"a few"'),
    TICKER.replace('"1673280000000"', '"soon"'),
    FORCED.replace("Sell", "None"),
]
OLD_GARBAGE = [
    "",
    "{}",
    '{"topic":"nonsense.AB","data":{}}',
    OLD_TRADE.replace("0.14", "null"),
    OLD_TRADE.replace("0.14", "-0.14"),
    OLD_TRADE.replace('"1618677785116"', '"x"'),
    OLD_BOOK.replace('"symbol":"CD"', '"symbol":"CE"'),
    OLD_BOOK.replace(',"size":154219', ""),
    OLD_BOOK.replace('"cross_seq":1225777224,', ""),
    OLD_BOOK.replace("79430", "7.5"),
    '{"success":false,"ret_msg":"expected","request":{}}',
]


@pytest.mark.parametrize(
    ("venue", "clean", "payload"),
    [(V5, TRADE, payload) for payload in GARBAGE] + [(V2, OLD_TRADE, payload) for payload in OLD_GARBAGE],
    ids=range(len(GARBAGE) + len(OLD_GARBAGE)),
)
def test_what_is_no_message_is_one_event_with_its_bytes(venue: Venue, clean: str, payload: str) -> None:
    rows = decoded(venue, received(clean, payload, clean))
    (event,) = rows.pop("quality_event")
    assert (event["kind"], event["raw"]) == ("parse_error", payload.encode()) and "expected" in event["detail"]
    assert len(rows.pop("trade")) == 2 and not rows
