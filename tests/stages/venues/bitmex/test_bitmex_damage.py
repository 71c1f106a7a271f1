"""Whatever bytes come of BitMEX: no exception, one event with the bytes, and nothing changes for other messages."""

from __future__ import annotations

import pytest

from stages.venues import venue_named
from tests import counted
from tests.stages.venues.accounting import check_cuts, check_damage
from tests.stages.venues.binance.binance_decoding import decoded, received

BITMEX = venue_named("bitmex")
TIME = '"timestamp":"2021-07-22T22:36:10.014Z"'
TRADE = (
    f'{{"table":"trade","action":"insert","data":[{{{TIME},"symbol":"UNIUSDT","side":"Buy","size":52,"price":17.297,'
    '"trdMatchID":"39744121","trdType":"Regular"}]}'
)
QUOTE = (
    f'{{"table":"quote","action":"insert","data":[{{{TIME},"symbol":"UNIUSDT","bidSize":750,"bidPrice":17.277,'
    '"askPrice":17.297,"askSize":123}]}'
)
BOOK = (
    '{"table":"orderBookL2","action":"partial","keys":["symbol","id","side"],"filter":{"symbol":"A"},"data":['
    '{"symbol":"A","id":1,"side":"Sell","size":3000,"price":0.00010699},{"symbol":"A","id":2,"side":"Buy","size":1,'
    '"price":1e-5}]}'
)
CHANGE = '{"table":"orderBookL2","action":"update","data":[{"symbol":"A","id":1,"side":"Sell","size":5}]}'
TOP = f'{{"table":"orderBook10","action":"update","data":[{{"symbol":"A","bids":[[1.5,2]],"asks":[[2,3]],{TIME}}}]}}'
BIN = (
    f'{{"table":"tradeBin1m","action":"insert","data":[{{{TIME},"symbol":"A","open":1,"high":2,"low":1,"close":2,'
    '"trades":3,"volume":4,"vwap":1.5}]}'
)
FUNDING = (
    f'{{"table":"funding","action":"insert","data":[{{{TIME},"symbol":"A","fundingInterval":"2000-01-01T08:00:00.000Z",'
    '"fundingRate":0.0001}]}'
)
ORDER = (
    '{"table":"liquidation","action":"insert","data":[{"orderID":"x","symbol":"A","side":"Buy","price":1,'
    '"leavesQty":2}]}'
)
MESSAGES = [
    TRADE,
    QUOTE,
    BOOK,
    CHANGE,
    TOP,
    BIN,
    FUNDING,
    ORDER,
    f'{{"table":"instrument","action":"update","data":[{{"symbol":"A","markPrice":1.5,"openInterest":3,{TIME}}}]}}',
    '{"success":true,"subscribe":"trade:A","request":{}}',
]


def test_damage_leaves_one_event_and_every_other_message_as_it_was() -> None:
    told = check_damage(BITMEX, [message.encode() for message in MESSAGES], TRADE.encode(), 150, 7)
    counted.count("damaged messages of BitMEX", 150 * len(MESSAGES))
    assert told > 75 * len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_cut_anywhere_is_one_event(message: str) -> None:
    check_cuts(BITMEX, message.encode())


GARBAGE = [
    "",
    " ",
    "null",
    "17",
    '"text"',
    "{}",
    "[1]",
    "[[]]",
    '{"table":"nonsense","action":"insert","data":[]}',
    '{"table":5,"action":"insert","data":[]}',
    '{"table":"trade","action":"insert"}',
    '{"table":"trade","action":"insert","data":{}}',
    '{"table":"trade","action":"insert","data":[{}]}',
    "[" * 100_000,
    '{"a":' * 100_000,
    TRADE.replace("17.297", "NaN"),
    TRADE.replace("17.297", "-17.297"),
    TRADE.replace("17.297", "17.2.97"),
    TRADE.replace("17.297", "1e999"),
    TRADE.replace("17.297", '"nan"'),
    TRADE.replace("17.297", "0.0000000000001"),
    TRADE.replace("Buy", "Hold"),
    TRADE.replace("07-22T", "13-22T"),
    TRADE.replace("07-22T", "02-30T"),
    TRADE.replace('"39744121"', "null"),
    BOOK.replace('"price":1e-5', '"price":null'),
    BOOK.replace(',"price":1e-5', ""),
    BOOK.replace('"size":1,', '"size":-1,'),
    BOOK.replace('"id":2', '"id":"two"'),
    BIN.replace('"trades":3', '"trades":-3'),
    BIN.replace('"high":2', '"high":null'),
    FUNDING.replace("08:00", "25:00"),
    '{"success":false,"error":"x"}',
]


@pytest.mark.parametrize("payload", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_message_is_one_event_with_its_bytes(payload: str) -> None:
    rows = decoded(BITMEX, received(TRADE, payload, TRADE))
    (event,) = rows.pop("quality_event")
    assert (event["kind"], event["raw"]) == ("parse_error", payload.encode())
    assert "expected" in event["detail"] or "refused" in event["detail"]
    assert len(rows.pop("trade")) == 2 and not rows
