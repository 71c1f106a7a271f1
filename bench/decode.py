"""Bytes of Binance's trade and depth messages -> Arrow batches with exact prices, over orjson and lists."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from bench.harness import arguments, race, ratio, row, show
from stages.messages import Messages
from stages.schemas import Names, Records, Scales
from stages.venues import venue_named
from stages.venues.binance.decoder import BinanceDecoder
from stages.venues.binance.group import Market

CAPTURE = Path(__file__).resolve().parents[2] / "shared/data/hftbacktest/usdm/btcusdt_20240808.gz"
RUN = 4096
"""Messages decoded at a time."""


def recorded(event: bytes) -> list[bytes]:
    """Every message of one kind in a real recording of USD-M futures."""
    with gzip.open(CAPTURE) as lines:
        return [line.partition(b" ")[2].rstrip() for line in lines if event in line]


def generated(event: bytes) -> list[bytes]:
    """Messages of the same form, for where there is no recording."""
    trade = b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":%d,'
    trade += b'"p":"61800.30","q":"0.006","X":"MARKET","m":false}}'
    levels = b",".join(b'["61%d.10","0.%d"]' % (number, number) for number in range(200, 234))
    depth = (
        b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256322,"T":1723161256321,"s":"BTCUSDT",'
    )
    depth += b'"U":%d,"u":5123107837557,"pu":5123107831937,"b":[' + levels + b'],"a":[' + levels + b"]}}"
    return [(trade if event == b'"trade"' else depth) % number for number in range(20_000)]


def by_orjson_trades(payloads: list[bytes]) -> int:
    """A dict for each message, a list for each column; prices as floats."""
    rows = 0
    for begin in range(0, len(payloads), RUN):
        times, symbols, ids, prices, sizes, sides = [], [], [], [], [], []
        for payload in payloads[begin : begin + RUN]:
            trade = orjson.loads(payload)["data"]
            times.append(trade["T"])
            symbols.append(trade["s"])
            ids.append(trade["t"])
            prices.append(float(trade["p"]))
            sizes.append(float(trade["q"]))
            sides.append(trade["m"])
        rows += pa.RecordBatch.from_arrays(
            [pa.array(column) for column in (times, symbols, ids, prices, sizes, sides)], list("tsipzm")
        ).num_rows
    return rows


def by_orjson_depth(payloads: list[bytes]) -> int:
    """The same with a row for each level."""
    rows = 0
    for begin in range(0, len(payloads), RUN):
        times, symbols, updates, prices, sizes, sides = [], [], [], [], [], []
        for payload in payloads[begin : begin + RUN]:
            depth = orjson.loads(payload)["data"]
            for side, levels in ((1, depth["b"]), (2, depth["a"])):
                for price, size in levels:
                    times.append(depth["T"])
                    symbols.append(depth["s"])
                    updates.append(depth["u"])
                    prices.append(float(price))
                    sizes.append(float(size))
                    sides.append(side)
        rows += pa.RecordBatch.from_arrays(
            [pa.array(column) for column in (times, symbols, updates, prices, sizes, sides)], list("tsupzm")
        ).num_rows
    return rows


class Ours:
    """The project's decoder, from messages one by one, or joined as a recording has them."""

    def __init__(self, kind: str, payloads: list[bytes], *, compiled: bool) -> None:
        self._kind = kind
        self._payloads = payloads
        self._stamps = list(range(len(payloads)))
        self._joined = self._run(0, len(payloads))
        self._names = Names()
        self._decoder = BinanceDecoder(venue_named("binance_usdm").suffix, Market("base"), compiled=compiled)

    def _run(self, begin: int, end: int) -> Messages:
        return Messages.of_payloads(self._payloads[begin:end], self._stamps[begin:end], first_seq=begin)

    def one_by_one(self) -> int:
        return sum(self._rows(self._run(begin, begin + RUN)) for begin in range(0, len(self._payloads), RUN))

    def joined(self) -> int:
        ends = range(RUN, len(self._payloads) + RUN, RUN)
        return sum(self._rows(self._joined.slice(end - RUN, min(end, len(self._payloads)))) for end in ends)

    def _rows(self, messages: Messages) -> int:
        records = Records(messages, Scales(), self._names)
        self._decoder.decode(messages, records)
        batch: Any = records.take(self._kind)
        return len(batch)


def main() -> Any:
    options = arguments(__doc__ or "")
    found = []
    for name, event, kind, theirs, wanted in (
        ("trades", b'"trade"', "trade", by_orjson_trades, ">= 1.8x, try 4x"),
        ("depth", b'"depthUpdate"', "book_delta", by_orjson_depth, ">= 1.7x, try 5x"),
    ):
        payloads = recorded(event) if CAPTURE.exists() else generated(event)
        if options.quick:
            payloads = payloads[:2000]
        scanning = Ours(kind, payloads, compiled=True)
        plain = Ours(kind, payloads, compiled=False)
        contenders = {
            "orjson": lambda theirs=theirs, payloads=payloads: theirs(payloads),
            "ours": scanning.one_by_one,
            "joined": scanning.joined,
            "structures": plain.one_by_one,
        }
        rows = {contender: run() for contender, run in contenders.items()}
        assert len(set(rows.values())) == 1, rows
        seconds = race(contenders, options.rounds or (3 if options.quick else 9), clock=time.process_time)
        found += [
            ratio(f"{name}: over orjson, lists and floats", seconds["ours"], seconds["orjson"], wanted),
            ratio(
                f"{name}: already joined, as recordings are, over the same",
                seconds["joined"],
                seconds["orjson"],
                wanted,
            ),
            ratio(f"{name}: the structures alone, over the same", seconds["structures"], seconds["orjson"]),
            row(f"{name}: messages", [len(payloads) / each / 1e3 for each in seconds["ours"]], "k/s"),
            row(f"{name}: messages, joined", [len(payloads) / each / 1e3 for each in seconds["joined"]], "k/s"),
            row(f"{name}: messages by orjson", [len(payloads) / each / 1e3 for each in seconds["orjson"]], "k/s"),
        ]
    where = "real" if CAPTURE.exists() else "generated"
    return show(f"Messages of Binance to Arrow batches, {RUN} at a time ({where})", found)


if __name__ == "__main__":
    main()
    sys.exit(0)
