"""A recording of one market -> trades, quotes, book deltas and 1-minute bars as parquet files, through a pipeline.

Beside it what bounds it: reading the recording, decoding its messages, interpreting them. The rows of every kind that
the pipeline leaves are as many as interpreting gives.
"""

from __future__ import annotations

import gzip
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.harness import arguments, on_disk, race, ratio, row, run_topology, show
from pipeline import Input, TopologyBuilder
from stages.features.bars import Bars
from stages.feeds.replay import Replay
from stages.interpreting import Interpreter, Interpreting
from stages.messages import Messages
from stages.messages.captures import open_captures
from stages.schemas import Names, Records, Scales
from stages.sinks.parquet import ParquetSink
from stages.venues import venue_named

CAPTURE = Path(__file__).resolve().parents[2] / "shared/data/hftbacktest/spot/btcusdt_20240808.gz"
VENUE = "binance_spot"
KINDS = ("trade", "quote", "book_delta")
RUN = 4096
"""Messages taken together, as the feed does."""
RUNS = (1, 10, 100)
"""Messages taken together by a live feed, from one that follows every message to one that falls behind."""
SYMBOL = "BTCUSDT"


def generated(file: Path, messages: int) -> Path:
    """A recording of the same form, for where there is no real one: a walk of prices, and a book of forty levels."""
    start, update, trade = 1_723_161_256_000_000_000, 1000, 0
    envelope = '{"stream":"btcusdt@%s","data":%s}'
    asks = ",".join(f'["{61_000 + level}.10","0.5"]' for level in range(20))
    bids = ",".join(f'["{60_999 - level}.10","0.5"]' for level in range(20))
    with gzip.open(file, "wt", compresslevel=1) as lines:
        for number in range(messages):
            now = start + number * 8_000_000
            ms = now // 1_000_000
            price = f"{61_000 + number * 7919 % 13}.10"
            if number == 40:
                said = f'{{"lastUpdateId":{update},"bids":[{bids}],"asks":[{asks}]}}'
            elif number % 10 == 0:
                changed = ",".join(f'["{61_000 + (number + level) % 20}.10","0.{level + 1}"]' for level in range(12))
                said = envelope % (
                    "depth@100ms",
                    f'{{"e":"depthUpdate","E":{ms},"s":"{SYMBOL}","U":{update + 1},"u":{update + 12},'
                    f'"b":[],"a":[{changed}]}}',
                )
                update += 12
            elif number % 4 == 1:
                trade += 1
                said = envelope % (
                    "trade",
                    f'{{"e":"trade","E":{ms},"s":"{SYMBOL}","t":{trade},"p":"{price}","q":"0.006","T":{ms},"m":false}}',
                )
            else:
                said = envelope % (
                    "bookTicker",
                    f'{{"u":{update * 100 + number},"s":"{SYMBOL}","b":"60999.10","B":"0.5","a":"{price}","A":"0.5"}}',
                )
            lines.write(f"{now} {said}\n")
    return file


def read(file: Path) -> list[Messages]:
    return list(open_captures([file]).runs(most=RUN))


def decoded(runs: list[Messages]) -> None:
    """Rows as received, of every kind."""
    decoder, names = venue_named(VENUE).decoder(), Names()
    for messages in runs:
        records = Records(messages, Scales(), names)
        decoder.decode(messages, records)
        for kind in records.kinds():
            records.take(kind)


def interpreted(runs: list[Messages]) -> Counter[str]:
    """Rows by kind: checked, and of books that are trusted."""
    interpreter = Interpreter(venue_named(VENUE), Interpreting(records=KINDS))
    rows: Counter[str] = Counter()
    for messages in runs:
        for batch in interpreter.interpret(messages).batches:
            rows[batch.schema.metadata[b"record"].decode()] += batch.num_rows
    return rows


class Written:
    """Runs of the pipeline: what they took, and the rows that then lay on disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: Counter[str] = Counter()

    def __call__(self) -> None:
        builder = TopologyBuilder()
        builder.add("market", Replay(path=str(self.file), venue=VENUE, records=KINDS))
        for kind in KINDS:
            builder.add(kind, ParquetSink(shards=1), [Input("market", records=(kind,))])
        builder.add("minutes", Bars(every="1m"), [Input("market", records=("trade",))])
        builder.add("bar", ParquetSink(shards=1), ["minutes"])
        with on_disk() as output:
            run_topology(builder.build(), output=output)
            self.rows = Counter()
            for kind in (*KINDS, "bar"):
                for file in output.rglob(f"{kind}/*.parquet"):
                    self.rows[kind] += pq.ParquetFile(file).metadata.num_rows


def short_runs(whole: Messages, most: int) -> dict[int, list[float]]:
    """Microseconds of processor time to interpret runs of so many messages, in the midst of a session."""
    spent: dict[int, list[float]] = {}
    for size in RUNS:
        begin = len(whole) // 3
        runs = [whole.slice(at, at + size) for at in range(begin, len(whole), size)][: max(20, most // size)]
        for _ in range(3):
            interpreter = Interpreter(venue_named(VENUE), Interpreting(records=KINDS))
            interpreter.interpret(whole.slice(0, begin))
            began = time.process_time()
            for messages in runs:
                interpreter.interpret(messages)
            spent.setdefault(size, []).append((time.process_time() - began) / len(runs) * 1e6)
    return spent


def counted(run: Callable[[], Any], spent: list[float]) -> Callable[[], None]:
    """`run`, noting the processor time it took: on a busy machine the steadier measure of work."""

    def timed() -> None:
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)

    return timed


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    with on_disk() as folder:
        file = CAPTURE if CAPTURE.exists() else generated(folder / "generated.gz", 4_000 if options.quick else 40_000)
        return show(f"{file.name}: one recording to trades, quotes, books and bars on disk", measured(file, options))


def measured(file: Path, options: Any) -> list[dict[str, Any]]:
    runs = read(file)
    whole = Messages.concat(runs)
    seconds = int(whole.ts_recv[-1] - whole.ts_recv[0]) / 1e9
    written = Written(file)
    contenders = {
        "pipeline": written,
        "reading": lambda: read(file),
        "decoding": lambda: decoded(runs),
        "interpreting": lambda: interpreted(runs),
    }
    rounds = options.rounds or (1 if options.quick else 5)
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    wall = race({name: counted(run, cpu[name]) for name, run in contenders.items()}, rounds)
    cpu = {name: spent[-rounds:] for name, spent in cpu.items()}
    expected = interpreted(runs)
    assert {kind: written.rows[kind] for kind in KINDS} == {kind: expected[kind] for kind in KINDS}
    assert written.rows["bar"]
    rows, messages = written.rows.total(), len(whole)
    limit = [sum(each) for each in zip(cpu["reading"], cpu["interpreting"], strict=True)]
    return [
        row("pipeline, from start to published summary: rows", [rows / s / 1e3 for s in wall["pipeline"]], "k/s"),
        row("pipeline: messages", [messages / s / 1e3 for s in wall["pipeline"]], "k/s"),
        row("pipeline: of real time", [seconds / s for s in wall["pipeline"]], "x"),
        row("by processor time: rows", [rows / s / 1e3 for s in cpu["pipeline"]], "k/s"),
        row("by processor time: messages", [messages / s / 1e3 for s in cpu["pipeline"]], "k/s"),
        row("by processor time: of real time", [seconds / s for s in cpu["pipeline"]], "x"),
        *(
            row(f"{name} alone, by processor time: messages", [messages / s / 1e3 for s in cpu[name]], "k/s")
            for name in ("reading", "decoding", "interpreting")
        ),
        ratio("by processor time: pipeline over reading and interpreting", cpu["pipeline"], limit),
        ratio("by processor time: interpreting over decoding", cpu["interpreting"], cpu["decoding"]),
        *(
            row(f"a run of {size} messages interpreted, processor time", spent, "us")
            for size, spent in short_runs(whole, 300 if options.quick else 2000).items()
        ),
    ]


if __name__ == "__main__":
    main()
