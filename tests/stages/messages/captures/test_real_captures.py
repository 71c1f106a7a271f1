"""Real captures of many venues: as many messages as were counted in them, each as it was written."""

from __future__ import annotations

import gzip
import re
from decimal import Decimal
from pathlib import Path

import pytest

from stages.messages import MessageKind, Messages
from stages.messages.captures import CaptureCounts, open_captures

HFTBACKTEST = {
    "cm/btcusd_perp_20240808.gz": 48_270,
    "cm/btcusd_perp_20240809.gz": 50_116,
    "hyperliquid/btcusd_20250126.gz": 55,
    "spot/btcusdt_20240808.gz": 41_249,
    "spot/btcusdt_20240809.gz": 58_325,
    "usdm/btcusdt_20240808.gz": 93_954,
}
CRYPTOFEED = {
    "BINANCE.0": 1,
    "BINANCE.http.0.0": 4,
    "BINANCE.ws.1.0": 265,
    "BINANCE_FUTURES.0": 1,
    "BINANCE_FUTURES.http.0.0": 4,
    "BINANCE_FUTURES.ws.1.0": 1_535,
    "BINANCE_US.0": 1,
    "BINANCE_US.http.0.0": 4,
    "BINANCE_US.ws.1.0": 480,
    "BITFINEX.0": 3,
    "BITFINEX.ws.11.0": 1_693,
    "BITMEX.0": 1,
    "BITMEX.ws.1.0": 2_120,
    "BITSTAMP.0": 1,
    "BITSTAMP.http.0.0": 10,
    "BITSTAMP.ws.1.0": 747,
    "BYBIT.0": 1,
    "BYBIT.ws.25.0": 3_342,
    "BYBIT.ws.26.0": 1_098,
    "COINBASE.0": 1,
    "COINBASE.ws.28.0": 9_946,
    "KRAKEN.0": 1,
    "KRAKEN.ws.48.0": 49,
    "KRAKEN.ws.49.0": 60,
    "KRAKEN.ws.50.0": 4_321,
    "POLONIEX.0": 1,
    "POLONIEX.ws.1.0": 302,
}
"""Messages received and answers, as counted when the recordings were gathered."""
SAID = re.compile(rb"(?:(\S+) (<->|<-|->) )?(\d+\.\d+)(?:: (.*))?")


def rows(runs: list[Messages]) -> list[tuple[int, int, int, str, str, bytes]]:
    """Messages one by one: time, ordinal, kind, source, URL and bytes."""
    found = []
    for run in runs:
        for at, payload in enumerate(run.payloads()):
            source, url = run.source[run.source_code[at]], run.url[run.url_code[at]]
            found.append((int(run.ts_recv[at]), int(run.ingest_seq[at]), int(run.kind[at]), source, url, payload))
    return found


@pytest.mark.parametrize("name", HFTBACKTEST)
def test_every_line_of_a_collector_is_a_message_at_its_time(recordings: Path, name: str) -> None:
    file = recordings / "hftbacktest" / name
    counts = CaptureCounts()

    found = rows(list(open_captures(file).runs(counts)))

    lines = gzip.decompress(file.read_bytes()).splitlines()
    assert len(found) == HFTBACKTEST[name] == len(lines) == counts.messages
    assert [b"%d %s" % (ts, payload) for ts, *_, payload in found] == lines
    assert [seq for _, seq, *_ in found] == list(range(len(found)))
    assert not counts.wrong and not counts.steps_back
    answers = [payload for _, _, kind, *_, payload in found if kind == MessageKind.RESPONSE]
    assert len(answers) == sum(line[20:].startswith(b'{"lastUpdateId') for line in lines)


@pytest.mark.parametrize("name", CRYPTOFEED)
def test_every_line_of_cryptofeed_is_a_message_at_exactly_its_time(recordings: Path, name: str) -> None:
    file = recordings / "cryptofeed" / name
    counts = CaptureCounts()

    found = rows(list(open_captures(file).runs(counts)))

    kinds = {
        None: MessageKind.RECEIVED,
        b"<->": MessageKind.OPENED,
        b"<-": MessageKind.SENT,
        b"->": MessageKind.RESPONSE,
    }
    expected, connected = [], b""
    for line in file.read_bytes().splitlines():
        if said := SAID.fullmatch(line):
            url, sign, seconds, payload = said.groups()
            connected = url if sign == b"<->" else connected
            expected.append((int(Decimal(seconds.decode()) * 10**9), kinds[sign], url or connected, payload or b""))
        else:
            assert not line or line.startswith(b"configuration: ")
    assert [(ts, kind, url.encode(), payload) for ts, _, kind, _, url, payload in found] == expected
    heard = (MessageKind.RECEIVED, MessageKind.RESPONSE)
    assert sum(counts.by_kind.get(kind, 0) for kind in heard) == CRYPTOFEED[name]
    assert not counts.wrong and not counts.steps_back
    assert bool(counts.configurations) == (b"configuration: " in file.read_bytes())


def test_files_on_either_side_of_midnight_are_one_recording(recordings: Path) -> None:
    capture = open_captures(recordings / "hftbacktest" / "spot")

    assert [source.name for source in capture.sources] == ["btcusdt"]
    assert [file.name for file in capture.files] == ["btcusdt_20240808.gz", "btcusdt_20240809.gz"]
    counts = CaptureCounts()
    times = [int(ts) for run in capture.runs(counts) for ts in run.ts_recv]
    assert counts.messages == 41_249 + 58_325
    assert times == sorted(times) and not counts.steps_back
    assert capture.span() == (times[0], times[-1]) == (1723161253937085768, 1723161904535092233)


def test_everything_a_session_wrote_is_merged_in_the_order_received(recordings: Path) -> None:
    capture = open_captures(recordings / "cryptofeed" / "BINANCE_FUTURES*")

    found = rows(list(capture.runs()))

    assert [source.name for source in capture.sources] == [
        "BINANCE_FUTURES",
        "BINANCE_FUTURES.http.0",
        "BINANCE_FUTURES.ws.1",
    ]
    assert [(kind, source) for _, _, kind, source, *_ in found[:3]] == [
        (MessageKind.RESPONSE, "BINANCE_FUTURES"),
        (MessageKind.OPENED, "BINANCE_FUTURES.ws.1"),
        (MessageKind.RECEIVED, "BINANCE_FUTURES.ws.1"),
    ]
    assert [ts for ts, *_ in found] == sorted(ts for ts, *_ in found)
    snapshots = [at for at, row in enumerate(found) if row[3] == "BINANCE_FUTURES.http.0"]
    assert len(snapshots) == 4 and snapshots[0] > 3, "books are fetched while the stream runs"
    assert found[snapshots[0]][4] == "https://fapi.binance.com/fapi/v1/depth?symbol=SUSHIUSDT&limit=1000"


@pytest.mark.parametrize("block_bytes", [997, 1 << 16])
@pytest.mark.parametrize("most", [1, 7, 65_536])
def test_how_runs_are_cut_changes_nothing(recordings: Path, block_bytes: int, most: int) -> None:
    capture = open_captures(recordings / "cryptofeed" / "KRAKEN*")

    runs = list(capture.runs(most=most, block_bytes=block_bytes))

    assert rows(runs) == rows(list(capture.runs()))
    assert all(0 < len(run) <= most for run in runs)


def test_a_folder_of_many_venues_and_years_is_one_capture(recordings: Path) -> None:
    capture = open_captures(recordings / "cryptofeed")
    counts = CaptureCounts()

    times = [int(ts) for run in capture.runs(counts) for ts in run.ts_recv]

    assert [file.name for file in capture.passed_over] == ["LICENSE"]
    assert sum(counts.by_kind[kind] for kind in (MessageKind.RECEIVED, MessageKind.RESPONSE)) == sum(
        CRYPTOFEED.values()
    )
    assert times == sorted(times)


def test_files_of_one_name_in_two_folders_are_two_sources(recordings: Path) -> None:
    capture = open_captures([recordings / "hftbacktest" / "spot", recordings / "hftbacktest" / "usdm"])

    assert [source.name for source in capture.sources] == ["spot/btcusdt", "usdm/btcusdt"]
    assert sum(len(run) for run in capture.runs()) == 41_249 + 58_325 + 93_954
