"""Whatever bytes come: no exception, one quality event with the bytes, and nothing changes for other messages."""

from __future__ import annotations

import json
import random
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from binance_decoding import batches, both_ways, decoded, received

from stages.messages import Messages
from stages.schemas import Names, Scales
from stages.venues import venue_named
from stages.venues.binance.group import Market
from tests import counted
from tests.stages.venues.damage import damaged

SPOT, USDM = venue_named("binance_spot"), venue_named("binance_usdm")
ROUNDS = 150
"""Ways each message is damaged."""

TRADE = (
    '{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782135,"m":true,"M":true}'
)
DEPTH = '{"e":"depthUpdate","E":5,"T":4,"s":"AB","U":7,"u":9,"pu":6,"b":[["1.5","0.00"],["1.4","2"]],"a":[["1.6","3"]]}'
TICKER = '{"u":400900217,"s":"BNBUSDT","b":"25.3519","B":"31.21","a":"25.3652","A":"40.66"}'
KLINE = (
    '{"e":"kline","E":1638747660000,"s":"BTCUSDT","k":{"t":1638747660000,"T":1638747719999,"s":"BTCUSDT","i":"1m",'
    '"f":1,"L":2,"o":"0.1","c":"0.2","h":"0.25","l":"0.1","v":"1000","n":100,"x":true,"q":"1","V":"500","Q":"0","B":"0"}}'
)
MARK = (
    '{"e":"markPriceUpdate","E":1562305380000,"s":"AB","p":"11794.15","i":"1","P":"1","r":"0.00038167",'
    '"T":1562306400000}'
)
FORCED = (
    '{"e":"forceOrder","E":1568014460893,"o":{"s":"AB","S":"SELL","o":"LIMIT","f":"IOC","q":"0.014","p":"9910",'
    '"ap":"9910.5","X":"FILLED","l":"0.014","z":"0.014","T":1568014460893}}'
)
PARTIAL = '{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}'
MESSAGES = [
    TRADE,
    TRADE.replace('"trade"', '"aggTrade"').replace('"t"', '"a"'),
    DEPTH,
    TICKER,
    TICKER.replace('{"u"', '{"e":"bookTicker","T":5,"E":6,"u"'),
    f'{{"stream":"bnbbtc@trade","data":{TRADE}}}',
    f'{{"stream":"ab@depth@100ms","data":{DEPTH}}}',
    f'{{"stream":"bnbusdt@bookTicker","data":{TICKER}}}',
    f'{{"stream":"ab@depth5","data":{PARTIAL}}}',
    f'{{"stream":"ab@depth10@100ms","data":{DEPTH}}}',
    f'{{"stream":"!markPrice@arr","data":[{MARK},{MARK}]}}',
    PARTIAL,
    KLINE,
    MARK,
    FORCED,
    '{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}',
    '{"result":null,"id":1}',
]


def without(batch: pa.RecordBatch, seqs: list[int]) -> pa.RecordBatch:
    """Rows of other messages than these; names instead of codes, which may have shifted."""
    return named(batch.filter(pc.invert(pc.is_in(batch["ingest_seq"], pa.array(seqs, pa.uint64())))))


def named(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays = [array.dictionary_decode() if pa.types.is_dictionary(array.type) else array for array in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def test_damage_leaves_one_event_and_every_other_message_as_it_was() -> None:
    chance = random.Random(5)
    payloads: list[bytes] = []
    for message in MESSAGES:
        for _ in range(ROUNDS):
            payloads += [damaged(message.encode(), chance), chance.choice(MESSAGES[:10]).encode()]
    messages = received(*payloads)
    counted.count("damaged messages of Binance", len(payloads) // 2)
    bad = list(range(0, len(payloads), 2))
    clean = Messages.of([row for row in messages if row.ingest_seq % 2])
    for venue in (SPOT, USDM):
        scanning, plain = both_ways(venue, Market("base"))
        one, two = (batches(decoder, messages, Names()) for decoder in (scanning, plain))
        assert one.keys() == two.keys() and all(one[kind].equals(two[kind]) for kind in one)
        assert scanning.control == plain.control and scanning.scanned > len(bad) // 2
        alone = batches(venue.decoder(), clean, Names())
        for kind, batch in alone.items():
            assert without(one[kind], bad).equals(named(batch))
        # Of each message: rows of one kind, or one event, or nothing where it is a reply.
        told = Counter((seq.as_py(), kind) for kind, batch in one.items() for seq in pc.unique(batch["ingest_seq"]))
        assert max(Counter(seq for seq, _ in told).values()) == 1
        assert len(told) + sum(scanning.control.values()) == len(payloads)
        events = one["quality_event"]
        assert len(events) == pc.count_distinct(events["ingest_seq"]).as_py() > len(bad) // 2
        assert events["raw"].to_pylist() == [payloads[seq.as_py()] for seq in events["ingest_seq"]]
        assert all(events["detail"].to_pylist())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_cut_anywhere_is_one_event(message: str) -> None:
    payloads = [message.encode()[:end] for end in range(len(message))]
    (events,) = batches(SPOT.decoder(), received(*payloads), Names()).values()
    assert events["ingest_seq"].to_pylist() == list(range(len(message)))
    assert events["raw"].to_pylist() == payloads
    assert set(events["kind"].to_pylist()) == {"parse_error"}


GARBAGE = [
    "",
    " ",
    "null",
    "true",
    "17",
    '"text"',
    "{}",
    "[[]]",
    "[1,2]",
    '{"e":"nonsense","E":1}',
    '{"e":5}',
    '{"stream":"ab@trade"}',
    '{"stream":5,"data":{}}',
    '{"stream":"ab@trade","data":"x"}',
    '{"stream":"ab@trade","data":{}}',
    '{"stream":"ab@depth5","data":{"lastUpdateId":1}}',
    f'{{"stream":"ab@trade","data":{DEPTH}}}',
    "[" * 100_000,
    '{"a":' * 100_000,
    "\x00" * 10,
    TRADE.replace('"0.001"', "0.001"),
    TRADE.replace('"0.001"', '"nan"'),
    TRADE.replace('"0.001"', '""'),
    TRADE.replace('"0.001"', '"1,5"'),
    TRADE.replace('"100"', '"-100"'),
    TRADE.replace('"0.001"', '"0.000000001"'),
    TRADE.replace('"100"', '"10000000000"'),
    TRADE.replace("12345", '"12345"'),
    TRADE.replace("12345", "-1"),
    TRADE.replace("12345", "1e400"),
    TRADE.replace("12345", "99999999999999999999"),
    TRADE.replace("true", "1"),
    TRADE.replace("1672515782135", "9999999999999999999"),
    TRADE.replace('"s":"BNBBTC",', ""),
    TRADE.replace('"BNBBTC"', '""'),
    TRADE + TRADE,
    TRADE.replace("}", ',"X":null}'),
    DEPTH.replace('["1.4","2"]', '["1.4"]'),
    DEPTH.replace('["1.4","2"]', '["1.4",2]'),
    DEPTH.replace('["1.4","2"]', '["1.4","2","3"]'),
    DEPTH.replace('["1.4","2"]', '["1.4","two"]'),
    DEPTH.replace('"pu":6', '"pu":null'),
    TICKER.replace('"31.21"', '"31.2.1"'),
    KLINE.replace("1638747719999", "1638747650000"),
    KLINE.replace('"1000"', '"lots"'),
    MARK.replace('"0.00038167"', '"0.38%"'),
    FORCED.replace("SELL", "HOLD"),
    f"[{MARK},{MARK.replace('11794.15', 'x')}]",
    f"[{MARK},{{}}]",
    PARTIAL.replace("160", '"160"'),
    '{"symbols":[{"symbol":"AB"}]}',
]


@pytest.mark.parametrize("payload", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_message_is_one_event_with_its_bytes(payload: str) -> None:
    for venue in (SPOT, USDM):
        rows = decoded(venue, received(TRADE, payload, TRADE))
        (event,) = rows.pop("quality_event")
        assert (event["kind"], event["raw"]) == ("parse_error", payload.encode()) and "expected" in event["detail"]
        assert len(rows.pop("trade")) == 2 and not rows


def test_a_reason_names_the_field_and_the_stream() -> None:
    spoilt = f'{{"stream":"bnbbtc@trade","data":{TRADE.replace("12345", "null")}}}'
    (event,) = decoded(SPOT, received(spoilt))["quality_event"]
    assert (event["channel"], event["instrument_id"]) == ("trade", "BNBBTC.BINANCE")
    assert "Expected `int`, got `null` - at `$.t`" in event["detail"]


def test_a_scale_too_small_is_told_with_the_one_that_holds() -> None:
    (event,) = decoded(SPOT, received(TRADE), Scales(price=2, size=8))["quality_event"]
    assert "a price scale of 3 holds it" in event["detail"]
    assert decoded(SPOT, received(TRADE), Scales(price=12, size=0))["trade"][0]["price"] == "0.001"


def test_json_in_another_layout_is_read_as_well() -> None:
    for message in MESSAGES[:10]:
        loose = json.dumps(json.loads(message), indent=1)
        turned = json.dumps(dict(reversed(json.loads(message).items())))
        assert decoded(SPOT, received(message)) == decoded(SPOT, received(loose)) == decoded(SPOT, received(turned))
