"""Venues are found by name and by their messages, and say how to connect to them within their limits."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from stages.messages import MessageKind, Messages, RawMessage
from stages.venues import VENUES, venue_named, venue_of

SPOT, USDM, COINM = (venue_named(f"binance_{market}") for market in ("spot", "usdm", "coinm"))


def of(*payloads: str, url: str = "") -> Messages:
    return Messages.of_payloads([payload.encode() for payload in payloads], [0] * len(payloads), url=url, source="x.gz")


def test_every_venue_has_a_name_of_its_own_and_every_market_a_suffix() -> None:
    assert len({venue.name for venue in VENUES}) == len(VENUES)
    shared = {"KRAKEN": ["kraken", "kraken_v1"], "COINBASE": ["coinbase_advanced", "coinbase_exchange"]}
    shared["BYBIT"] = ["bybit", "bybit_v2"]
    for suffix in {venue.suffix for venue in VENUES}:
        names = [venue.name for venue in VENUES if venue.suffix == suffix]
        assert len(names) == 1 or names == shared[suffix], "two protocols of one market"
    for venue in VENUES:
        assert venue_named(venue.name) is venue
        assert venue.symbol(venue.instrument_id("AB")) == "AB"


def test_a_mistyped_venue_is_told_with_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"no venue is called 'binance_sopt'; did you mean 'binance_spot'\?"):
        venue_named("binance_sopt")
    with pytest.raises(LookupError, match="known: binance_spot, binance_usdm"):
        venue_named("qqq")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("wss://stream.binance.com:9443/ws/btcusdt@trade", "binance_spot"),
        ("https://api3.binance.com/api/v3/depth?symbol=BTCUSDT", "binance_spot"),
        ("wss://fstream.binance.com/stream?streams=btcusdt@depth", "binance_usdm"),
        ("https://dapi.binance.com/dapi/v1/depth?symbol=BTCUSD_PERP", "binance_coinm"),
        ("wss://stream.binance.us:9443/stream", "binance_us"),
        ("https://www.binance.com/api/v1/depth?symbol=BTCUSDT&limit=1000", "binance_spot"),
        ("https://www.binance.com/fapi/v1/depth?symbol=BTCUSDT", "binance_usdm"),
        ("wss://fstream-auth.binance.com/stream", "binance_usdm"),
        ("wss://ws.bitmex.com/realtime", "bitmex"),
        ("https://www.bitmex.com/api/v1/instrument/active", "bitmex"),
        ("wss://stream.bybit.com/v5/public/linear", "bybit"),
        ("wss://stream.bybit.com/v5/public/spot", "bybit_spot"),
        ("wss://stream.bybit.com/realtime_public", "bybit_v2"),
        ("https://api.bybit.com/v2/public/symbols", "bybit_v2"),
        ("wss://ws.kraken.com/v2", "kraken"),
        ("wss://ws.kraken.com", "kraken_v1"),
        ("https://api.kraken.com/0/public/AssetPairs", "kraken_v1"),
        ("wss://ws-feed.exchange.coinbase.com", "coinbase_exchange"),
        ("wss://ws-feed.pro.coinbase.com", "coinbase_exchange"),
        ("https://api.pro.coinbase.com/products", "coinbase_exchange"),
        ("wss://advanced-trade-ws.coinbase.com", "coinbase_advanced"),
        ("https://api.coinbase.com/api/v3/brokerage/market/products", "coinbase_advanced"),
    ],
)
def test_messages_are_known_by_where_they_came_from(url: str, name: str) -> None:
    assert venue_of(of("anything", url=url)).name == name


@pytest.mark.parametrize("url", ["", "ws://127.0.0.1:9001/stream", "ws://localhost/ws"])
@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ('{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1","q":"1","T":1,"m":true,"M":true}', "binance_spot"),
        ('{"stream":"x","data":{"u":4,"s":"AB","b":"1","B":"1","a":"2","A":"3"}}', "binance_spot"),
        ('{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":1,"p":"1","q":"1","X":"MARKET","m":true}', "binance_usdm"),
        ('{"e":"bookTicker","u":1,"s":"BTCUSDT_250926","b":"1","B":"1","a":"1","A":"1","T":1,"E":1}', "binance_usdm"),
        ('{"u":1,"e":"bookTicker","s":"BTCUSD_PERP","ps":"BTCUSD","b":"1","B":"1","a":"1","A":"1"}', "binance_coinm"),
        ('{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSD_250926","U":1,"u":1,"pu":0,"b":[],"a":[]}', "binance_coinm"),
        ('{"table":"trade","action":"insert","data":[]}', "bitmex"),
        ('{"topic":"orderbook.500.AB","type":"delta","ts":1,"data":{"s":"AB","b":[],"a":[],"u":1}}', "bybit"),
        ('{"topic":"publicTrade.AB","type":"snapshot","ts":1,"data":[{"i":"20f43950-d8dd-5b31","BT":false}]}', "bybit"),
        ('{"topic":"publicTrade.AB","type":"snapshot","ts":1,"data":[{"i":"2290000000061666327"}]}', "bybit_spot"),
        ('{"topic":"orderBookL2_25.AB","type":"delta","data":{}}', "bybit_v2"),
        ('{"channel":"trade","type":"update","data":[]}', "kraken"),
        ('[7,[["1","2","3.5","s","l",""]],"trade","XBT/USD"]', "kraken_v1"),
        ('{"type":"l2update","product_id":"BTC-USD","changes":[["buy","1","2"]],"time":"x"}', "coinbase_exchange"),
        ('{"e":"aggTrade","E":1,"s":"AB","a":1,"p":"1","q":"1","f":1,"l":1,"T":1,"m":true}', "binance_usdm"),
        ('{"e":"aggTrade","E":1,"s":"AB","a":1,"p":"1","q":"1","f":1,"l":1,"T":1,"m":true,"M":true}', "binance_spot"),
        ('{"e":"markPriceUpdate","E":1,"s":"BTCBUSD_210129","p":"1","r":"","T":0}', "binance_usdm"),
        ('{"e":"markPriceUpdate","E":1,"s":"BNBUSD_210326","p":"1","r":"","T":0}', "binance_coinm"),
        ('{"channel":"heartbeats","timestamp":"x","sequence_num":0,"events":[]}', "coinbase_advanced"),
        ('{"channel":"l2_data","client_id":"","timestamp":"x","sequence_num":0,"events":[]}', "coinbase_advanced"),
    ],
)
def test_messages_of_a_server_of_one_s_own_are_known_by_how_they_are_written(url: str, payload: str, name: str) -> None:
    assert venue_of(of('{"result":null,"id":1}', payload, url=url)).name == name
    spaced = payload if payload.startswith("[") else json.dumps(json.loads(payload))
    assert venue_of(of(spaced, url=url)).name == name


@pytest.mark.parametrize(
    "payload",
    [
        '[94952,[2.271e-05,657877.46,2.274e-05],9797,1633910436166,"ticker","MATICF0:USTF0"]',
        '{"time_ms":1682689045562,"channel":"spot.order_book_update","event":"update","result":{"t":1682689045398,'
        '"e":"depthUpdate","E":1682689045,"s":"AB_USDT","U":1,"u":2,"b":[],"a":[]}}',
        '{"e":"depthUpdate","E":1783981139947514400,"s":"wifusd","U":1,"u":2,"b":[],"a":[]}',
        '{"stream":"btc-251219-89000-c@optionTrade","data":{"e":"trade","E":1,"T":1,"s":"BTC-251219-89000-C","t":2,'
        '"p":"1420.000","q":"1.54","X":"MARKET","m":true}}',
        '{"channel":"trades","data":[{"coin":"BTC"}]}',
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.raw","data":[]}}',
        '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[]}',
    ],
)
def test_what_others_write_alike_is_nobody_s(payload: str) -> None:
    with pytest.raises(LookupError, match="expected messages of a known venue"):
        venue_of(of(payload))


def test_messages_of_nobody_beside_those_of_a_venue_are_told_unless_they_are_responses_without_an_address() -> None:
    trade = of('[7,[["1","2","3.5","s","l",""]],"trade","XBT/USD"]')
    answer = Messages.of([RawMessage(7, 0, MessageKind.RESPONSE, "http", "", b'{"lastUpdateId":1}')])
    assert venue_of(trade, answer).name == "kraken_v1"
    with pytest.raises(LookupError, match=r"found '\{\}' beside those of kraken_v1; another venue"):
        venue_of(trade, of("{}"))


def test_messages_of_nobody_or_of_several_are_told_with_their_file() -> None:
    with pytest.raises(
        LookupError, match=r"x\.gz: expected messages of a known venue, found '\{\"hello\":1\}'; another"
    ):
        venue_of(of('{"hello":1}'))
    said = (
        r"found ws\.okx\.com: '\{\}'; another venue has to be added .*CONTRIBUTING.*known are binance_spot, .*name it"
    )
    with pytest.raises(LookupError, match=said):
        venue_of(of("{}", url="wss://ws.okx.com:8443/ws/v5/public"))
    with pytest.raises(LookupError, match="found no messages"):
        venue_of(Messages.of([]))
    both = Messages.concat([of("1", url="wss://fstream.binance.com/ws"), of("1", url="wss://dstream.binance.com/ws")])
    with pytest.raises(LookupError, match=r"found binance_coinm \(x.gz\), binance_usdm \(x.gz\); give those"):
        venue_of(both)


def test_a_connection_brings_the_streams_of_kinds_of_record_and_of_the_venue_s_own_words() -> None:
    (plan,) = SPOT.connections(["BTCUSDT", "ETHUSDT"], ["trade", "book_delta", "kline_5m", "trade"])
    assert plan.streams == tuple(
        f"{a}@{b}" for a in ("btcusdt", "ethusdt") for b in ("trade", "depth@100ms", "kline_5m")
    )
    assert plan.url == f"wss://stream.binance.com:9443/stream?streams={'/'.join(plan.streams)}" and not plan.sends
    (local,) = SPOT.connections(["BTCUSDT"], ["quote"], "ws://127.0.0.1:8080/")
    assert local.url == "ws://127.0.0.1:8080/stream?streams=btcusdt@bookTicker"


def test_usd_m_asks_for_books_at_another_path_than_for_the_rest() -> None:
    plans = USDM.connections(["BTCUSDT"], ["trade", "book_delta", "quote", "funding_rate", "liquidation"])
    assert [plan.url.removeprefix("wss://fstream.binance.com") for plan in plans] == [
        "/market/stream?streams=btcusdt@trade/btcusdt@markPrice@1s/btcusdt@forceOrder",
        "/public/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker",
    ]


def test_many_streams_are_subscribed_to_in_messages_and_spread_over_connections() -> None:
    symbols = [f"S{number}" for number in range(1500)]
    plans = COINM.connections(symbols, ["trade"])
    limits = COINM.limits
    assert [len(plan.streams) for plan in plans] == [
        limits.streams_per_connection,
        1500 - limits.streams_per_connection,
    ]
    for plan in plans:
        asked = plan.url.partition("streams=")[2].split("/")
        for number, sent in enumerate(plan.sends, 1):
            told = msgspec.json.decode(sent)
            assert (told["method"], told["id"]) == ("SUBSCRIBE", number)
            assert len(told["params"]) <= limits.streams_per_request
            asked += told["params"]
        assert tuple(asked) == plan.streams


def test_a_mistyped_channel_is_told_with_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"no stream brings 'book_detla'; did you mean 'book_delta'\?"):
        SPOT.connections(["BTCUSDT"], ["book_detla"])
    with pytest.raises(LookupError, match="no stream brings 'funding_rate'"):
        SPOT.connections(["BTCUSDT"], ["funding_rate"])


def test_snapshots_are_as_deep_as_the_rule_says_and_known_to_cost() -> None:
    assert [(venue.snapshot_request("AB"), venue.book_rule("AB").known_depth) for venue in (SPOT, USDM, COINM)] == [
        (msgspec.convert({"url": url, "weight": weight}, type(SPOT.snapshot_request("AB"))), 1000)
        for url, weight in (
            ("https://api.binance.com/api/v3/depth?symbol=AB&limit=1000", 50),
            ("https://fapi.binance.com/fapi/v1/depth?symbol=AB&limit=1000", 20),
            ("https://dapi.binance.com/dapi/v1/depth?symbol=AB&limit=1000", 20),
        )
    ]
    assert (SPOT.book_rule("AB").chain, SPOT.book_rule("AB").join) == ("contiguous", "spot")
    assert (USDM.book_rule("AB").chain, USDM.book_rule("AB").join) == ("previous", "futures")


def test_knowing_venues_needs_no_compiler() -> None:
    said = "import sys, stages.venues; print('numba' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
