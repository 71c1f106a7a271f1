"""Runs behind a recorded feed that are killed and gone on with: all that was recorded comes, and comes once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline import read_recording
from pipeline.storage.manifest import read_manifest
from stages.messages import Messages
from tests.scenarios.whole_runs import await_program, start_program
from tests.stages.live.server import LocalVenue, book, depth, local_venue, quote, trade


def config(server: LocalVenue) -> dict[str, Any]:
    market = {
        "type": "live", "venue": "binance_spot", "symbols": ["BTCUSDT"], "websocket_url": server.ws,
        "http_url": server.http, "record": {"folder": "recording"},
    }  # fmt: skip
    kinds = ("trade", "quote", "book_delta")
    sinks = {
        f"save_{kind}": {"type": "parquet", "inputs": [{"from": "market", "records": kind}], "shards": 1}
        for kind in kinds
    }
    return {"name": "followed", "containers": {"market": market, **sinks}}


async def until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    async with asyncio.timeout(600):
        while not is_so():
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.005)


def received(folder: Path) -> list[bytes]:
    """What is in the log."""
    if not folder.is_dir():
        return []
    return [text for run in read_recording(folder) for text in Messages.from_batch(run.batch).payloads()]


def rows_committed(output: Path) -> int:
    folders = [path for path in output.glob("*/*") if path.name != "latest"]
    return sum(entry.rows or 0 for path in folders for entry in read_manifest(path).committed.checkpoints.values())


async def test_what_was_recorded_behind_the_last_checkpoint_is_given_when_the_run_goes_on(tmp_path: Path) -> None:
    """T2: every row that was acknowledged is in the results once, in order, and so is what follows."""
    async with local_venue() as server:
        server.snapshot = lambda symbol: book(100)
        (tmp_path / "live.json").write_text(json.dumps(config(server)))
        words = ("run", "live.json", "--output", "results", "--quiet", "--checkpoint")
        process = start_program(tmp_path, *words, "300ms")
        await until(lambda: len(server.clients) == 1, process)
        client = server.clients[0]
        said = [trade(1), depth(99, 101), quote(7), trade(2)]
        for text in said:
            await client.send(text)
        await until(lambda: rows_committed(tmp_path / "results") >= 4, process)
        more = [trade(3), quote(8), depth(102, 103), trade(4), trade(5)]
        for text in more:
            await client.send(text)
        await until(lambda: {text.encode() for text in more} <= set(received(tmp_path / "recording")), process)
        process.send_signal(signal.SIGKILL)
        assert (await asyncio.to_thread(await_program, process))[0] == -signal.SIGKILL
        process = start_program(tmp_path, *words, "1h", "--resume")
        await until(lambda: len(server.clients) == 2, process)
        client = server.clients[1]
        last = [trade(5), trade(6), depth(104, 105), quote(9)]
        for text in last:
            await client.send(text)
        await until(lambda: {text.encode() for text in last} <= set(received(tmp_path / "recording")), process)
        process.send_signal(signal.SIGINT)
        code, _, err = await asyncio.to_thread(await_program, process)
        assert code == 130, err
    (told,) = (path for path in (tmp_path / "results").rglob("run.json") if "latest" not in path.parts)
    assert json.loads(told.read_text())["checkpoints"]["resumed_from_rows"] >= 4
    found = {
        path.parent.name: pq.read_table(path)
        for path in (tmp_path / "results").rglob("save_*/part-00.parquet")
        if "latest" not in path.parts
    }
    assert found["save_trade"]["trade_id"].to_pylist() == ["1", "2", "3", "4", "5", "6"]
    assert found["save_quote"]["sequence"].to_pylist() == [7, 8, 9]
    assert sorted(set(found["save_book_delta"]["sequence"].to_pylist())) == [101, 103, 105]
    numbers = found["save_book_delta"]["ingest_seq"].to_pylist()
    assert numbers == sorted(numbers)
