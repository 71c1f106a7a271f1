"""`penstock record` and `penstock ingest` in processes of their own, killed and interrupted, beside a local venue."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from whole_runs import await_program, start_program

from pipeline import read_recording
from pipeline.storage.manifest import read_manifest
from stages.messages import Messages
from tests.patience import SECONDS
from tests.stages.live.server import LocalVenue, book, depth, local_venue, quote, trade

CONFIG = Path(__file__).parents[2] / "configs" / "record.yaml"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def recorder(server: LocalVenue, folder: Path) -> subprocess.Popen[str]:
    market = "containers.market"
    changed = (
        f"{market}.websocket_url={server.ws}",
        f"{market}.http_url={server.http}",
        f"{market}.symbols=[BTCUSDT]",
        f"{market}.record.roll_every=1d",  # a quarter of an hour may end while a test goes on
    )
    return start_program(
        folder, "record", CONFIG, *(word for change in changed for word in ("--set", change)), "--json"
    )


def in_the_log(folder: Path) -> int:
    return sum(len(Messages.from_batch(run.batch)) for run in read_recording(folder)) if folder.is_dir() else 0


async def until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    async with asyncio.timeout(SECONDS):
        while not is_so():
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0)


def ids(folder: Path) -> list[str]:
    files = [entry.file for entry in read_manifest(folder).committed.files.values() if entry.rows and entry.batch_id]
    tables = [pq.ParquetFile(folder / file).read() for file in sorted(map(str, files)) if file and "trade/" in file]
    return sorted(name for table in tables for name in table["trade_id"].to_pylist())


async def test_a_recorder_that_was_killed_goes_on_and_one_that_is_interrupted_publishes_all(tmp_path: Path) -> None:
    """R-1, T2: what was in the log when it was killed is in files once, after the next start."""
    folder = tmp_path / "recordings/spot"
    async with local_venue() as server:
        server.snapshot = lambda symbol: book(100)
        process = recorder(server, tmp_path)
        client = await server.client(1)
        for said in (trade(1), depth(99, 101), quote(7), trade(2)):
            await client.send(said)
        await until(lambda: in_the_log(folder) >= 6, process)  # opened, four messages, a snapshot
        process.send_signal(signal.SIGKILL)
        code, _, err = await asyncio.to_thread(await_program, process)
        assert code == -signal.SIGKILL, err
        assert not list(folder.rglob("*.parquet"))
        before = in_the_log(folder)
        process = recorder(server, tmp_path)
        client = await server.client(2)
        for said in (trade(2), trade(3), depth(102, 103), quote(8)):
            await client.send(said)
        await until(lambda: in_the_log(folder) >= before + 5, process)
        process.send_signal(signal.SIGINT)
        code, out, err = await asyncio.to_thread(await_program, process)
    assert code == 0, err
    [figures] = json.loads(out).values()
    assert figures["recorded"]["again"] == before
    assert ids(folder) == ["1", "2", "3"]
    code, out, err = await asyncio.to_thread(await_program, start_program(tmp_path, "verify", folder))
    assert code == 0 and out.startswith("ok: "), out + err


def test_captures_are_taken_in_once_however_often_it_is_asked(tmp_path: Path) -> None:
    files = [DATA / "cryptofeed" / name for name in ("BINANCE.ws.1.0", "BINANCE.http.0.0")]
    words = ("ingest", *files, "--output", "r", "--quiet", "--json")
    told = []
    for _ in range(2):
        code, out, err = await_program(start_program(tmp_path, *words))
        assert code == 0, err
        told.append(json.loads(out))
    assert told[0]["figures"]["messages"] == told[1]["skipped"] == 270
    assert told[1]["figures"]["messages"] == told[1]["figures"]["files"] == 0
    code, out, err = await_program(start_program(tmp_path, "inspect", "r"))
    assert code == 0 and "recorded files" in out and "book_delta" in out, out + err
    code, _, err = await_program(start_program(tmp_path, *words, "--set", "roll_every=1x", "--set", "rolls=3"))
    assert code == 2 and "roll_every: expected a duration" in err and "rolls=3" in err, err
    code, _, err = await_program(start_program(tmp_path, "record", CONFIG.with_name("bars.yaml")))
    assert code == 2 and "record: {folder: recordings/mine}" in err, err
    assert os.listdir(tmp_path) == ["r"]
