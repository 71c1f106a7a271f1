"""Replays that are to leave the same: what is run, in which ways, and what it leaves; as a program, some of the ways.

Called with a JSON object: `capture` (a file), `output`, and `ways`, of which each is a name, a market (`captured` or
`made_up`) and settings. Prints what each of them left, as one hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from whole_runs import tight

from pipeline import Pipeline, Run

FEED = {"type": "synthetic_venue", "symbols": ["BTCUSDT", "ETHUSDT"], "seconds": 8, "seed": 4, "depth": 3}
KINDS = ("trade", "quote", "book_delta", "book_snapshot")


def config(mode: str | None = None, every: str = "1s", wide: str = "3s", **feed: Any) -> dict[str, Any]:
    """Trades to bars and those to wider ones, quotes to bars; every kind of record and the bars to files."""
    containers: dict[str, dict[str, Any]] = {
        "market": {**(feed if "type" in feed else {**FEED, **feed})},
        "seconds": {"type": "bars", "inputs": ["market"], "every": every},
        "threes": {"type": "bars", "inputs": ["seconds"], "every": wide},
        "middles": {"type": "bars", "inputs": ["market"], "every": every, "price": "mid"},
    }
    if mode is not None:
        for container in containers.values():
            container["data_flow"] = tight(mode)
    for name in ("seconds", "threes", "middles"):
        containers[f"save_{name}"] = {"type": "parquet", "inputs": [name], "shards": 1}
    for kind in KINDS:
        containers[f"save_{kind}"] = {"type": "parquet", "inputs": [{"from": "market", "records": kind}], "shards": 1}
    return {"name": "replayed", "containers": containers}


def left(folder: Path) -> dict[str, Any]:
    """The bytes of every file, and what the summary says that came out, whatever the configuration."""
    summary = json.loads((folder / "summary.json").read_text())
    files = {path.parent.name: path.read_bytes() for path in sorted(folder.glob("save_*/part-00.parquet"))}
    assert len(files) == 7, "each of the sinks has written"
    return {**files, "metrics": summary["aggregate_metrics"], "ledger": summary["ledger"]}


def hash_of(found: dict[str, Any]) -> str:
    """Of all that was left."""
    made = hashlib.sha256()
    for name, part in sorted(found.items()):
        said = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        made.update(b"%s %d %s" % (name.encode(), len(said), said))
    return made.hexdigest()


def market_of(name: str, capture: str) -> dict[str, Any]:
    """A second of a real capture, or of a made-up venue."""
    told = {"depth": 3, "every": "200ms", "wide": "600ms"}
    if name == "captured":
        return {"type": "replay", "path": capture, **told}
    return {"seconds": 1, **told}


async def run_of(pipeline: Pipeline, *, paused: bool = False) -> dict[str, Any]:
    async with pipeline.start() as run:
        if paused:
            await _in_fits_and_starts(run)
        await run.finished()
    assert run.folder is not None
    return await asyncio.to_thread(left, run.folder / "run")


async def _in_fits_and_starts(run: Run) -> None:
    """Steps by rows while time stands, and pauses while it goes, until all has come out but what the last go brings."""
    await run.step(1)
    for rows in (5, 20, 3):
        run.resume()
        await asyncio.sleep(0)
        run.pause()
        await run.step(rows)
    run.resume()


async def main() -> None:
    told = json.loads(sys.argv[1])

    async def one(name: str, market: str, mode: str, batch_rows: int, speed: Any) -> tuple[str, str]:
        made = config(mode, **market_of(market, told["capture"]), batch_rows=batch_rows, clock={"speed": speed})
        pipeline = Pipeline.from_yaml(made, output=Path(told["output"]) / name)
        return name, hash_of(await run_of(pipeline, paused=speed == 1))

    print(json.dumps(dict(await asyncio.gather(*(one(*way) for way in told["ways"])))))


if __name__ == "__main__":
    asyncio.run(main())
